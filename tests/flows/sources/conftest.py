"""Fixtures of the landing's tests."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from support.landing import GZIP, NAME, OBJECT, put_object

from flows.sources import SourceFile

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """Where files land."""
    return tmp_path / "raw" / "yellow"


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds of every pause; the test does not wait for them."""
    seconds: list[float] = []
    monkeypatch.setattr("flows.runtime.retry.pause", seconds.append)
    return seconds


@pytest.fixture
def in_bucket(web: Web, monkeypatch: pytest.MonkeyPatch) -> SourceFile:
    """A file in a bucket of which `web` plays the server."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", web.url)
    import gcsfs.retry

    async def no_pause(_seconds: float) -> None:
        pass

    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=no_pause))
    put_object(web, GZIP, generation=1)
    return SourceFile(OBJECT, NAME)
