from __future__ import annotations

import multiprocessing
import os
import threading
from typing import TYPE_CHECKING

import pytest

from flows.errors import DestinationBusy, LocalStorageError, SchemaDrift, error_context
from flows.runtime import atomic_write, file_lock, remove_temporary_files, temporary_path

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
        assert not path.exists()
    assert path.read_text() == "first"
    with pytest.raises(TypeError), atomic_write(path) as temporary:
        temporary.write_text("half") + "?"
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["file"]


def test_the_bytes_are_on_the_disk_before_the_name_and_the_name_before_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, forced, fsync = tmp_path / "file", [], os.fsync

    def watched(descriptor: int) -> None:
        forced.append((os.fstat(descriptor).st_ino, path.exists()))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", watched)
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert forced == [(path.stat().st_ino, False), (tmp_path.stat().st_ino, True)]


def test_the_directories_of_a_new_file_are_on_the_disk_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, forced, fsync = tmp_path / "new" / "newer" / "file", set[int](), os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: forced.add(os.fstat(fd).st_ino) or fsync(fd))
    with atomic_write(path) as temporary:
        temporary.write_text("x")
    assert {tmp_path.stat().st_ino, path.parent.parent.stat().st_ino} <= forced


def test_leftovers_of_killed_runs_are_cleared_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    leftover = tmp_path / ".a.parquet.99999.tmp"
    other = tmp_path / ".b.parquet.99999.tmp"
    for file in (path, leftover, other, temporary_path(path)):
        file.write_text("x")
    remove_temporary_files(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([path.name, other.name])


def hold(path: Path, held: multiprocessing.Event, let_go: multiprocessing.Event) -> None:  # type: ignore[valid-type]
    with file_lock(path, 1):
        held.set()
        let_go.wait(30)


def test_a_lock_keeps_other_processes_out_and_says_whom_it_waits_for(tmp_path: Path) -> None:
    path, waits = tmp_path / "lock", []
    context = multiprocessing.get_context("spawn")
    held, let_go = context.Event(), context.Event()
    process = context.Process(target=hold, args=(path, held, let_go))
    process.start()
    assert held.wait(60)
    with (
        pytest.raises(DestinationBusy, match="TAXI_LOCK_TIMEOUT_SECONDS"),
        file_lock(path, 0.1, on_wait=lambda: waits.append(1)),
    ):
        pass
    assert waits == [1]
    threading.Timer(0.3, let_go.set).start()
    with file_lock(path, 30):
        pass
    process.join(30)
    assert process.exitcode == 0


def test_a_lock_keeps_other_threads_out(tmp_path: Path) -> None:
    inside, most = [], []

    def work() -> None:
        with file_lock(tmp_path / "lock", 30):
            inside.append(1)
            most.append(len(inside))
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_an_error_says_where_it_happened_and_the_innermost_place_wins() -> None:
    with (
        pytest.raises(SchemaDrift) as caught,
        error_context("outer"),
        error_context("yellow 2021-01 -> duckdb"),
    ):
        raise SchemaDrift("two\nlines")
    assert str(caught.value) == "yellow 2021-01 -> duckdb: two lines"


def test_a_refusal_of_the_disk_is_one_line_with_the_path(tmp_path: Path) -> None:
    with (
        pytest.raises(LocalStorageError, match=r"yellow 2021-01: .*there.*--data-dir"),
        error_context("yellow 2021-01"),
    ):
        (tmp_path / "not" / "there").write_text("x")
