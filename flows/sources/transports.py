"""Opening a source at any byte offset, whatever kind of URL it has: http(s), file, gs or synthetic.

Whatever can go wrong is raised as a `TaxiError`, so that callers only tell transient from terminal errors.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from flows.errors import DestinationRefused, SourceBusy, SourceCorrupt, SourceNotFound, SourceUnreachable
from flows.runtime import RetryPolicy, parse_retry_after
from flows.sources.redaction import without_secrets
from flows.sources.source_request import (
    SourceChanged,
    SourceFileMissing,
    SourceInterrupted,
    SourceRequest,
    SourceResponse,
)

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

    from flows.settings import Settings

CHUNK_BYTES = 2**18
BUCKET_CHUNK_BYTES = 2**23  # one request each
LONGEST_RETRY_AFTER_SECONDS = 120.0
BUSY_STATUS = {408, 425, 429, *range(500, 600)}
MISSING_STATUS = {403, 404, 410}  # CloudFront answers 403 for a file that does not exist
OFFLINE_HINT = "check the network and the address; --source synthetic makes trips without any network"
BAD_REDIRECT = "Invalid URL in location"  # how httpx begins to tell of one
CUT_SHORT = ("peer closed", "Server disconnected")
"""How h11 and httpcore begin the protocol errors that only say that the connection has ended."""
RETRIED_ERRORS = (SourceBusy, SourceUnreachable)

# NOTE: they log URLs with the secrets in them, also those of redirects.
for _library in ("httpx", "httpcore"):
    logging.getLogger(_library).setLevel(logging.WARNING)


def source_retry_policy(settings: Settings) -> RetryPolicy:
    """Make the policy by which requests to a source are retried after one of `RETRIED_ERRORS`.

    Args:
        settings: number of attempts and first pause.

    Returns:
        The policy; its pauses grow up to 30 seconds.
    """
    return RetryPolicy(settings.http_attempts, settings.http_backoff_seconds, longest_pause_seconds=30.0)


def open_source(request: SourceRequest, settings: Settings) -> AbstractContextManager[SourceResponse]:
    """Open a source for reading; the connection is closed with the context.

    Args:
        request: which file, and from which byte on.
        settings: time-outs and credentials.

    Returns:
        A context manager that yields the response. Entering it and reading the chunks raise the errors.

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
    host = urlsplit(request.url).netloc.rpartition("@")[2]
    timeout = settings.http_timeout_seconds
    try:
        with (
            httpx.Client(timeout=timeout, follow_redirects=True, verify=_tls_context()) as client,
            client.stream("GET", request.url, headers=_request_headers(request)) as response,
        ):
            yield _read_answer(request, response, host)
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise SourceUnreachable(f"no connection to {host} ({error}); {OFFLINE_HINT}") from error
    except httpx.TooManyRedirects as error:
        raise SourceNotFound(f"{host} redirects in a circle; check the address") from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise SourceNotFound(f"{host} leads nowhere ({error}); check the address") from error
    except httpx.TimeoutException as error:
        raise SourceInterrupted(
            f"{host} was silent for {timeout:g} s", "run it again later, or raise TAXI_HTTP_TIMEOUT_SECONDS"
        ) from error
    except httpx.TransportError as error:
        if str(error).startswith(BAD_REDIRECT):
            raise SourceNotFound(f"{host} redirects to no address ({error}); check the address") from error
        if isinstance(error, httpx.ProtocolError) and not str(error).startswith(CUT_SHORT):
            raise SourceUnreachable(
                f"{host} answers, but not in HTTP ({error}); check the address: its port, http or https"
            ) from error
        raise SourceInterrupted(
            f"{host} cut the connection ({error})", "run it again: it goes on where it stopped"
        ) from error


@cache
def _tls_context() -> ssl.SSLContext:
    """The trusted authorities; cached because reading them takes 20 ms."""
    return httpx.create_ssl_context()


def _request_headers(request: SourceRequest) -> dict[str, str]:
    # identity: the file's own bytes, since a transfer encoding would hide its size and checksum.
    headers = {"Accept-Encoding": "identity", "User-Agent": "taxi-etl"}
    if request.offset and request.version:
        headers["Range"] = f"bytes={request.offset}-"
        headers["If-Range"] = request.version
    elif request.known_version:
        is_etag = request.known_version.startswith(('"', "W/"))
        headers["If-None-Match" if is_etag else "If-Modified-Since"] = request.known_version
    if request.probe:
        # Not HEAD: a signed URL is signed for GET, and some servers support nothing else.
        headers["Range"] = "bytes=0-0"
    return headers


def _read_answer(request: SourceRequest, response: httpx.Response, host: str) -> SourceResponse:
    status = response.status_code
    if status in MISSING_STATUS:
        raise SourceFileMissing(
            f"{host} has no such file (HTTP {status} for {without_secrets(request.url)}); check that "
            "the month is published there"
        )
    if status in BUSY_STATUS:
        busy = SourceBusy(f"{host} answered HTTP {status}", "run it again later")
        busy.retry_after_seconds = parse_retry_after(
            response.headers.get("Retry-After"), LONGEST_RETRY_AFTER_SECONDS
        )
        raise busy
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    is_known = version == request.known_version and not request.offset
    if request.known_version and (status == HTTPStatus.NOT_MODIFIED or is_known):
        return SourceResponse(request.known_version, unchanged=True)
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and request.probe:
        return SourceResponse(version, total=0)  # an empty file has no first byte
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise SourceChanged(f"{host} has nothing behind byte {request.offset:,}; starting over")
    if status not in (HTTPStatus.OK, HTTPStatus.PARTIAL_CONTENT):
        raise SourceNotFound(f"{host} answered HTTP {status}, not a file; check the address")
    offset, total = _body_extent(response, host)
    # Raw, as the bytes come in: an incomplete larger chunk would be lost when the connection breaks.
    return SourceResponse(version, total, offset, response.iter_raw())


