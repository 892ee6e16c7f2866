"""No secret of an address is in an error, a log or a record."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import pytest
from support.landing import BAD, GZIP, NAME, PATH, RECORD, Bad, refuse, settings, web_source

from flows.errors import TaxiError
from flows.sources import SourceFile, land

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web

SECRETS = ("hunter2", "t0ken")


@pytest.mark.parametrize("how", [None, *(name for name, bad in BAD.items() if bad.error)])
def test_no_secret_of_the_address_is_ever_shown(
    web: Web, raw: Path, caplog: pytest.LogCaptureFixture, how: str | None
) -> None:
    caplog.set_level(logging.DEBUG)
    web.put(PATH, GZIP)
    secret = f"{web.url}{PATH}?token=t0ken".replace("//", "//user:hunter2@")
    if how:
        web.misbehave(PATH, **BAD[how].how)
    bad = BAD[how] if how else Bad({})
    shown = ""
    try:
        shown = repr(land(SourceFile(secret, NAME), raw, settings(**bad.changes)))
    except TaxiError as error:
        shown = "".join(traceback.format_exception(error))
    assert web.requests[0].query == {"token": ["t0ken"]}  # the server gets what it needs
    assert web.requests[0].headers["authorization"].startswith("Basic ")
    on_disk = b"".join(file.read_bytes() for file in raw.iterdir() if file.is_file())
    for word in SECRETS:
        assert word not in shown
        assert word not in caplog.text
        assert word.encode() not in on_disk


def test_no_secret_is_shown_without_a_network(web: Web, raw: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    web.put(PATH, GZIP)
    source = SourceFile(f"{web.url}{PATH}?token=t0ken".replace("//", "//user:hunter2@"), NAME)
    land(source, raw, settings())
    web.stop()
    error = refuse(source, raw)
    assert not [word for word in SECRETS if word in "".join(traceback.format_exception(error))]
    error = refuse(SourceFile(source.url, "other"), raw)
    shown = "".join(traceback.format_exception(error)) + caplog.text
    assert not [word for word in SECRETS if word in shown]


def test_the_secrets_of_a_redirect_are_not_shown(
    web: Web, raw: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    web.put("/signed", GZIP)
    there = f"{web.url}/signed?signature=t0ken"
    web.misbehave(PATH, status=302, headers={"Location": there})
    land(web_source(web), raw, settings())
    assert "t0ken" not in caplog.text
    assert "t0ken" not in (raw / RECORD).read_text()


def test_another_query_is_another_file(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    first = land(SourceFile(f"{web.url}{PATH}?key=1", NAME), raw, settings())
    second = land(SourceFile(f"{web.url}{PATH}?key=2", NAME), raw, settings())
    assert second.fetched
    assert (first.url, first.sha256) == (second.url, second.sha256)
    assert first.identity != second.identity
