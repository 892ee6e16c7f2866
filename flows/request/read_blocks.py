"""Settings completed from Prefect blocks where the environment is silent.

NOTE: the only module of this package that imports Prefect, and only when a block has to be read.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterable, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from flows.destinations import Destination, make_destination
from flows.runtime import is_temporary_server
from flows.settings import Settings, get_settings

POSTGRES_BLOCK = "postgres-connector"
BUCKET_BLOCK = "de-gcs"
CREDENTIALS_BLOCK = "gcp-credentials"


def configured_destination(name: str, data_dir: Path) -> Destination:
    """The destination of that name with the settings of this process, blocks included.

    Args:
        name: one of `flows.destinations.DESTINATIONS`.
        data_dir: of the local warehouse.

    Raises:
        UsageError: a setting it needs is missing; lists every place that was tried.
    """
    return make_destination(name, data_dir, with_blocks(get_settings(), [name]))


_reads_blocks: ContextVar[bool] = ContextVar("reads_blocks", default=True)


_prepare: ContextVar[Callable[[], object] | None] = ContextVar("prepare", default=None)


@contextlib.contextmanager
def before_reading_blocks(prepare: Callable[[], object]) -> Generator[None]:
    """Call a function before a block is read in the block of code, such as one that starts a server.

    Args:
        prepare: called before each one.
    """
    token = _prepare.set(prepare)
    try:
        yield
    finally:
        _prepare.reset(token)


def _prepare_to_read() -> None:
    if prepare := _prepare.get():
        prepare()


@contextlib.contextmanager
def without_blocks() -> Generator[None]:
    """Leave the settings as the environment has them in the block, and Prefect out of the process."""
    token = _reads_blocks.set(False)
    try:
        yield
    finally:
        _reads_blocks.reset(token)


def with_blocks(settings: Settings, destinations: Iterable[str]) -> Settings:
    """Fill in from blocks what the settings leave open.

    Args:
        settings: from the environment and `.env`.
        destinations: only what these need is looked up, because a look-up needs a Prefect server.

    Returns:
        The completed settings; unchanged `without_blocks`.
    """
    if not _reads_blocks.get():
        return settings
    if "postgres" in destinations and not settings.postgres_url:
        settings = settings.model_copy(update={"postgres_url": postgres_url_from_block()})
    if "gcs" in destinations:
        settings = _with_bucket(settings)
    if _needs_google_credentials(settings, destinations):
        settings = _with_credentials(settings, _block_data("gcp-credentials", CREDENTIALS_BLOCK))
    return settings


def postgres_url_from_block() -> SecretStr | None:
    """The URL in the block `postgres-connector`; None if there is no such block."""
    _prepare_to_read()
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector

    try:
        block: Any = SqlAlchemyConnector.load(POSTGRES_BLOCK)
    except ValueError:  # Prefect's way of saying that there is none
        return None
    info = block.connection_info
    url = info.create_url() if isinstance(info, ConnectionComponents) else None
    return SecretStr(url.render_as_string(hide_password=False) if url else str(info))


def has_google_key(settings: Settings) -> bool:
    """Whether the settings name a service account's key, as a file or as text.

    Args:
        settings: from the environment and `.env`.
    """
    return bool(settings.gcp_key_file or settings.gcp_key_json)


def prefect_api_url() -> str | None:
    """Address of the permanent Prefect server; None if there is none, or only a temporary one."""
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    return None if is_temporary_server(url) else url


def _with_bucket(settings: Settings) -> Settings:
    """Bucket, folder and credentials of the block `de-gcs`, if the environment names no bucket."""
    if settings.gcs_bucket or not (block := _block_data("gcs-bucket", BUCKET_BLOCK)):
        return settings
    folder = settings.gcs_folder or block.get("bucket_folder") or ""
    settings = settings.model_copy(update={"gcs_bucket": block.get("bucket"), "gcs_folder": folder})
    if settings.storage_emulator_host or has_google_key(settings):
        return settings
    # The block's own credentials: one made by hand, as in the tutorial, may have them under any name.
    return _with_credentials(settings, block.get("gcp_credentials") or {})


def _needs_google_credentials(settings: Settings, destinations: Iterable[str]) -> bool:
    emulators = {"gcs": settings.storage_emulator_host, "bigquery": settings.bigquery_emulator_host}
    reaches_google = any(name in emulators and not emulators[name] for name in destinations)
    return reaches_google and not has_google_key(settings)


def _with_credentials(settings: Settings, block: Mapping[str, Any]) -> Settings:
    """Key and project of a GcpCredentials block; one without a key means the application default."""
    update: dict[str, object] = {}
    if info := block.get("service_account_info"):
        update["gcp_key_json"] = SecretStr(info if isinstance(info, str) else json.dumps(info))
    elif path := block.get("service_account_file"):
        update["gcp_key_file"] = Path(path)
    if not settings.gcp_project and block.get("project"):
        update["gcp_project"] = block["project"]
    return settings.model_copy(update=update)


def _block_data(type_slug: str, name: str) -> dict[str, Any]:
    """The content of a block, secrets included; empty if there is no such block.

    Not through the block's class: GcpCredentials signs in as soon as it is made, and waits long if it cannot.
    """
    _prepare_to_read()
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return dict(client.read_block_document_by_name(name, type_slug).data)
        except ObjectNotFound:
            return {}
