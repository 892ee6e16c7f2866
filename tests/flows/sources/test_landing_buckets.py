"""Buckets as sources."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.landing import (
    GZIP,
    HALF,
    NAME,
    OBJECT,
    OBJECT_DATA,
    OBJECT_INFO,
    OLD_GZIP,
    PART,
    PART_VERSION,
    files_in,
    leave_part,
    put_object,
    refuse,
    settings,
    trips,
)

from flows.errors import SourceBusy, SourceNotFound, SourceUnreachable, TaxiError, UsageError
from flows.sources import SourceFile, land
from flows.sources.transports import BUCKET_CHUNK_BYTES

if TYPE_CHECKING:
    from pathlib import Path

    from support.web import Web


def test_a_file_in_a_bucket_lands(web: Web, raw: Path, in_bucket: SourceFile) -> None:
    landed = land(in_bucket, raw, settings())
    assert (landed.url, landed.version, landed.bytes) == (OBJECT, "1", len(GZIP))
    assert (raw / NAME).read_bytes() == GZIP
    web.requests.clear()
    assert not land(in_bucket, raw, settings()).fetched
    assert OBJECT_DATA not in {seen.path for seen in web.requests}
    put_object(web, OLD_GZIP, generation=2)
    assert land(in_bucket, raw, settings()).version == "2"
    assert (raw / NAME).read_bytes() == OLD_GZIP


def test_a_file_in_a_bucket_goes_on_where_it_stopped(web: Web, raw: Path, in_bucket: SourceFile) -> None:
    leave_part(raw, OBJECT, "1", GZIP[:HALF])
    land(in_bucket, raw, settings())
    assert (raw / NAME).read_bytes() == GZIP
    (data,) = [seen for seen in web.requests if seen.path == OBJECT_DATA]
    assert data.headers["range"].startswith(f"bytes={HALF}-")
    leave_part(raw, OBJECT, "1", GZIP[:HALF])
    put_object(web, OLD_GZIP, generation=2)
    land(in_bucket, raw, settings())
    assert (raw / NAME).read_bytes() == OLD_GZIP


def test_a_file_in_a_bucket_that_is_replaced_meanwhile_is_no_mixture(
    web: Web, raw: Path, in_bucket: SourceFile
) -> None:
    new, old = (trips(seed) * 10 for seed in (1, 2))
    assert len(old) > BUCKET_CHUNK_BYTES
    put_object(web, old, generation=1)
    web.misbehave(OBJECT_DATA, times=1, then=lambda: put_object(web, new, generation=2))
    web.misbehave(OBJECT_DATA, times=1, status=404)  # what becomes of the generation before
    land(in_bucket, raw, settings())
    assert (raw / NAME).read_bytes() == new
    generations = [seen.query["generation"] for seen in web.requests if seen.path == OBJECT_DATA]
    assert generations[:3] == [["1"], ["1"], ["2"]]


@pytest.mark.parametrize(
    ("path", "how", "error", "message"),
    [
        (OBJECT_INFO, {"status": 404}, SourceNotFound, f"there is no {OBJECT}"),
        (OBJECT_INFO, {"status": 401}, SourceNotFound, "check the credentials"),
        (OBJECT_INFO, {"status": 400, "body": b"invalid bucket name"}, SourceNotFound, "invalid"),
        (OBJECT_INFO, {"status": 503}, SourceBusy, "run it again"),
        (OBJECT_INFO, {"status": 502}, SourceBusy, "run it again"),
        (OBJECT_INFO, {"status": 429}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"status": 503}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"raw": b""}, SourceBusy, "run it again"),
        (OBJECT_DATA, {"cut_after": 1000}, SourceBusy, "run it again"),
    ],
)
def test_a_bucket_that_misbehaves(
    web: Web,
    raw: Path,
    in_bucket: SourceFile,
    path: str,
    how: dict[str, Any],
    error: type[TaxiError],
    message: str,
) -> None:
    web.misbehave(path, **how)
    refused = refuse(in_bucket, raw, http_attempts=2)
    assert isinstance(refused, error)
    assert message in refused.message
    assert files_in(raw) <= {PART, PART_VERSION}
    web.heal()
    assert land(in_bucket, raw, settings()).bytes == len(GZIP)


def test_a_bucket_without_a_network(web: Web, raw: Path, in_bucket: SourceFile) -> None:
    first = land(in_bucket, raw, settings())
    web.stop()
    with pytest.raises(SourceUnreachable, match=f"--source {first.path}"):
        land(in_bucket, raw, settings(http_attempts=1))
    with pytest.raises(SourceUnreachable, match="--source synthetic"):
        land(in_bucket, raw, settings(http_attempts=1), force=True)


def test_a_bucket_is_asked_by_nobody_if_there_are_no_credentials(
    web: Web, raw: Path, in_bucket: SourceFile, no_google_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gcsfs.core._location", lambda *_: web.url)
    assert land(in_bucket, raw, settings()).bytes == len(GZIP)  # it is public
    assert not [seen for seen in web.requests if "authorization" in seen.headers]
    web.misbehave(OBJECT_INFO, status=401)
    error = refuse(in_bucket, raw)
    assert isinstance(error, SourceNotFound)
    assert "TAXI_GCP_KEY_FILE" in error.message


def test_credentials_that_cannot_be_read_are_said_and_not_left_out(
    raw: Path, in_bucket: SourceFile, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
    with pytest.raises(UsageError, match=r"absent\.json"):
        land(in_bucket, raw, settings())
