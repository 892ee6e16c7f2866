"""Paths that a call names: nothing of the user's and nothing of the run is replaced by a summary."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from support.cli import ROOT

from flows.cli.paths import check_summary
from flows.errors import UsageError
from flows.parent import main
from flows.settings import override_settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALL = ("--color", "yellow", "--months", "1", "--source", "synthetic", "--runner", "direct")


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    monkeypatch.setenv("TAXI_SYNTHETIC_ROWS", "100")  # for other processes
    with override_settings(synthetic_rows=100):
        yield [*CALL, "--data-dir", str(tmp_path / "data")]


def in_a_process(arguments: list[str], **redirected: int) -> subprocess.CompletedProcess[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | redirected
    command = [sys.executable, "flows/parent.py", *arguments]
    return subprocess.run(command, cwd=ROOT, text=True, check=False, timeout=100, **pipes)


def summary_rows(text: str) -> list[int]:
    return [month["source_rows"] for month in json.loads(text)["months"]]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("link", "symbolic link"),
        ("dangling", "symbolic link"),
        ("notes.txt", "no summary"),
        ("report.json", "no summary"),
        ("directory", "is a directory"),
        ("socket", "a device or a socket"),
        ("/dev/full", "a device or a socket"),
        ("data/warehouse.duckdb", "its own files"),
        ("data/warehouse.duckdb.wal", "its own files"),
        ("data/yellow/yellow_tripdata_2021-01.parquet", "its own files"),
        ("data/raw/new.json", "its own files"),
        ("data/../data/logs/new.json", "its own files"),
        ("notes.txt/new.json", "name a directory"),
        ("", "the path is empty"),
    ],
)
def test_a_summary_replaces_nothing_but_a_summary(
    load: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, why: str
) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "report.json").write_text('{"dataset": "mine"}')
    (tmp_path / "link").symlink_to("notes.txt")
    (tmp_path / "dangling").symlink_to("nothing")
    (tmp_path / "directory").mkdir()
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(os.path.relpath(tmp_path / "socket"))
        before = sorted(tmp_path.rglob("*"))
        path = f"{tmp_path}/{name}" if name and not name.startswith("/") else name
        assert main([*load, "--summary", path]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {'argument ' if not name else ''}--summary")
    assert why in line
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_file_of_an_earlier_run_is_kept(load: list[str], tmp_path: Path) -> None:
    assert main(load) == 0
    ours = [path for path in (tmp_path / "data").rglob("*") if path.is_file()]
    assert len(ours) > 5
    before = {path: path.read_bytes() for path in ours}
    for path in ours:
        assert main([*load, "--summary", str(path)]) == 2
    assert {path: path.read_bytes() for path in ours} == before


def test_an_earlier_summary_and_an_empty_file_are_replaced(load: list[str], tmp_path: Path) -> None:
    path = tmp_path / "summary.json"
    path.touch()
    for _ in range(2):
        assert main([*load, "--summary", str(path)]) == 0
        assert summary_rows(path.read_text()) == [100]
    beside = tmp_path / "data" / "summary.json"
    assert main([*load, "--summary", str(beside)]) == 0
    assert summary_rows(beside.read_text()) == [100]


def test_a_summary_that_cannot_be_looked_at_is_a_line(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_bytes(b"[" * 100_000)
    with pytest.raises(UsageError, match="no summary"):
        check_summary(tmp_path / "summary.json", tmp_path / "data")


def test_a_file_that_is_far_too_large_for_a_summary_is_not_read(tmp_path: Path) -> None:
    empty = b'{"dataset": null, "year": null, "months": []}'
    for size, is_taken in ((2**20, True), (2**24 + 1, False)):
        (tmp_path / "summary.json").write_bytes(empty.ljust(size))
        with contextlib.nullcontext() if is_taken else pytest.raises(UsageError, match="no summary"):
            check_summary(tmp_path / "summary.json", tmp_path / "data")


def test_a_fifo_is_written_through(load: list[str], tmp_path: Path) -> None:
    fifo, texts = tmp_path / "fifo", []
    os.mkfifo(fifo)
    reader = threading.Thread(target=lambda: texts.append(fifo.read_text()), daemon=True)
    reader.start()
    assert main([*load, "--summary", str(fifo)]) == 0
    reader.join(60)
    assert summary_rows(texts[0]) == [100]
    assert fifo.is_fifo()


@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
@pytest.mark.parametrize("to", ["a pipe", "a file"])
def test_standard_output_holds_the_summary_alone(load: list[str], tmp_path: Path, name: str, to: str) -> None:
    arguments = [*load, "--summary", name]
    if to == "a pipe":
        done = in_a_process(arguments)
        written = done.stdout
    else:
        with (tmp_path / "out").open("w") as out:
            done = in_a_process(arguments, stdout=out.fileno())
        written = (tmp_path / "out").read_text()
    assert done.returncode == 0, done.stderr
    assert summary_rows(written) == [100]
    assert "100 rows loaded" in done.stderr
    assert not (ROOT / "-").exists()


@pytest.mark.parametrize("command", ["parent", "status", "ingest", "gcs_to_bq", "web_to_gcs"])
def test_an_empty_data_directory_is_refused(command: str) -> None:
    months = [] if command == "ingest" else ["--color", "yellow", "--months", "1"]
    done = subprocess.run(
        [sys.executable, f"flows/{command}.py", *months, "--data-dir", ""],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: argument --data-dir: the path is empty")
    assert len(done.stderr.splitlines()) == 1


def test_a_data_directory_that_is_a_link_to_nothing_is_refused(
    load: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to("nothing")
    assert main([*load[:-1], str(tmp_path / "link")]) == 2
    assert "is a link to nothing; name a directory" in capsys.readouterr().err
    assert not (tmp_path / "nothing").exists()
