"""Secrets are in no log, artifact, result, summary or database of a run, whether it ends well or badly."""

from __future__ import annotations

import gzip
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest
from support.destinations import DuckDBHarness
from support.postgres_harness import PostgresHarness

if TYPE_CHECKING:
    from pathlib import Path

    from support.kill_matrix import KillMatrix
    from support.web import Web
    from support.zygote import Zygote

pytestmark = pytest.mark.xdist_group("kills")

USER, PASSWORD, SIGNATURE = "reader-4711", "pa55-w0rd-0815", "s1gnature-0816"
MONTH = b"VendorID,tpep_pickup_datetime,total_amount\n1,2021-01-15 03:36:12,9.75\n"


def holders(secrets: list[str], *places: Path) -> list[str]:
    """Every file below these directories that has one of the secrets in it."""
    needles = [spelled.encode() for secret in secrets for spelled in {secret, quote(secret, safe="")}]
    return [
        f"{path}: {secret!r}"
        for place in places
        for path in ([place] if place.is_file() else place.rglob("*"))
        if path.is_file()
        for secret in needles
        if secret in path.read_bytes()
    ]


@pytest.mark.parametrize("matrix", [(DuckDBHarness, PostgresHarness)], indirect=True, ids=["duckdb postgres"])
def test_no_secret_is_anywhere_after_a_run(
    matrix: KillMatrix, zygote: Zygote, web: Web, tmp_path: Path, prefect_home: Path
) -> None:
    web.put("/yellow-01.csv.gz", gzip.compress(MONTH))
    _, _, address = web.url.partition("//")
    source = f"http://{USER}:{PASSWORD}@{address}/{{color}}-{{month:02}}.csv.gz?sig={SIGNATURE}"
    database_password = matrix._harnesses[1].database.parameters.get("password")
    output, summary = tmp_path / "output", tmp_path / "summary.json"
    data_dir = tmp_path / "data"
    for months, environment, expected in (
        (["1"], {}, 0),
        (["2"], {}, 1),  # there is no such file
        (["1"], {"TAXI_POSTGRES_URL": f"postgresql://{USER}:{PASSWORD}@127.0.0.1:1/trips"}, 1),
    ):
        zygote.start(
            [
                *("--color", "yellow", "--months", *months, "--source", source, "--force"),
                *("--data-dir", str(data_dir), "--to", "duckdb", "postgres", "--summary", str(summary)),
            ],
            matrix._environment | environment | {"NO_PROXY": "127.0.0.1", "PREFECT_LOGGING_LEVEL": "DEBUG"},
            output,
        )
        assert zygote.wait() == expected, output.read_text()
        assert {seen.query["sig"][0] for seen in web.requests} == {SIGNATURE}
        assert web.requests[-1].headers["authorization"].startswith("Basic ")
        servers = [
            path for path in prefect_home.parents[1].iterdir() if path.name.startswith("prefect-server")
        ]
        assert servers
        secrets = [PASSWORD, SIGNATURE, *filter(None, [database_password])]
        leaks = holders(secrets, output, summary, data_dir, prefect_home, *servers)
        assert not leaks, leaks
