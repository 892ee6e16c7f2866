"""How `psql` opens the database that months are loaded into."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlencode

from flows.destinations.postgres.address import LEGAL_URLS, PostgresAddress
from flows.destinations.postgres.embedded_server import require_wheel, use_server, wheel_program
from flows.errors import UsageError
from flows.runtime import Layout

if TYPE_CHECKING:
    from flows.settings import Settings


def psql_call(data_dir: Path, settings: Settings) -> tuple[list[str], dict[str, str], str]:
    """Find the server and the program; an embedded server is started, and stops with this process.

    Without `TAXI_POSTGRES_URL` it is the embedded server of the data directory, if there is one.

    Args:
        data_dir: the embedded server's data is below it.
        settings: which server it is.

    Returns:
        The command, the environment for it, in which the password is, and a URL without it, for people.

    Raises:
        UsageError: there is no server, or no `psql`.
    """
    url = settings.postgres_url.get_secret_value().strip() if settings.postgres_url else ""
    directory = Layout(data_dir.absolute()).postgres
    if url in ("", "embedded"):
        if not directory.exists():
            raise UsageError(
                f"no Postgres: TAXI_POSTGRES_URL is {url or 'not set'}, and there is none in {directory}; "
                f"name the --data-dir that was loaded into, or set TAXI_POSTGRES_URL. Legal are {LEGAL_URLS}"
            )
        require_wheel()
        program, address = str(wheel_program("psql", directory)), use_server(directory)
    else:
        program, address = shutil.which("psql") or "", PostgresAddress.of_url(url)
    if not program:
        raise UsageError("there is no program psql on PATH; install PostgreSQL's client (postgresql-client)")
    parameters = dict(address.parameters)
    # Not on the command line, where every user of the machine could read it.
    password = parameters.pop("password", None)
    environment = dict(os.environ) | ({"PGPASSWORD": password} if password else {})
    url = _url(parameters)
    return [program, url], environment, url


def _url(parameters: dict[str, str]) -> str:
    """The URL of a database; host and port stand in the query, where a socket's directory may be too."""
    parameters = dict(parameters)
    user, database = parameters.pop("user", ""), parameters.pop("dbname", "")
    login = f"{quote(user, safe='')}@" if user else ""
    return (
        f"postgresql://{login}/{quote(database, safe='')}?{urlencode(parameters, safe='/', quote_via=quote)}"
    )
