"""The image, built: the main job, and the services of compose.yaml beside each other; `make image`."""

from __future__ import annotations

import json
import re
import shutil

import duckdb
import pytest
from support.image import COMPOSE, PASSWORD, Containers, called, service_environment
from support.postgres_versions import NAMED, USERS, installed

pytestmark = pytest.mark.xdist_group("the image")

ROWS = {"TAXI_SYNTHETIC_ROWS": "1000"}
MONTHS = ("--color", "yellow", "--months", "1", "2", "3", "--source", "synthetic")


def test_it_says_what_it_is_without_a_command(containers: Containers) -> None:
    code, output = containers.run(*containers.config["Cmd"], data="help")
    assert (code, "taxi-etl load --color yellow" in output) == (0, True), output
    code, output = containers.run("--version", data="help")
    assert (code, output) == (0, f"taxi-etl {COMPOSE['x-program']['image'].partition(':')[2]}\n")


def test_it_has_the_program_and_nothing_of_the_build(containers: Containers) -> None:
    """No source tree, no uv and no tests; modules are compiled, and the user can change none of them."""
    look = """
import importlib.util as u, json, os, pathlib, shutil, sys
site = pathlib.Path(u.find_spec("flows").origin).parents[1]
print(json.dumps({
    "app": os.listdir("/app"), "home": os.listdir("/data"), "in": os.getcwd(), "uid": os.getuid(),
    "uv": shutil.which("uv"), "editable": site.name != "site-packages",
    "there": [name for name in ("prefect_dask", "pyiceberg", "pytest") if u.find_spec(name)],
    "compiled": bool(list(site.glob("flows/__pycache__/*.pyc"))), "writable": os.access(site, os.W_OK),
}))"""
    code, output = containers.run("python", "-c", look, data="empty", entry_point=())
    assert code == 0, output
    assert json.loads(output) == {
        "app": [".venv"],
        "home": [],
        "in": "/data",
        "uid": int(containers.config["User"]),
        "uv": None,
        "editable": False,
        "there": ["prefect_dask", "pyiceberg"],
        "compiled": True,
        "writable": False,
    }


@pytest.mark.parametrize("runner", ["direct", "threads"])
def test_the_main_job(containers: Containers, runner: str) -> None:
    """With a Prefect server of its own for `threads`; twice, and the second run has nothing to do."""
    call = ("load", *MONTHS, "--runner", runner, "--to", "duckdb", "iceberg")
    code, output = containers.run(*call, environment=ROWS, data=f"data-{runner}")
    assert code == 0, output
    volume = containers.volume(f"data-{runner}")
    with duckdb.connect(volume / "warehouse.duckdb", read_only=True) as warehouse:
        [(count,)] = warehouse.execute("SELECT count(*) FROM yellow_taxi_trips").fetchall()
    assert count == 3000
    assert {path.stat().st_uid for path in volume.rglob("*")} == {int(containers.config["User"])}
    code, output = containers.run(*call, environment=ROWS, data=f"data-{runner}")
    assert (code, len(re.findall(r"unchanged", output))) == (0, 6), output


def test_the_services_of_compose(containers: Containers) -> None:
    """Postgres, the server on it, the deployments, a worker; months through it; all end when told to."""
    start_postgres(containers)
    server = containers.up("server", {})
    page = "import urllib.request as r; print(r.urlopen('http://server:4200/').read().decode())"
    code, output = containers.run("python", "-c", page, data="of-server", entry_point=())
    assert (code, "<html" in output) == (0, True), server.log.read_text()  # the UI, not the API alone
    deploy = COMPOSE["services"]["deploy"]["command"]
    for _ in range(2):  # comes again with every `up`
        code, output = containers.run(*deploy, environment=service_environment("deploy"), data="of-deploy")
        assert code == 0, output
    worker = containers.up("worker", ROWS)
    for started in (server, worker):
        assert started.inner().uids().real == int(containers.config["User"])
    call = ("load", *MONTHS, "--to", "postgres", "--runner", "deployment")
    code, output = containers.run(*call, environment=service_environment("worker") | ROWS, data="data")
    assert code == 0, output + worker.log.read_text()
    query = "SELECT count(*) FROM yellow_taxi_trips"
    assert in_postgres(containers, "ny_taxi", query) == "3000"
    runs = "SELECT count(*) FROM flow_run WHERE state_type = 'COMPLETED'"
    assert in_postgres(containers, "prefect", runs) == "4"  # the parent and three months
    assert worker.terminate() == 0, worker.log.read_text()
    server.terminate()  # uvicorn shuts down, and then the signal ends the process


def start_postgres(containers: Containers) -> None:
    """One installed on this machine in place of compose's image, with its user, password and databases."""
    server = installed()
    if not server:
        pytest.skip("needs a PostgreSQL with pg_trgm, such as Debian's package postgresql; see also " + NAMED)
    programs = server[max(server, key=int)]
    directory = containers.directory / "postgres"
    directory.mkdir()
    shutil.chown(directory, USERS[0])
    (directory / "password").write_text(PASSWORD)
    script = f"""
{programs}/initdb -D {directory}/data -U taxi --pwfile={directory}/password -A scram-sha-256 -E UTF8
exec {programs}/postgres -D {directory}/data -c unix_socket_directories={directory}
"""
    containers.start_beside("sh", "-ec", script, user=USERS[0])
    for statement in ("CREATE DATABASE ny_taxi", COMPOSE["configs"]["prefect_database"]["content"]):
        in_postgres(containers, "postgres", statement)


def in_postgres(containers: Containers, database: str, query: str) -> str:
    """What psql says; it waits for the server to come up."""
    url = f"postgresql://taxi:{PASSWORD}@127.0.0.1/{database}"
    for _ in range(100):
        try:
            return called(*containers.beside, "psql", "--no-psqlrc", "-Atqc", query, url)
        except AssertionError as refused:
            if "refused" not in str(refused) and "starting up" not in str(refused):
                raise
            called("sleep", "0.3")
    raise AssertionError("Postgres does not answer")
