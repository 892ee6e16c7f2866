"""The ledger `taxi_loads` and the table `taxi_rejects` in Postgres."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from flows.destinations.base import LEDGER, REJECTS, Holding, Load, columns_to_add, reconcile_rejects
from flows.destinations.ledger import NULLABLE, REJECT_COLUMNS, REJECTS_FILE_COLUMNS, Ledger
from flows.destinations.postgres.ddl import add_columns
from flows.destinations.postgres.identifiers import quoted
from flows.destinations.postgres.tables import MonthNames, describe, is_attached
from flows.destinations.staged_batches import staged_batches
from transforms.dataset import FILE_MONTH

if TYPE_CHECKING:
    from flows.destinations.postgres.connection import PostgresSession
    from flows.staging import StagedMonth

REJECTS_IN_BATCH = 256  # decoded at once, each with a text of up to 64 kB


def _ledger(session: PostgresSession) -> Ledger:
    def columns(name: str) -> dict[str, str]:
        table = describe(session, name)
        return table.columns if table else {}

    return Ledger(session.rows, columns, session.qualified, lambda kind: kind.postgres)


def ensure(session: PostgresSession) -> None:
    """Create the ledger and the table of rejects, or add the columns they lack.

    Args:
        session: in a transaction.

    Raises:
        SchemaDrift: one exists in another shape.
    """
    ledger = _ledger(session)
    _ensure(session, LEDGER, ledger.columns, f"dataset, {FILE_MONTH}")
    _ensure(session, REJECTS, ledger.reject_columns, f"dataset, {FILE_MONTH}, line_number")


def _ensure(session: PostgresSession, name: str, want: Mapping[str, str], key: str) -> None:
    if (table := describe(session, name)) is None:
        columns = ", ".join(
            f"{quoted(column)} {kind}{'' if column in NULLABLE else ' NOT NULL'}"
            for column, kind in want.items()
        )
        session.execute(f"CREATE TABLE {session.qualified(name)} ({columns}, PRIMARY KEY ({key}))")
        return
    add_columns(session, name, columns_to_add(name, table.columns, want))


def write(session: PostgresSession, load: Load, staged: StagedMonth) -> None:
    """Replace the row of a month, and its rejects.

    Args:
        session: in a transaction.
        load: the new row.
        staged: the month.

    Raises:
        ReconciliationError: the server counts other rejects than were staged.
        LocalStorageError: the file of the rejects cannot be read.
    """
    ledger = _ledger(session)
    for statement, values in ledger.replace_row(load):
        session.execute(statement, *values)
    delete, key = ledger.delete_rejects(load)
    session.execute(delete, *key)
    copied = 0
    if staged.rejects_path:
        columns = ", ".join(map(quoted, REJECT_COLUMNS))
        statement = f"COPY {session.qualified(REJECTS)} ({columns}) FROM STDIN"
        copied = session.copy(statement, ((*key, *row) for row in _rejects(staged.rejects_path)))
    reconcile_rejects("postgres", staged.rejected_rows, copied)


def _rejects(path: Path) -> Iterator[tuple[int, str, str]]:
    with staged_batches(path, REJECTS_FILE_COLUMNS, REJECTS_IN_BATCH) as batches:
        for batch in batches:
            for line, raw, reason in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                yield line, raw.replace("\0", "\\x00"), reason  # files of earlier versions may have NUL


def read(session: PostgresSession, names: MonthNames, dataset: str) -> Load | None:
    """The row of a month, if the month's table has the rows it records; otherwise None.

    Args:
        session: connected.
        names: the month's tables.
        dataset: the dataset's name in the ledger.
    """
    if not is_attached(session, names):
        return None
    # Counted through the parent, because an account may have the right to read only that.
    return _ledger(session).read(names.parent, dataset, names.first_day)


def holdings(
    session: PostgresSession, parent: str, dataset: str, between: tuple[dt.date, dt.date]
) -> list[Holding]:
    """The months that the ledger or the table has; see `Destination.holdings`.

    Args:
        session: connected.
        parent: the table that people query.
        dataset: the dataset's name in the ledger.
        between: first and last month, both included.
    """
    return _ledger(session).holdings(parent, dataset, between)
