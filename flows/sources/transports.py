"""Opening a source, whatever kind of URL it is, at any byte offset.

Each transport yields an `SourceResponse`: what is there, and the bytes from the offset on. Everything that
can go wrong becomes a `TaxiError` here, so that the landing only has to know Transient from Terminal.
"""

from __future__ import annotations

import contextlib
import logging
import os
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from flows.errors import DestinationRefused, SourceBusy, SourceCorrupt, SourceNotFound, SourceUnreachable
from flows.sources.redaction import without_secrets
from flows.sources.source_request import SourceAbsent, SourceChanged, SourceCut, SourceRequest, SourceResponse

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Generator, Iterator
    from contextlib import AbstractContextManager

    from gcsfs.core import GCSFileSystem

    from flows.settings import Settings

CHUNK_BYTES = 2**18
BUCKET_CHUNK_BYTES = 2**23  # one request each
BUSY_STATUS = {408, 425, 429, *range(500, 600)}
ABSENT_STATUS = {403, 404, 410}  # CloudFront answers 403 for a file that is not there
OFFLINE_HINT = "check the network and the address; --source synthetic makes trips without any network"


# NOTE: they log URLs as they are, with the keys that are in them, those of redirects included.
for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)


def open_source(request: SourceRequest, settings: Settings) -> AbstractContextManager[SourceResponse]:
    """Open a source for reading; the connection closes with the context.

    Raises:
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: see `flows.errors`.
    """
    opener: dict[str, Callable[[SourceRequest, Settings], AbstractContextManager[SourceResponse]]] = {
        "http": _open_http,
        "https": _open_http,
        "file": _open_file,
        "gs": _open_bucket,
        "synthetic": _open_synthetic,
    }
    return opener[urlsplit(request.url).scheme](request, settings)


@contextlib.contextmanager
def _open_http(request: SourceRequest, settings: Settings) -> Generator[SourceResponse]:
    # identity: the file's own bytes, not a transfer encoding that would hide its checksum and size.
    headers = {"Accept-Encoding": "identity", "User-Agent": "taxi-etl"}
    if request.offset and request.version:
        headers["Range"] = f"bytes={request.offset}-"
        headers["If-Range"] = request.version
    elif request.known:
        is_tag = request.known.startswith(('"', "W/"))
        headers["If-None-Match" if is_tag else "If-Modified-Since"] = request.known
    if request.probe:
        # Not HEAD: a signed URL is signed for GET, and some servers know nothing else.
        headers["Range"] = "bytes=0-0"
    host = urlsplit(request.url).netloc.rpartition("@")[2]
    try:
        with (
            httpx.Client(
                timeout=settings.http_timeout_seconds, follow_redirects=True, verify=_certificates()
            ) as client,
            client.stream("GET", request.url, headers=headers) as response,
        ):
            yield _answer(request, response, host)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise SourceUnreachable(f"no connection to {host} ({error}); {OFFLINE_HINT}") from error
    except httpx.TooManyRedirects as error:
        raise SourceNotFound(f"{host} redirects in a circle; check the address") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SourceNotFound(f"{host} leads nowhere ({error}); check the address") from error
    except httpx.TimeoutException as error:
        raise SourceCut(
            f"{host} was silent for {settings.http_timeout_seconds:g} s; run it again later, or "
            "raise TAXI_HTTP_TIMEOUT_SECONDS"
        ) from error
    except httpx.TransportError as error:
        raise SourceCut(
            f"{host} cut the connection ({error}); run it again: it goes on where it stopped"
        ) from error


@cache
def _certificates() -> ssl.SSLContext:
    """The authorities to trust; reading them takes 20 ms, which every attempt would spend anew."""
    return httpx.create_ssl_context()


def _answer(request: SourceRequest, response: httpx.Response, host: str) -> SourceResponse:
    status = response.status_code
    if status in ABSENT_STATUS:
        raise SourceAbsent(
            f"{host} has no such file (HTTP {status} for {without_secrets(request.url)}); check that "
            "the month is published there"
        )
    if status in BUSY_STATUS:
        busy = SourceBusy(f"{host} answered HTTP {status}; run it again later")
        busy.retry_after_seconds = retry_after_seconds(response.headers.get("Retry-After"))
        raise busy
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    is_known = version == request.known and not request.offset
    if request.known and (status == HTTPStatus.NOT_MODIFIED or is_known):
        return SourceResponse(0, None, request.known, iter(()), unchanged=True)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and request.probe:
        return SourceResponse(0, 0, version, iter(()))  # an empty file has no first byte
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise SourceChanged(f"{host} has nothing behind byte {request.offset:,}; starting over")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise SourceNotFound(f"{host} answered HTTP {status}, not a file; check the address")
    offset, total = _extent(response, host)
    # As the bytes come in: collected into larger chunks, the last of them would be lost with a cut.
    return SourceResponse(offset, total, version, response.iter_raw())


