"""Alerts: one message for a failed run, through a real notification block, to a real receiver."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.settings.models.flows import FlowsSettings
from prefect.states import Crashed, Failed
from support.deployed import ETL, WEBHOOK
from support.receiver import SECRET, Receiver
from support.trips import warehouse_rows

from flows.alerts import AlertNotSent, alert_on_crash, main, message, send
from flows.automations import main as make_automations
from flows.errors import SourceNotFound
from flows.month import MonthOutcome, MonthsFailed, RunSummary
from flows.parent import etl_parent_flow
from flows.settings import _read_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.deployed import Deployed

pytestmark = pytest.mark.xdist_group("deployments")

SOON = "soon"
"""The automation that sees after ten seconds what `taxi-vanished-runs` sees after ten minutes."""


@pytest.fixture(scope="module")
def blocks(prefect_api_url: str, receiver: Receiver) -> None:
    """Two blocks at the receiver: one for the hook, one for the automation."""
    for name, path in ((WEBHOOK.partition("/")[2], "hook"), ("taxi-automation", "automation")):
        CustomWebhookNotificationBlock(
            name=name,
            url=f"{receiver.url}/{path}?token={SECRET}",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        ).save(name, overwrite=True)


@pytest.fixture(scope="module")
def automations(deployed: Deployed, blocks: None) -> dict[str, dict[str, Any]]:
    """What `make automations` gives the server, by name."""
    process = deployed.make("automations", "ALERT_BLOCK=custom-webhook/taxi-automation")
    assert process.returncode == 0, process.stdout + process.stderr
    return {automation["name"]: automation for automation in deployed.find("automations")}


@pytest.fixture(scope="module")
def vanished(deployed: Deployed, automations: dict[str, dict[str, Any]]) -> Iterator[str]:
    """A run that sent one heartbeat and no more; ten seconds, the minimum, stand for ten minutes.

    The first test here asks for it, so that the seconds pass while the others wait for their own runs.
    """
    flow = deployed.deployment(ETL)["flow_id"]
    definition: Any = {"flow_id": flow, "name": "yellow-vanished", "state": {"type": "RUNNING"}}
    run = deployed.ask("POST", "/flow_runs/", definition).raise_for_status().json()["id"]
    wanted = automations["taxi-vanished-runs"]
    assert wanted["trigger"]["within"] > 3 * (FlowsSettings().heartbeat_frequency or 0)
    for_it = {"within": 10, "match": {"prefect.resource.id": f"prefect.flow-run.{run}"}}
    soon = {"name": SOON, "actions": wanted["actions"], "trigger": {**wanted["trigger"], **for_it}}
    del soon["trigger"]["id"]
    added = deployed.ask("POST", "/automations/", soon).raise_for_status().json()
    alive = {
        "id": str(uuid4()),
        "event": "prefect.flow-run.heartbeat",
        "occurred": dt.datetime.now(dt.UTC).isoformat(),
        "resource": {"prefect.resource.id": f"prefect.flow-run.{run}"},
        "related": [
            {
                "prefect.resource.id": f"prefect.flow.{flow}",
                "prefect.resource.role": "flow",
                "prefect.resource.name": "etl-parent",
            }
        ],
    }
    deployed.ask("POST", "/events", [alive]).raise_for_status()
    yield run
    deployed.ask("DELETE", f"/automations/{added['id']}").raise_for_status()


def test_a_failed_month_is_named_alerted_once_and_does_not_stop_the_others(
    deployed: Deployed, receiver: Receiver, vanished: str
) -> None:
    """The hook in the run and the automation on the server, one message each, for the same run."""
    source = deployed.data_dir.parent / "source"
    source.mkdir()
    for month in (1, 3):
        content = (
            "hvfhs_license_num,dispatching_base_num,pickup_datetime,dropoff_datetime,PULocationID,DOLocationID,"
            f"SR_Flag\nHV0003,B02867,2020-{month:02}-01 00:05:07,2020-{month:02}-01 00:15:07,245,251,\n"
        )
        (source / f"2020-{month:02}.csv").write_text(content)
    template = f"{source}/{{year}}-{{month:02}}.csv"
    run = deployed.ended(deployed.start(color="fhvhv", year=2020, months=[1, 2, 3], source=template))
    assert run["state_type"] == "FAILED"
    assert "fhvhv 2020-02" in run["state"]["message"]
    assert [month["state_type"] for month in deployed.months_of(run["id"], 3)] == [
        "COMPLETED",
        "FAILED",
        "COMPLETED",
    ]
    rows = warehouse_rows(
        deployed.data_dir / "warehouse.duckdb", "SELECT DISTINCT file_month FROM fhvhv_taxi_trips"
    )
    assert {row[0].month for row in rows} == {1, 3}

    def hook_has_finished() -> bool:
        logs = deployed.find("logs", logs={"flow_run_id": {"any_": [run["id"]]}})
        return "Hook 'alert_on_failure' finished running successfully" in {log["message"] for log in logs}

    deployed.wait_for(hook_has_finished)
    deployed.wait_for(lambda: receiver.of(run["id"], "automation"))
    (alert,) = receiver.of(run["id"], "hook")
    assert alert["subject"] == "etl-parent fhvhv-2020 failed"
    first, second, page = alert["body"].splitlines()
    assert first == "1 of 3 months failed: fhvhv 2020-02; the others are published"
    assert second.startswith("fhvhv 2020-02: ")
    assert page == f"{deployed.ui}/runs/flow-run/{run['id']}"
    by_server, *_ = receiver.of(run["id"], "automation")  # a server's automation acts at least once
    assert by_server["subject"] == "etl-parent fhvhv-2020: Failed"
    assert "fhvhv 2020-02" in by_server["body"]


def test_where_no_month_is_published_none_is_said_to_be() -> None:
    months = [TripMonth("yellow", 2021, number) for number in (1, 2)]
    failed = [MonthOutcome.of(month, SourceNotFound("no such file")) for month in months]
    for outcomes, others in ((failed, False), ([failed[0], MonthOutcome(months[1])], True)):
        summary = RunSummary("yellow", tuple(outcomes))
        _, body = message(
            etl_parent_flow, FlowRun(flow_id=uuid4(), name="a run"), Failed(data=MonthsFailed(summary))
        )
        assert body.splitlines()[0].startswith(f"{len(summary.failed)} of 2 months failed: yellow 2021-01")
        assert ("the others are published" in body) is others


def test_a_run_that_crashes_is_told_by_its_worker_and_by_the_server(
    deployed: Deployed,
    receiver: Receiver,
    automations: Any,  # noqa: ANN401
) -> None:
    """Its process ends before the flow begins: it has no parameter of this name, which the server takes."""
    run = deployed.ended(deployed.start(colour="red"))
    assert (run["state_type"], run["state"]["name"]) == ("CRASHED", "Crashed")
    deployed.wait_for(lambda: receiver.of(run["id"], "hook") and receiver.of(run["id"], "automation"))
    (alert,), (by_server, *_) = (receiver.of(run["id"], path) for path in ("hook", "automation"))
    assert alert["subject"] == f"etl-parent {run['name']} crashed"
    assert alert["body"].splitlines()[0] == f"etl-parent {run['name']}: {run['state']['message']}"
    assert "exited with status code: 1" in alert["body"]
    assert by_server["subject"] == f"etl-parent {run['name']}: Crashed"


def test_a_run_whose_machine_vanished_has_crashed_and_is_told(
    deployed: Deployed, receiver: Receiver, vanished: str
) -> None:
    ended = deployed.ended(vanished)
    assert (ended["state_type"], ended["state"]["message"]) == (
        "CRASHED",
        "its machine has vanished; no heartbeat for ten minutes",
    )
    deployed.wait_for(lambda: receiver.of(vanished, "automation"))
    told, *_ = receiver.of(vanished, "automation")  # at least once
    assert told["subject"] == "etl-parent yellow-vanished: Crashed"
    assert "no heartbeat for ten minutes" in told["body"]


def test_automations_are_replaced_and_not_doubled(
    deployed: Deployed, automations: dict[str, dict[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert make_automations(["custom-webhook/taxi-automation"]) == 0
    on_server = [
        (automation["name"], automation["id"])
        for automation in deployed.find("automations")
        if automation["name"] != SOON
    ]
    assert sorted(on_server) == sorted((name, automation["id"]) for name, automation in automations.items())
    assert make_automations(["custom-webhook/nobody"]) == 2
    assert make_automations(["nonsense"]) == 2
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert make_automations([]) == 2
    out, err = capsys.readouterr()
    assert {line.partition(":")[0] for line in out.splitlines()} == {*automations}
    first, second, third = err.splitlines()
    assert "no block custom-webhook/nobody on this Prefect server" in first
    assert "TYPE/NAME" in second
    assert "taxi-etl server" in third


def test_who_ends_a_run_at_a_terminal_gets_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[object] = []
    monkeypatch.setattr("flows.alerts.alert_on_failure", lambda *run: sent.append(run))
    flow_run = FlowRun(name="yellow-2019", flow_id=uuid4())
    alert_on_crash(etl_parent_flow, flow_run, Crashed(message="interrupted"))
    assert sent == []
    deployed_run = flow_run.model_copy(update={"deployment_id": uuid4()})
    alert_on_crash(etl_parent_flow, deployed_run, Crashed(message="killed"))
    assert len(sent) == 1


def test_an_alert_that_cannot_be_sent_is_a_line_without_its_address(
    receiver: Receiver, blocks: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python flows/alerts.py`, which sends a test message; the hook says the same in the log of the run."""
    monkeypatch.setenv("TAXI_ALERT_BLOCK", "custom-webhook/taxi-automation")
    _read_settings.cache_clear()
    receiver.status = 500
    try:
        assert main() == 1
        receiver.status = 200
        assert main() == 0
    finally:
        receiver.status = 200
        _read_settings.cache_clear()
    out, err = capsys.readouterr()
    assert "custom-webhook/taxi-automation: the alert could not be sent (HTTPStatusError 500)" in err
    assert out == "sent through custom-webhook/taxi-automation\n"
    assert SECRET not in out + err
    assert len(err.splitlines()) == 1


def test_a_message_names_the_run_and_stays_short() -> None:
    months = [TripMonth("yellow", 2019, month) for month in range(1, 13)] * 2
    outcomes = tuple(MonthOutcome(month, error=f"{month.label}: gone") for month in months)
    state = Failed(data=MonthsFailed(RunSummary("yellow", outcomes)))
    subject, body = message(etl_parent_flow, FlowRun(name="yellow-2019", flow_id=uuid4()), state)
    lines = body.splitlines()
    assert subject == "etl-parent yellow-2019 failed"
    assert lines[0].startswith("24 of 24 months failed: yellow 2019-01, ")
    assert lines[1] == "yellow 2019-01: gone"
    assert "... and 5 more" in lines


def test_a_block_that_is_not_there_is_named(prefect_api_url: str) -> None:
    with pytest.raises(AlertNotSent, match="has no such block"):
        send("custom-webhook/not-there", "subject", "body")
    with pytest.raises(AlertNotSent, match="has no such block"):
        send("no-such-type/taxi", "subject", "body")
    Secret(value="x").save("taxi-no-notification", overwrite=True)
    with pytest.raises(AlertNotSent, match="no notification block"):
        send("secret/taxi-no-notification", "subject", "body")
