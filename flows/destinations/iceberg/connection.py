"""The catalog: opened, created in one step if it is the local one, errors translated."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import requests
from pyiceberg import exceptions as refused
from pyiceberg.catalog import Catalog, list_catalogs, load_catalog
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.io import PY_IO_IMPL, WAREHOUSE
from sqlalchemy.exc import DatabaseError, OperationalError

from flows.destinations.iceberg.durable_io import DurableFileIO
from flows.errors import DestinationBusy, DestinationRefused, TaxiError, UsageError
from flows.runtime import atomic_write, describe_free_space, file_lock, remove_temporary_files

NAMESPACE = "taxi"
LOCAL_CATALOG = "local"
FILE_IO = f"{DurableFileIO.__module__}.{DurableFileIO.__qualname__}"

COMMIT_CONFLICTS = (
    refused.CommitFailedException,
    refused.ValidationException,
    refused.CommitStateUnknownException,
)
"""Another writer was faster, or the answer to a commit was lost; the state has to be read again."""

_BUSY = (
    *COMMIT_CONFLICTS,
    refused.NamespaceAlreadyExistsError,
    refused.ServerError,
    refused.ServiceUnavailableError,
    refused.TableAlreadyExistsError,
    refused.TooManyRequestsError,
    requests.ConnectionError,
    requests.Timeout,
)
_REFUSED = (
    refused.AuthorizationExpiredError,
    refused.BadRequestError,
    refused.ForbiddenError,
    refused.NoSuchPropertyException,
    refused.NotInstalledError,
    refused.OAuthError,
    refused.UnauthorizedError,
)


@dataclass(frozen=True, slots=True)
class CatalogAddress:
    """Which catalog holds the tables.

    Attributes:
        directory: of the local catalog and its tables, absolute.
        name: of a catalog in pyiceberg's configuration; None: the local one.
        lock_timeout_seconds: how long to wait for other runs.
    """

    directory: Path
    name: str | None
    lock_timeout_seconds: float

    @property
    def database(self) -> Path:
        """The SQLite file of the local catalog."""
        return self.directory / "catalog.db"

    @property
    def exists(self) -> bool:
        """Whether there may be tables: the local catalog is created by the first publish."""
        return self.name is not None or self.database.exists()

    def __str__(self) -> str:
        """What messages call it."""
        return f"the catalog {self.name}" if self.name else str(self.database)


@contextlib.contextmanager
def connected(address: CatalogAddress) -> Generator[Catalog]:
    """Open the catalog for the length of a block, and translate every error of pyiceberg in it.

    Args:
        address: of the catalog; the local one is created if it does not exist.

    Yields:
        The catalog.

    Raises:
        DestinationBusy: it is locked or does not answer, or other writers were faster again and again.
        DestinationRefused: wrong address or credentials, or no permission.
    """
    try:
        if not address.name:
            _create_if_missing(address)
        with (
            load_catalog(address.name, **{PY_IO_IMPL: FILE_IO})
            if address.name
            else _local_catalog(address.database, address.directory)
        ) as catalog:
            yield catalog
    except (OperationalError, DatabaseError, *_BUSY, *_REFUSED) as error:
        raise _translate(address, error) from error


def check_catalog(name: str) -> None:
    """Refuse the name of a catalog that is not configured; nothing is opened.

    Args:
        name: as it stands in pyiceberg's configuration.

    Raises:
        UsageError: lists the places that were tried.
    """
    known = list_catalogs()
    if name.lower() not in map(str.lower, known):
        raise UsageError(
            f"TAXI_ICEBERG_CATALOG={name!r} is not configured. Tried: PYICEBERG_CATALOG__{name.upper()}__URI "
            "and its like in the environment, .pyiceberg.yaml in PYICEBERG_HOME, the home directory and this "
            f"one. Known are: {', '.join(known) or 'none'}; see docs/reference/iceberg.md"
        )


def _create_if_missing(address: CatalogAddress) -> None:
    """Create an empty catalog with its namespace under a temporary name, then rename it."""
    path = address.database
    if path.exists():
        return
    with file_lock(address.directory / ".locks" / f"{path.name}.lock", address.lock_timeout_seconds):
        remove_temporary_files(path)
        if not path.exists():
            with atomic_write(path) as temporary, _local_catalog(temporary, address.directory) as catalog:
                catalog.create_namespace(NAMESPACE)


def _local_catalog(database: Path, warehouse: Path) -> SqlCatalog:
    # As a URI of SQLite's own, so that every character is allowed in the path.
    uri = f"sqlite:///file:{quote(str(database))}?uri=true&timeout=60"
    return SqlCatalog(LOCAL_CATALOG, **{"uri": uri, WAREHOUSE: str(warehouse), PY_IO_IMPL: FILE_IO})


def _translate(address: CatalogAddress, error: Exception) -> TaxiError:
    reason = str(error).partition("\n")[0] or type(error).__name__
    if isinstance(error, COMMIT_CONFLICTS):
        return DestinationBusy(
            f"other runs changed the table again and again ({reason}); run it again when they are done"
        )
    if isinstance(error, _BUSY):
        return DestinationBusy(f"{address} does not answer as it should ({reason}); run it again")
    if isinstance(error, OperationalError) and "locked" in reason:
        return DestinationBusy(f"{address} is locked by another process ({reason}); run it again")
    if isinstance(error, DatabaseError) and not address.name:
        return DestinationRefused(
            f"{address} cannot be used ({reason}); it is in {describe_free_space(address.directory)}. Make "
            "room if the disk is full; if the file is damaged, move it away and run the months again"
        )
    return DestinationRefused(
        f"{address} refuses ({reason}); see its address, credentials and permissions in pyiceberg's "
        "configuration, then run it again"
    )
