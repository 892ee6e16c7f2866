"""The Prefect blocks: made from the environment, and read where the environment is silent.

`python flows/blocks.py` registers the block types and saves one block for everything the environment
configures; run it again after a change. A run looks at the environment first, then at the block.

What only one destination needs is imported where it is used: everybody else starts half a second sooner.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.client.orchestration import get_client
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings
from pydantic import SecretStr

from flows.destinations import Destination, make_destination
from flows.errors import TaxiError, UsageError
from flows.server import server_defaults
from flows.settings import Settings, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from prefect_gcp import GcpCredentials
    from prefect_sqlalchemy import SqlAlchemyConnector

POSTGRES_BLOCK = "postgres-connector"
BUCKET_BLOCK = "de-gcs"
CREDENTIALS_BLOCK = "gcp-credentials"
# libpq's keywords that SQLAlchemy has names of its own for; every other one travels in the query.
COMPONENTS = {
    "user": "username",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "database",
}


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
    if settings.storage_emulator_host or _has_key(settings):
        return settings
    # Its own credentials: a bucket made by hand, as in the tutorial, may have them under any name.
    return _with_credentials(settings, block.get("gcp_credentials") or {})


def _needs_google_credentials(settings: Settings, destinations: Iterable[str]) -> bool:
    endpoints = {
        "gcs": settings.storage_emulator_host,
        "bigquery": settings.bigquery_emulator_host,
    }
    reach_google = [name for name in destinations if name in endpoints and not endpoints[name]]
    return bool(reach_google) and not _has_key(settings)


def _has_key(settings: Settings) -> bool:
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
    with get_client(sync_client=True) as client:
        try:
            return dict(client.read_block_document_by_name(name, type_slug).data)
        except ObjectNotFound:
            return None


def postgres_block(url: SecretStr) -> SqlAlchemyConnector:
    """The block for a URL, its password in a field of its own, which Prefect keeps encrypted.

    Raises:
        UsageError: it is no Postgres URL.
    """
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver

    from flows.destinations.postgres_connection import Address

    named = dict(Address.of_url(url.get_secret_value()).parameters)
    # A socket's directory, or several hosts, are more than SQLAlchemy's own field for the host can say.
    is_plain = re.fullmatch(r"[^/,]*", named.get("host", "")) and re.fullmatch(r"\d*", named.get("port", ""))
    taken = COMPONENTS if is_plain else {key: COMPONENTS[key] for key in ("user", "password", "dbname")}
    parts: dict[str, Any] = {taken[key]: named.pop(key) for key in taken if key in named}
    return SqlAlchemyConnector(
        connection_info=ConnectionComponents(
            driver=SyncDriver.POSTGRESQL_PSYCOPG2, **parts, query=named or None
        )
    )


def save_blocks(settings: Settings) -> list[str]:
    """Register the block types and save what the settings configure; returns one line for each block.

    Raises:
        UsageError: a setting cannot be read.
    """
    return [_save_postgres(settings), *_save_google(settings)]


def _save_postgres(settings: Settings) -> str:
    from prefect_sqlalchemy import SqlAlchemyConnector

    from flows.destinations.postgres_connection import Address

    SqlAlchemyConnector.register_type_and_schema()
    url = settings.postgres_url
    if not url or url.get_secret_value() == "embedded":
        return f"{POSTGRES_BLOCK}: not saved, because TAXI_POSTGRES_URL does not name a server"
    block = postgres_block(url)
    block.save(POSTGRES_BLOCK, overwrite=True)
    return f"{POSTGRES_BLOCK}: saved, {Address.of_url(url.get_secret_value())}"


def _save_google(settings: Settings) -> list[str]:
    """The two blocks of Google; only if a key or a bucket is configured, because that is asking for them."""
    from prefect_gcp import GcpCredentials, GcsBucket

    GcpCredentials.register_type_and_schema()
    GcsBucket.register_type_and_schema()
    if not settings.gcs_bucket and not _has_key(settings):
        return [
            f"{CREDENTIALS_BLOCK}: not saved, because neither TAXI_GCP_KEY_FILE nor TAXI_GCS_BUCKET is set",
            f"{BUCKET_BLOCK}: not saved, because TAXI_GCS_BUCKET does not name a bucket",
        ]
    try:
        credentials, origin = _google_credentials_block(settings)
    except UsageError as error:
        if _has_key(settings):
            raise
        return [
            f"{CREDENTIALS_BLOCK}: not saved, because there are {error}",
            f"{BUCKET_BLOCK}: not saved, because it needs {CREDENTIALS_BLOCK}",
        ]
    credentials.save(CREDENTIALS_BLOCK, overwrite=True)
    lines = [f"{CREDENTIALS_BLOCK}: saved, {origin}"]
    if not settings.gcs_bucket:
        return [*lines, f"{BUCKET_BLOCK}: not saved, because TAXI_GCS_BUCKET does not name a bucket"]
    from flows.destinations.gcs import bucket_and_folder

    bucket, folder = bucket_and_folder(settings)
    made = GcsBucket(bucket=bucket, gcp_credentials=credentials, bucket_folder=folder)
    made.save(BUCKET_BLOCK, overwrite=True)
    return [*lines, f"{BUCKET_BLOCK}: saved, gs://{bucket}/{folder}"]


def _google_credentials_block(settings: Settings) -> tuple[GcpCredentials, str]:
    """The block, and where its content comes from.

    The key itself goes into it, encrypted by Prefect, so that a worker elsewhere has it too.

    Raises:
        UsageError: there are no credentials, or they cannot be read.
    """
    from prefect_gcp import GcpCredentials

    from flows.google_credentials import google_credentials, key_text

    identity = google_credentials(settings)
    text = key_text(settings)
    if text is None:
        return GcpCredentials(project=identity.project), identity.origin
    return GcpCredentials(service_account_info=json.loads(text), project=identity.project), identity.origin


def main() -> int:
    """Save the blocks and say so; returns the exit code."""
    try:
        with temporary_settings(server_defaults()):
            lines = save_blocks(get_settings())
    except TaxiError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
