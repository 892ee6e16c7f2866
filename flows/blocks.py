"""The Prefect blocks: made from the environment, and read where the environment is silent.

`python flows/blocks.py` registers the block types and saves one block for everything the environment
configures; run it again after a change. A run looks at the environment first, then at the block.

What only Postgres needs is imported where it is used: everybody else starts half a second sooner.
"""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

from prefect.settings import temporary_settings
from pydantic import SecretStr

from flows.destinations import Destination, make_destination
from flows.errors import TaxiError
from flows.server import server_defaults
from flows.settings import Settings, get_settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prefect_sqlalchemy import SqlAlchemyConnector

POSTGRES_BLOCK = "postgres-connector"
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
    from prefect_sqlalchemy import SqlAlchemyConnector

    from flows.destinations.postgres_connection import Address

    SqlAlchemyConnector.register_type_and_schema()
    url = settings.postgres_url
    if not url or url.get_secret_value() == "embedded":
        return [f"{POSTGRES_BLOCK}: not saved, because TAXI_POSTGRES_URL does not name a server"]
    block = postgres_block(url)
    block.save(POSTGRES_BLOCK, overwrite=True)
    return [f"{POSTGRES_BLOCK}: saved, {Address.of_url(url.get_secret_value())}"]


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