def _extent(response: httpx.Response, host: str) -> tuple[int, int | None]:
    """Where the body starts and how large the whole file is."""
    if response.status_code == HTTPStatus.OK:
        length = response.headers.get("Content-Length")
        return 0, int(length) if length and length.isdecimal() else None
    try:
        unit_and_start, _, total = response.headers["Content-Range"].partition("/")
        start = int(unit_and_start.removeprefix("bytes ").partition("-")[0])
        return start, int(total) if total.isdecimal() else None
    except (KeyError, ValueError):
        raise SourceCorrupt(
            f"{host} answered a range without saying which; the download cannot be trusted"
        ) from None


def retry_after_seconds(header: str | None, most: float = 120.0) -> float:
    """The pause a server asks for, in seconds; 0 if it asks for none or names a date."""
    return min(float(header), most) if header and header.strip().isdecimal() else 0.0


@contextlib.contextmanager
def _open_file(request: SourceRequest, _: Settings) -> Generator[SourceResponse]:
    path = Path(unquote(urlsplit(request.url).path))
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise SourceAbsent(f"there is no file {path}; check the path") from error
    except PermissionError as error:
        raise SourceNotFound(f"no permission to read {path}; check its owner and mode") from error
    with file:
        stat = os.fstat(file.fileno())
        version = f"{stat.st_size}-{stat.st_mtime_ns}"
        if version == request.known:
            yield SourceResponse(0, None, version, iter(()), unchanged=True)
        else:
            chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
            yield SourceResponse(0, stat.st_size, version, chunks)


@contextlib.contextmanager
def _open_bucket(request: SourceRequest, settings: Settings) -> Generator[SourceResponse]:
    bucket = _bucket(settings)
    with _bucket_errors(request.url):
        info = bucket.info(request.url)
    version = str(info.get("generation") or info.get("etag") or info.get("md5Hash") or "")
    if version and version == request.known:
        yield SourceResponse(0, None, version, iter(()), unchanged=True)
        return
    offset = request.offset if version and version == request.version else 0
    chunks = _bucket_chunks(bucket, request.url, info, offset)
    yield SourceResponse(offset, int(info["size"]), version or None, chunks)


def _bucket(settings: Settings) -> GCSFileSystem:
    """The way to Google with the credentials of the destinations, or without any: a bucket may be public."""
    from flows.gcp import NoCredentials, bucket_files, google_credentials

    emulator = settings.storage_emulator_host
    try:
        identity = google_credentials(settings, emulator=emulator)
        identity.sign_in()
    except NoCredentials:
        return bucket_files(None)
    except DestinationRefused as error:
        raise SourceUnreachable(error.message) from error
    return bucket_files(identity, emulator)


def _bucket_chunks(bucket: GCSFileSystem, url: str, info: dict[str, Any], offset: int) -> Iterator[bytes]:
    size = int(info["size"])
    for start in range(offset, size, BUCKET_CHUNK_BYTES):
        end = min(start + BUCKET_CHUNK_BYTES, size)
        try:
            with _bucket_errors(url):
                # Of one generation, so that a file replaced meanwhile is no mixture of both.
                chunk: Any = bucket.cat_file(url, start=start, end=end, generation=info.get("generation"))
        except SourceNotFound as error:
            raise SourceChanged(f"{url} was replaced while it was being read; starting over") from error
        yield chunk


@contextlib.contextmanager
def _bucket_errors(url: str) -> Generator[None]:
    from aiohttp import ClientConnectionError, ClientConnectorError, ClientPayloadError
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except FileNotFoundError as error:
        raise SourceAbsent(f"there is no {url}; check bucket and path") from error
    except ClientConnectorError as error:
        raise SourceUnreachable(f"no connection to {url} ({error}); {OFFLINE_HINT}") from error
    except HttpError as error:
        if str(error.code) in map(str, BUSY_STATUS):
            raise SourceBusy(f"{url}: {error}; run it again later") from error
        raise SourceNotFound(
            f"{url}: {error}; check the credentials (TAXI_GCP_KEY_FILE or the application default)"
        ) from error
    except (GoogleAuthError, ValueError) as error:
        raise SourceNotFound(f"{url}: {error}; check address and credentials") from error
    except (OSError, ClientConnectionError, ClientPayloadError) as error:
        raise SourceCut(f"reading {url} broke off ({error}); run it again") from error


@contextlib.contextmanager
def _open_synthetic(request: SourceRequest, _: Settings) -> Generator[SourceResponse]:
    from isal import isal_zlib

    from flows.sources.synthetic import GENERATOR_VERSION, synthetic_csv
    from transforms.datasets import DATASETS

    version = f"{request.url}#{GENERATOR_VERSION}"
    if version == request.known:
        yield SourceResponse(0, None, version, iter(()), unchanged=True)
        return
    parts = urlsplit(request.url)
    sizes = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
    year, month = (int(part) for part in parts.path.strip("/").split("-"))
    text = synthetic_csv(DATASETS[parts.netloc], year, month, **sizes)

    def compressed() -> Iterator[bytes]:
        packer = isal_zlib.compressobj(1, wbits=31)
        for block in text:
            yield packer.compress(block)
        yield packer.flush()

    yield SourceResponse(0, None, version, compressed())
