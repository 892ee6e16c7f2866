"""Save the Prefect blocks that a run reads where the environment leaves a setting open.

`python flows/blocks.py` registers the block types and saves one block for everything the environment
configures; run it again after a change.
"""

from __future__ import annotations

try:
    from flows import start_script
except ImportError:
    raise SystemExit(
        "error: this Python has none of the project's packages; use .venv/bin/python (`make setup`)"
    ) from None

if __name__ == "__main__":
    start_script()  # first, because the imports below take a while

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from flows.cli import command_parser, exit_with, prefect_session, run_command_line
from flows.destinations.postgres import PostgresAddress
from flows.errors import UsageError
from flows.request import BUCKET_BLOCK, CREDENTIALS_BLOCK, POSTGRES_BLOCK, has_google_key
from flows.runtime import CONTENTION, RetryPolicy, retry_transient
from flows.settings import Settings, get_settings

if TYPE_CHECKING:  # Prefect and Google are imported late: a wrong call and --help need not wait for them
    from prefect_sqlalchemy import SqlAlchemyConnector
    from pydantic import SecretStr

# SQLAlchemy's names for some keywords of libpq; all other keywords go into the query of the URL.
COMPONENTS = {
    "user": "username",
    "password": "password",
    "host": "host",
    "port": "port",
    "dbname": "database",
}


def postgres_block(url: SecretStr) -> SqlAlchemyConnector:
    """Create the block for a Postgres server; Prefect encrypts its field for the password.

    Args:
        url: of the server.

    Returns:
        The block, not saved.

    Raises:
        UsageError: it is no Postgres URL.
    """
    from prefect_sqlalchemy import ConnectionComponents, SqlAlchemyConnector, SyncDriver

    keywords = dict(PostgresAddress.of_url(url.get_secret_value()).parameters)
    host, port = keywords.get("host", ""), keywords.get("port", "")
    # SQLAlchemy's fields hold one host and one port; a socket's directory or several hosts go into the query.
    in_query = set() if re.fullmatch(r"[^/,]*", host) and re.fullmatch(r"\d*", port) else {"host", "port"}
    fields: dict[str, Any] = {
        field: keywords.pop(keyword)
        for keyword, field in COMPONENTS.items()
        if keyword in keywords and keyword not in in_query
    }
    return SqlAlchemyConnector(
        connection_info=ConnectionComponents(
            driver=SyncDriver.POSTGRESQL_PSYCOPG2, **fields, query=keywords or None
        )
    )


def _save_postgres(settings: Settings) -> str:
    """Save the block if a server is configured; returns what was saved, or why nothing was."""
    from prefect_sqlalchemy import SqlAlchemyConnector

    SqlAlchemyConnector.register_type_and_schema()
    url = settings.postgres_url
    if not url or url.get_secret_value() == "embedded":
        return f"{POSTGRES_BLOCK}: not saved, because TAXI_POSTGRES_URL does not name a server"
    postgres_block(url).save(POSTGRES_BLOCK, overwrite=True)
    return f"{POSTGRES_BLOCK}: saved, {PostgresAddress.of_url(url.get_secret_value())}"


def _save_google(settings: Settings) -> list[str]:
    """Save both blocks if a key or a bucket is configured; returns one line for each, as above."""
    from prefect_gcp import GcpCredentials, GcsBucket

    from flows.destinations.gcs import bucket_and_folder
    from flows.gcp import google_credentials, key_text

    GcpCredentials.register_type_and_schema()
    GcsBucket.register_type_and_schema()
    no_bucket = f"{BUCKET_BLOCK}: not saved, because TAXI_GCS_BUCKET does not name a bucket"
    if not settings.gcs_bucket and not has_google_key(settings):
        return [
            f"{CREDENTIALS_BLOCK}: not saved, because neither TAXI_GCP_KEY_FILE nor TAXI_GCS_BUCKET is set",
            no_bucket,
        ]
    try:
        identity = google_credentials(settings)
    except UsageError as error:
        if has_google_key(settings):
            raise
        return [
            f"{CREDENTIALS_BLOCK}: not saved, because there are {error}",
            f"{BUCKET_BLOCK}: not saved, because it needs {CREDENTIALS_BLOCK}",
        ]
    # The key itself and not the name of its file, which a worker on another machine does not have.
    key = key_text(settings)
    credentials = GcpCredentials(
        service_account_info=json.loads(key) if key else None, project=identity.project
    )
    credentials.save(CREDENTIALS_BLOCK, overwrite=True)
    saved = f"{CREDENTIALS_BLOCK}: saved, {identity.origin}"
    if not settings.gcs_bucket:
        return [saved, no_bucket]
    bucket, folder = bucket_and_folder(settings)
    block = GcsBucket(bucket=bucket, gcp_credentials=credentials, bucket_folder=folder)
    block.save(BUCKET_BLOCK, overwrite=True)
    return [saved, f"{BUCKET_BLOCK}: saved, gs://{bucket}/{folder}"]


def parser() -> argparse.ArgumentParser:
    """The options of `flows/blocks.py`: none of its own."""
    return command_parser(
        "flows/blocks.py", "Save a Prefect block for everything that the settings configure (TAXI_*)."
    )


def main(arguments: Sequence[str] = ()) -> int:
    """Save the blocks and print one line for each.

    Args:
        arguments: without the program's name.

    Returns:
        The exit code: 0, or 2 if a setting is not valid.
    """

    def command() -> int:
        parser().parse_args(arguments)
        settings = get_settings()
        with prefect_session() as api:
            from prefect.exceptions import ObjectAlreadyExists

            api.wait_until_ready()
            # Another run of this command may register the same type between our question and our request.
            lines = retry_transient(
                lambda: [_save_postgres(settings), *_save_google(settings)],
                RetryPolicy(attempts=5, first_pause_seconds=0.2, jitter=CONTENTION),
                retry_on=ObjectAlreadyExists,
            )
            print("\n".join(lines))
        return 0

    return run_command_line(command)


if __name__ == "__main__":
    exit_with(main(sys.argv[1:]))
