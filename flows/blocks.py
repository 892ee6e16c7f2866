"""The Prefect blocks: made from the environment, and read where the environment is silent.

`python flows/blocks.py` registers the block types and saves one block for everything the environment
configures; run it again after a change. A run looks at the environment first, then at the block.

What only one destination needs is imported where it is used: everybody else starts half a second sooner.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

from prefect.settings import temporary_settings

from flows.cli import server_defaults
from flows.errors import TaxiError, UsageError
from flows.request import BUCKET_BLOCK, CREDENTIALS_BLOCK, POSTGRES_BLOCK, has_google_key
from flows.settings import Settings, get_settings

if TYPE_CHECKING:
    from prefect_gcp import GcpCredentials
    from prefect_sqlalchemy import SqlAlchemyConnector
    from pydantic import SecretStr

# libpq's keywords that SQLAlchemy has names of its own for; every other one travels in the query.
COMPONENTS = {
    "user": "username",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "database",
}


def postgres_block(url: SecretStr) -> SqlAlchemyConnector:
    """The block for a URL, its password in a field of its own, which Prefect keeps encrypted.

    Raises:
        UsageError: it is no Postgres URL.
    """
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver

    from flows.destinations.postgres import PostgresAddress

    named = dict(PostgresAddress.of_url(url.get_secret_value()).parameters)
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

    from flows.destinations.postgres import PostgresAddress

    SqlAlchemyConnector.register_type_and_schema()
    url = settings.postgres_url
    if not url or url.get_secret_value() == "embedded":
        return f"{POSTGRES_BLOCK}: not saved, because TAXI_POSTGRES_URL does not name a server"
    block = postgres_block(url)
    block.save(POSTGRES_BLOCK, overwrite=True)
    return f"{POSTGRES_BLOCK}: saved, {PostgresAddress.of_url(url.get_secret_value())}"


def _save_google(settings: Settings) -> list[str]:
    """The two blocks of Google; only if a key or a bucket is configured, because that is asking for them."""
    from prefect_gcp import GcpCredentials, GcsBucket

    GcpCredentials.register_type_and_schema()
    GcsBucket.register_type_and_schema()
    if not settings.gcs_bucket and not has_google_key(settings):
        return [
            f"{CREDENTIALS_BLOCK}: not saved, because neither TAXI_GCP_KEY_FILE nor TAXI_GCS_BUCKET is set",
            f"{BUCKET_BLOCK}: not saved, because TAXI_GCS_BUCKET does not name a bucket",
        ]
    try:
        credentials, origin = _google_credentials_block(settings)
    except UsageError as error:
        if has_google_key(settings):
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

    from flows.gcp import google_credentials, key_text

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