def _body_extent(response: httpx.Response, host: str) -> tuple[int, int | None]:
    """Where the body starts, and the size of the whole file."""
    if response.status_code == HTTPStatus.OK:
        length = response.headers.get("Content-Length", "")
        return 0, int(length) if length.isdecimal() else None
    try:
        unit_and_start, _, total = response.headers["Content-Range"].partition("/")
        start = int(unit_and_start.removeprefix("bytes ").partition("-")[0])
        return start, int(total) if total.isdecimal() else None
    except (KeyError, ValueError):
        raise SourceCorrupt(
            f"{host} answered a range without saying which; the download cannot be trusted"
        ) from None


@contextlib.contextmanager
def _open_file(request: SourceRequest, _: Settings) -> Generator[SourceResponse]:
    path = Path(unquote(urlsplit(request.url).path))
    if path.exists() and not (path.is_file() or path.is_dir()):
        # A FIFO would be waited for, a device read without end.
        raise SourceNotFound(f"{path} is no regular file; copy it into one and name that")
    try:
        file = path.open("rb")
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise SourceFileMissing(f"there is no file {path}; check the path") from error
    except PermissionError as error:
        raise SourceNotFound(f"no permission to read {path}; check its owner and mode") from error
    with file:
        stat = os.fstat(file.fileno())
        version = f"{stat.st_size}-{stat.st_mtime_ns}"
        chunks = iter(lambda: file.read(CHUNK_BYTES), b"")
        unchanged = version == request.known_version
        yield SourceResponse(version, stat.st_size, chunks=chunks, unchanged=unchanged)


@contextlib.contextmanager
def _open_bucket(request: SourceRequest, settings: Settings) -> Generator[SourceResponse]:
    bucket = _connect_bucket(settings)
    with _bucket_errors(request.url):
        info = bucket.info(request.url)
    version = str(info.get("generation") or info.get("etag") or info.get("md5Hash") or "") or None
    offset = request.offset if version and version == request.version else 0
    chunks = _read_object(bucket, request.url, info, offset)
    unchanged = version is not None and version == request.known_version
    yield SourceResponse(version, int(info["size"]), offset, chunks, unchanged)


def _connect_bucket(settings: Settings) -> GCSFileSystem:
    """Connect with the credentials of the destinations, or without any: a bucket may be public."""
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


def _read_object(bucket: GCSFileSystem, url: str, info: dict[str, Any], offset: int) -> Iterator[bytes]:
    size = int(info["size"])
    for start in range(offset, size, BUCKET_CHUNK_BYTES):
        end = min(start + BUCKET_CHUNK_BYTES, size)
        try:
            with _bucket_errors(url):
                # Always the same generation: a file replaced meanwhile must not be mixed with the new one.
                chunk: Any = bucket.cat_file(url, start=start, end=end, generation=info.get("generation"))
        except SourceNotFound as error:
            raise SourceChanged(f"{url} was replaced while it was being read; starting over") from error
        yield chunk


@contextlib.contextmanager
def _bucket_errors(url: str) -> Generator[None]:
    """Translate the errors of gcsfs; only around its calls, since an OSError of the caller is not one."""
    from aiohttp import ClientConnectionError, ClientConnectorError, ClientPayloadError
    from gcsfs.retry import HttpError
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except FileNotFoundError as error:
        raise SourceFileMissing(f"there is no {url}; check bucket and path") from error
    except ClientConnectorError as error:
        raise SourceUnreachable(f"no connection to {url} ({error}); {OFFLINE_HINT}") from error
    except HttpError as error:
        if str(error.code) in map(str, BUSY_STATUS):
            raise SourceBusy(f"{url}: {error}", "run it again later") from error
        raise SourceNotFound(
            f"{url}: {error}; check the credentials (TAXI_GCP_KEY_FILE or the application default)"
        ) from error
    except (GoogleAuthError, ValueError) as error:
        raise SourceNotFound(f"{url}: {error}; check address and credentials") from error
    except (OSError, ClientConnectionError, ClientPayloadError) as error:
        raise SourceInterrupted(f"reading {url} broke off ({error})", "run it again") from error


@contextlib.contextmanager
def _open_synthetic(request: SourceRequest, _: Settings) -> Generator[SourceResponse]:
    from isal import isal_zlib

    from flows.sources.synthetic import GENERATOR_VERSION, synthetic_csv
    from transforms.datasets import DATASETS

    parts = urlsplit(request.url)
    sizes = {name: int(values[0]) for name, values in parse_qs(parts.query).items()}
    year, month = (int(part) for part in parts.path.strip("/").split("-"))

    def compressed() -> Iterator[bytes]:
        compressor = isal_zlib.compressobj(1, wbits=31)
        for block in synthetic_csv(DATASETS[parts.netloc], year, month, **sizes):
            yield compressor.compress(block)
        yield compressor.flush()

    version = f"{request.url}#{GENERATOR_VERSION}"
    yield SourceResponse(version, chunks=compressed(), unchanged=version == request.known_version)
