"""The local disk: what it refuses is no fault of the source."""

from __future__ import annotations

import contextlib
import os
import resource
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from support.landing import GZIP, NAME, OLD_GZIP, PATH, RECORD, file_source, files_in, settings, web_source

from flows.errors import LocalStorageError, error_context
from flows.runtime import commit_file
from flows.sources import SourceFile, download, find_landed, land
from flows.sources.source_request import SourceRequest
from flows.sources.transports import open_source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.web import Web


@contextlib.contextmanager
def files_no_larger_than(limit_bytes: int) -> Iterator[None]:
    """A disk that is full sooner."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("over_http", [False, True], ids=["file", "http"])
def test_a_full_disk_is_no_fault_of_the_source(web: Web, raw: Path, tmp_path: Path, over_http: bool) -> None:
    (tmp_path / NAME).write_bytes(OLD_GZIP)
    web.serve(tmp_path)
    source = web_source(web) if over_http else file_source(tmp_path / NAME)
    old = land(source, raw, settings())
    (tmp_path / NAME).write_bytes(GZIP)
    web.heal()
    with (
        files_no_larger_than(300_000),
        pytest.raises(LocalStorageError, match="File too large") as full,
        error_context("yellow 2021-01"),
    ):
        land(source, raw, settings())
    assert full.value.where == "yellow 2021-01"
    assert find_landed(raw / NAME) == replace(old, fetched=False)
    assert len(web.requests) == over_http  # once: a full disk does not pass by itself
    assert land(source, raw, settings()).fetched
    assert (raw / NAME).read_bytes() == GZIP
    assert files_in(raw) == {NAME, RECORD}


@pytest.mark.parametrize(
    "trouble",
    [
        PermissionError(13, "Permission denied", "/data"),
        FileNotFoundError(2, "No such file or directory", "/data"),
        OSError(28, "No space left on device"),
    ],
)
def test_trouble_on_this_side_is_not_blamed_on_the_source(
    web: Web, in_bucket: SourceFile, tmp_path: Path, trouble: OSError
) -> None:
    (tmp_path / NAME).write_bytes(GZIP)
    web.serve(tmp_path)
    for source in (file_source(tmp_path / NAME), web_source(web), in_bucket):
        with (
            pytest.raises(type(trouble)) as raised,
            open_source(SourceRequest(source.url), settings()),
        ):
            raise trouble
        assert raised.value is trouble


def test_a_record_never_speaks_of_a_file_that_came_after_it(
    web: Web, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.put(PATH, b"a,b\n1,2\n")
    old = land(web_source(web), raw, settings())
    web.put(PATH, b"a,b\n3,4\n")

    def killed(temporary: Path, path: Path) -> None:
        commit_file(temporary, path)
        os.utime(path, ns=(old.modified_ns, old.modified_ns))  # a clock that was set back meanwhile
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "commit_file", killed)
        with pytest.raises(KeyboardInterrupt):
            land(web_source(web), raw, settings())
    assert find_landed(raw / NAME) is None
    assert land(web_source(web), raw, settings()).fetched
    assert (raw / NAME).read_bytes() == b"a,b\n3,4\n"
