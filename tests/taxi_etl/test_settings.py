"""`taxi-etl settings`: every setting, where it comes from, and no secret."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from support.prefect_server import clean_environment

from flows.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "geheim-4711"


def settings(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in clean_environment().items() if not k.startswith("TAXI_")} | variables
    return subprocess.run(
        [sys.executable, "-m", "taxi_etl", "settings", *arguments],
        cwd=directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_setting_says_where_it_comes_from(tmp_path: Path) -> None:
    (tmp_path / "taxi.toml").write_text(
        f'to = ["duckdb", "gcs"]\nconcurrency = 3\npostgres_indexes = "brin"\n'
        f'postgres_url = "postgresql://me:{SECRET}@localhost/db"\n'
    )
    (tmp_path / ".env").write_text("TAXI_CONCURRENCY=4\nTAXI_POSTGRES_INDEXES=btree\n")
    variables = {"TAXI_CONCURRENCY": "5", "STORAGE_EMULATOR_HOST": "http://127.0.0.1:9023"}
    done = settings(tmp_path, "--json", **variables)
    assert done.returncode == 0, done.stderr
    shown = {entry["name"]: (entry["value"], entry["origin"]) for entry in json.loads(done.stdout)}
    assert len(shown) == len(Settings.model_fields)
    assert shown["TAXI_TO"] == ("duckdb gcs", "taxi.toml")
    assert shown["TAXI_CONCURRENCY"] == ("5", "environment")
    assert shown["TAXI_POSTGRES_INDEXES"] == ("btree", ".env")
    assert shown["STORAGE_EMULATOR_HOST"] == ("http://127.0.0.1:9023", "environment")
    assert shown["TAXI_DATA_DIR"] == ("data", "default")
    assert shown["TAXI_GCS_BUCKET"] == (None, "default")
    assert shown["TAXI_POSTGRES_URL"][1] == "taxi.toml"
    readable = settings(tmp_path, **variables).stdout
    assert "TAXI_CONCURRENCY = 5  [environment]" in readable
    assert all(
        " ".join(field.description.split())[:40] in readable for field in Settings.model_fields.values()
    )
    assert SECRET not in done.stdout + readable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"dataa = 1", "unknown setting dataa in taxi.toml; legal are adbc_postgresql_driver,"),
        (b"to = [", "taxi.toml cannot be read: "),
        (b"\xff", "taxi.toml cannot be read: "),
        (b"to = []", "TAXI_TO=[] (taxi.toml): "),
        (b"concurrency = 'many'", "TAXI_CONCURRENCY='many' (taxi.toml): "),
    ],
)
def test_a_wrong_file_is_one_line(
    content: bytes, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flows.errors import UsageError
    from flows.settings import _read_settings, get_settings

    monkeypatch.chdir(tmp_path)
    (tmp_path / "taxi.toml").write_bytes(content)
    _read_settings.cache_clear()
    try:
        with pytest.raises(UsageError) as raised:
            get_settings()
    finally:
        _read_settings.cache_clear()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)
