"""Alerts: one message for a failed run, through a real notification block, to a real receiver."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.blocks.system import Secret
from prefect.client.schemas.objects import FlowRun
from prefect.states import Failed
from support.deployed import WEBHOOK
from support.trips import warehouse_rows

from flows.alerts import AlertNotSent, main, message, send
from flows.outcome import MonthOutcome, MonthsFailed, RunSummary
from flows.parent import etl_parent_flow
from flows.settings import _read_settings
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.deployed import Deployed

SECRET = "a-token-that-nobody-may-read"


class Receiver:
    """Keeps what is posted to it, by path; answers with `status`."""

    def __init__(self) -> None:
        self.status = 200
        self.received: list[tuple[str, dict[str, Any]]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.received.append((self.path, json.loads(body)))
                self.send_response(receiver.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def at(self, path: str) -> list[dict[str, Any]]:
        return [body for where, body in self.received if where == path]

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def blocks(prefect_api_url: str, receiver: Receiver) -> None:
    """Two blocks at the receiver: one for the hook, one for the automation."""
    for name, path in ((WEBHOOK.partition("/")[2], "hook"), ("taxi-automation", "automation")):
        CustomWebhookNotificationBlock(
            name=name,
            url=f"{receiver.url}/{path}?token={SECRET}",
            json_data={"subject": "{{subject}}", "body": "{{body}}"},
        ).save(name, overwrite=True)


def test_a_failed_month_is_named_alerted_once_and_does_not_stop_the_others(
    deployed: Deployed, receiver: Receiver, blocks: None
) -> None:
    """The hook in the run and the automation on the server, one message each, for the same run."""
    made = deployed.make("automations", "ALERT_BLOCK=custom-webhook/taxi-automation")
    assert made.returncode == 0, made.stdout + made.stderr
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
    assert [month["state_type"] for month in deployed.months_of(run["id"])] == [
        "COMPLETED",
        "FAILED",
        "COMPLETED",
    ]
    rows = warehouse_rows(
        deployed.data_dir / "warehouse.duckdb", "SELECT DISTINCT file_month FROM fhvhv_taxi_trips"
    )
    assert {row[0].month for row in rows} == {1, 3}

    def said() -> bool:
        logs = deployed.find("logs", logs={"flow_run_id": {"any_": [run["id"]]}})
        return "Hook 'alert_on_failure' finished running successfully" in {log["message"] for log in logs}

    deployed.wait_for(said)
    deployed.wait_for(lambda: receiver.at(f"/automation?token={SECRET}"))
    (alert,) = receiver.at(f"/hook?token={SECRET}")
    assert alert["subject"] == "etl-parent fhvhv-2020 failed"
    first, second, page = alert["body"].splitlines()
    assert first == "1 of 3 months failed: fhvhv 2020-02; the others are published"
    assert second.startswith("fhvhv 2020-02: ")
    assert page == f"{deployed.ui}/runs/flow-run/{run['id']}"
    (by_server,) = receiver.at(f"/automation?token={SECRET}")
    assert by_server["subject"] == "etl-parent fhvhv-2020: Failed"
    assert "fhvhv 2020-02" in by_server["body"]
    assert run["id"] in by_server["body"]


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
    state = Failed(data=MonthsFailed(RunSummary("yellow", outcomes, 1.0)))
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
