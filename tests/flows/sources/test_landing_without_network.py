"""No network: an earlier copy is named, and never taken for new."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.landing import ATTEMPTS, GZIP, HALF, NAME, PART, PATH, leave_part, refuse, settings, web_source

from flows.errors import SourceNotFound, SourceUnreachable
from flows.sources import SourceFile, land

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


def test_without_a_network_an_earlier_copy_is_named_but_not_taken_for_new(web: Web, raw: Path) -> None:
    web.put(PATH, GZIP)
    first = land(web_source(web), raw, settings())
    web.stop()
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceUnreachable)
    assert f"--source {first.path}" in error.message
    assert first.is_intact()
    assert land(SourceFile(first.path.as_uri(), "again"), raw, settings()).sha256 == first.sha256


@pytest.mark.parametrize("why", ["never landed", "changed by hand", "forced"])
def test_no_network_and_no_copy_names_the_way_out(web: Web, raw: Path, why: str) -> None:
    web.put(PATH, GZIP)
    if why != "never landed":
        land(web_source(web), raw, settings())
    web.stop()
    if why == "changed by hand":
        (raw / NAME).write_bytes(b"1,2")
    with pytest.raises(SourceUnreachable, match=r"no connection to 127\.0\.0\.1.*--source synthetic"):
        land(web_source(web), raw, settings(), force=why == "forced")
    if why == "forced":
        assert (raw / NAME).read_bytes() == GZIP


def test_a_server_of_another_protocol_is_unreachable(web: Web, raw: Path) -> None:
    web.misbehave("/", raw=b"no TLS here\r\n")
    source = SourceFile(web.url.replace("http:", "https:") + PATH, NAME)
    assert isinstance(refuse(source, raw), SourceUnreachable)


def test_a_server_that_comes_back_is_found(web: Web, raw: Path, pauses: list[float]) -> None:
    url = web.put(PATH, GZIP, etag='"v1"')
    leave_part(raw, url, '"v1"', GZIP[:HALF])
    web.stop()
    error = refuse(web_source(web), raw)
    assert isinstance(error, SourceUnreachable)
    assert len(pauses) == ATTEMPTS - 1
    assert (raw / PART).stat().st_size == HALF


@pytest.mark.parametrize("address", ["http://127.0.0.1:99999/x", "http://exa mple/x", "http://\x7f/"])
def test_an_impossible_address_is_one_clear_line(raw: Path, address: str) -> None:
    error = refuse(SourceFile(address, NAME), raw, http_attempts=1)
    assert isinstance(error, SourceNotFound | SourceUnreachable)
    assert "check" in error.message
