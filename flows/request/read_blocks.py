"""What Prefect blocks say where the environment is silent; needs a Prefect server only then.

NOTE: the one module of this package that imports Prefect, and only when a block has to be read.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from flows.destinations import Destination, make_destination
from flows.settings import Settings, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

POSTGRES_BLOCK = "postgres-connector"
BUCKET_BLOCK = "de-gcs"
CREDENTIALS_BLOCK = "gcp-credentials"


def with_blocks(settings: Settings, destinations: Iterable[str]) -> Settings:
    """The settings, with what they leave open filled in from blocks.

    Args:
        settings: from the environment and `.env`.
        destinations: only what these need is looked up, because a look-up needs a Prefect server.
    """
    if "postgres" in destinations and not settings.postgres_url:
        settings = settings.model_copy(update={"postgres_url": postgres_url_from_block()})
    if "gcs" in destinations:
        settings = _with_bucket(settings)
    if _needs_google_credentials(settings, destinations):
        found = _block_data("gcp-credentials", CREDENTIALS_BLOCK)
        settings = _with_credentials(settings, found or {})
    return settings


def configured_destination(name: str, data_dir: Path) -> Destination:
    """The destination of that name with the settings of this process, blocks included.

    Raises:
        UsageError: a setting it needs is missing; lists every place that was tried.
    """
    return make_destination(name, data_dir, with_blocks(get_settings(), [name]))


def postgres_url_from_block() -> SecretStr | None:
    """The URL in the block `postgres-connector`; None if there is no such block."""
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector

    try:
        block: Any = SqlAlchemyConnector.load(POSTGRES_BLOCK)
    except ValueError:  # how Prefect says that there is none
        return None
    info = block.connection_info
    url = info.create_url() if isinstance(info, ConnectionComponents) else None
    return SecretStr(url.render_as_string(hide_password=False) if url else str(info))


def _with_bucket(settings: Settings) -> Settings:
    """Bucket, folder and credentials of the block `de-gcs`, if the environment names no bucket."""
    if settings.gcs_bucket or not (block := _block_data("gcs-bucket", BUCKET_BLOCK)):
        return settings
    folder = settings.gcs_folder or block.get("bucket_folder") or ""
    settings = settings.model_copy(update={"gcs_bucket": block.get("bucket"), "gcs_folder": folder})
    if settings.storage_emulator_host or has_google_key(settings):
        return settings
    # Its own credentials: a bucket made by hand, as in the tutorial, may have them under any name.
    return _with_credentials(settings, block.get("gcp_credentials") or {})


def _needs_google_credentials(settings: Settings, destinations: Iterable[str]) -> bool:
    endpoints = {
        "gcs": settings.storage_emulator_host,
        "bigquery": settings.bigquery_emulator_host,
    }
    reach_google = [name for name in destinations if name in endpoints and not endpoints[name]]
    return bool(reach_google) and not has_google_key(settings)


def has_google_key(settings: Settings) -> bool:
    """Whether the settings name a service account's key, as a file or as it is."""
    return bool(settings.gcp_key_file or settings.gcp_key_json)


def _with_credentials(settings: Settings, block: Mapping[str, Any]) -> Settings:
    """Key and project of a GcpCredentials block; without a key it means the application default."""
    found: dict[str, object] = {}
    if info := block.get("service_account_info"):
        found["gcp_key_json"] = SecretStr(info if isinstance(info, str) else json.dumps(info))
    elif path := block.get("service_account_file"):
        found["gcp_key_file"] = Path(path)
    if not settings.gcp_project and block.get("project"):
        found["gcp_project"] = block["project"]
    return settings.model_copy(update=found)


def _block_data(type_slug: str, name: str) -> dict[str, Any] | None:
    """What is in a block, secrets included; None if there is no such block.

    Not through the block's class: GcpCredentials signs in as soon as it is made, and waits long if it cannot.
    """
    from prefect.client.orchestration import get_client
    from prefect.exceptions import ObjectNotFound

    with get_client(sync_client=True) as client:
        try:
            return dict(client.read_block_document_by_name(name, type_slug).data)
        except ObjectNotFound:
            return None
