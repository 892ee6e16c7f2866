"""The tutorial and the how-to pages: commands are run as printed, but for what has no place in a test.

The trips are synthetic instead of fetched, years are short, and servers and workers are those of the tests.
"""

from __future__ import annotations

import datetime as dt
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from support.cli import ROOT
from support.loaded import ledger
from support.pool_workers import DEPLOYMENT
from support.prefect_server import ask, clean_environment

if TYPE_CHECKING:
    from support.bigquery_fake import BigQueryFake
    from support.deployed import Deployed
    from support.gcs import Bucket, ServiceAccount
    from support.pool_workers import PoolWorker
    from support.postgres import Database
    from support.receiver import Receiver

PAGES = ROOT / "docs" / "how-to"
FIRST_LOAD = "../tutorial/first-load.md"
HERE = "--source synthetic --runner direct"
SHORTER = {
    "--since 2009-01 --source tlc": f"--since 2009-01 --until 2009-03 {HERE}",
    "--until 2009-12 --source tlc": f"--until 2009-02 {HERE}",
    "--months 1 2 3 --year 2021": f"--months 1 2 {HERE}",
    "--source tlc --runner direct": HERE,
    "--source synthetic --data-dir demo": f"{HERE} --data-dir demo",
}


def blocks(page: str, kind: str) -> list[str]:
    text = (PAGES / page).read_text()
    return re.findall(rf"^```{kind}\b[^\n]*\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


class Place:
    """A directory in which `.venv/bin/` has the programs that the pages name, and its environment."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        self.environment = clean_environment(TAXI_SYNTHETIC_ROWS="300", **environment)
        programs = directory / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, program in {"python": "", "taxi-etl": "-m taxi_etl", "prefect": "-m prefect"}.items():
            (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} {program} "$@"\n')
            (programs / name).chmod(0o755)

    def run(self, *commands: str, **replaced: str) -> str:
        """What the blocks print, run one after the other in one shell."""
        script = "\n".join(commands)
        for printed, ours in {**SHORTER, **replaced}.items():
            script = script.replace(printed, ours)
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
        return done.stdout


def test_every_page_has_a_test() -> None:
    source = Path(__file__).read_text()
    assert [page.name for page in PAGES.glob("*.md") if f'"{page.name}"' not in source] == []


def test_the_first_load(tmp_path: Path) -> None:
    demo, status, ask, again, wrong, real, clean = blocks(FIRST_LOAD, "sh")
    assert (demo, clean) == ("make demo\n", "make clean\n")
    assert "--year 2021" in real
    place = Place(tmp_path)
    place.run(again)  # what `make demo` does
    assert "3 months: duckdb 3 loaded" in place.run(status)
    assert "pickup_zone" in place.run(ask)
    assert place.run(again).count("unchanged") == 3
    place.run(f"{wrong.strip()} || test $? = 2")


def test_postgres(tmp_path: Path, postgres: Database) -> None:
    create, ask, share = blocks("postgres.md", "sql")
    loader = f"{postgres.parameters['dbname']}_how_to"
    try:
        postgres.execute(*create.replace("taxi_loader", loader).split(";\n")[:-1])
        url = postgres.other(user=loader, password="secret").url
        (commands,) = blocks("postgres.md", "sh")
        printed = "postgresql://taxi_loader:secret@localhost:5432/ny_taxi"
        shown = Place(tmp_path).run(commands, **{printed: url})
        assert "2 months: postgres 2 loaded" in shown
        assert [count for _, count in postgres.rows(ask)] == [300, 300]
        postgres.execute(share)
    finally:
        postgres.execute(f"DROP OWNED BY {loader} CASCADE", f"DROP ROLE {loader}")


def test_backfill(tmp_path: Path) -> None:
    shown = Place(tmp_path).run(*blocks("backfill.md", "sh"))
    assert "3 months: duckdb 3 loaded" in shown


def test_the_months_of_the_cron_job(tmp_path: Path) -> None:
    (line,) = blocks("monthly.md", "cron")
    when, _, command = line.partition("  cd /srv/taxi-etl && ")
    assert len(when.split()) == 5
    place = Place(tmp_path)
    place.run(command)
    assert "3 months: duckdb 3 loaded" in place.run(".venv/bin/taxi-etl status")


@pytest.mark.xdist_group("deployments")
def test_every_month_with_prefect(
    tmp_path: Path, deployed: Deployed, prefect_api_url: str, receiver: Receiver
) -> None:
    server, work, run, alert = blocks("monthly.md", "sh")
    assert (server, work) == ("make server\n", "make deploy\nmake worker\n")  # what `deployed` runs
    hook = CustomWebhookNotificationBlock(
        name="how-to", url=f"{receiver.url}/how-to", json_data={"body": "{{body}}"}
    )
    hook.save("how-to", overwrite=True)
    place = Place(tmp_path, PREFECT_HOME=str(tmp_path / "prefect"), TAXI_DATA_DIR=str(deployed.data_dir))
    shown = place.run(
        run,
        ".venv/bin/taxi-etl status --color yellow",
        alert,
        **{
            "http://127.0.0.1:4200/api": prefect_api_url,
            "--param latest=1": "--param latest=1 --param source=synthetic --watch",
            "slack-webhook/taxi": "custom-webhook/how-to",
        },
    )
    newest = dt.datetime.now(dt.UTC).replace(day=1) - dt.timedelta(days=1)  # the last whole month
    assert re.search(rf"{newest:%Y-%m} │ +1,000", shown), shown[-1500:]
    assert len(receiver.at("/how-to")) == 1


@pytest.mark.xdist_group("workers of a pool")
def test_several_machines(
    tmp_path: Path, pool_workers: list[PoolWorker], postgres: Database, prefect_api_url: str
) -> None:
    server, work, load, limit = blocks("several-machines.md", "sh")
    assert server == "make server\n"
    *settings, deploy, worker = work.splitlines()
    assert (deploy, worker) == ("make deploy", "make worker")  # what `pool_workers` does
    place = Place(tmp_path, PREFECT_HOME=str(tmp_path / "prefect"), TAXI_MONTH_DEPLOYMENT=DEPLOYMENT)
    printed = "postgresql://taxi_loader:secret@warehouse:5432/ny_taxi"
    try:
        place.run(
            *settings,
            load,
            limit,
            ".venv/bin/prefect gcl inspect taxi-postgres",
            **{
                "http://server:4200/api": prefect_api_url,
                printed: postgres.url,
                "--months 1-12": "--months 1 --source synthetic",
            },
        )
    finally:
        ask("DELETE", f"{prefect_api_url}/v2/concurrency_limits/taxi-postgres")
    assert [(row[0].month, row[1]) for row in ledger(postgres)] == [(1, 500)]


def test_google(
    tmp_path: Path,
    bucket: Bucket,
    bigquery_fake: BigQueryFake,
    service_account: ServiceAccount,
    server_environment: dict[str, str],
) -> None:
    bigquery_fake.loader.storage_url = bucket.emulator.url
    place = Place(
        tmp_path,
        PREFECT_API_URL=server_environment["PREFECT_API_URL"],
        STORAGE_EMULATOR_HOST=bucket.front.url,
        BIGQUERY_EMULATOR_HOST=bigquery_fake.rest_url,
        BIGQUERY_STORAGE_EMULATOR_HOST=bigquery_fake.grpc_address,
    )
    settings, load, directly = blocks("google.md", "sh")
    load = load.replace(
        "gcs-to-bq --color yellow --months 1 2 3 --year 2021", "gcs-to-bq --color yellow --months 1 2"
    )
    shown = place.run(
        settings,
        load,
        directly,
        ".venv/bin/taxi-etl status --color green --to bigquery",
        **{
            "my-taxi-bucket": bucket.name,
            "my-project": bigquery_fake.project,
            "~/keys/taxi.json": str(service_account.key_file),
            "--months 1 --year 2021": f"--months 1 {HERE}",
        },
    )
    assert re.search(r"2 months: gcs 2 loaded.*bigquery 2 loaded", shown), shown[-1500:]
    assert "1 month: bigquery 1 loaded" in shown


def copied(directory: Path) -> Place:
    """A checkout, as far as commands need it."""
    for name in ("flows", "transforms", "taxi_etl"):
        shutil.copytree(
            ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"), symlinks=False
        )
    return Place(directory)


def follow(page: str, directory: Path) -> None:
    """Write the files that a page shows, and make the changes that it shows."""
    text = (PAGES / page).read_text()
    for name, content in re.findall(r'^```python title="(.+?)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(content)
    for name, content in re.findall(r'^```diff title="(.+?)"\n(.*?)^```$', text, re.MULTILINE | re.DOTALL):
        changed = (directory / name).read_text()
        for old, new in re.findall(r"^-(.*\n)((?:\+.*\n)+)", content, re.MULTILINE):
            assert changed.count(old) == 1, old
            changed = changed.replace(old, re.sub(r"^\+", "", new, flags=re.MULTILINE))
        (directory / name).write_text(changed)


def test_a_new_dataset(tmp_path: Path) -> None:
    place = copied(tmp_path)
    follow("new-dataset.md", tmp_path)
    load, after = blocks("new-dataset.md", "sh")
    place.run(load, **{"--color shuttle": "--runner direct --color shuttle"})
    assert "1 month: duckdb 1 loaded" in place.run(".venv/bin/taxi-etl status --color shuttle")
    assert after.split() == ["make", "reference", "completions"]


def test_a_new_destination(tmp_path: Path) -> None:
    place = copied(tmp_path)
    follow("new-destination.md", tmp_path)
    (commands,) = blocks("new-destination.md", "sh")
    shown = place.run(commands, **{"--source synthetic": HERE})
    assert shown.index("published") < shown.index("unchanged") < shown.index("1 month: folder 1 loaded")
