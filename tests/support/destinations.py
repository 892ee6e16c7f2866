"""What the tests of destinations stand on: months to publish, and a harness for each destination.

A new destination needs one subclass of `Harness` and its line in `HARNESSES`; the whole contract of
`tests/flows/destinations/test_contract.py` then runs over it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import itertools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Self
from unittest import mock

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from support.recording import Recording

from flows.destinations import LEDGER, REJECTS, Destination, Load, make_destination
from flows.settings import Settings
from flows.sources import SourceFile, land
from flows.sources.synthetic import synthetic_csv
from flows.staging import StagingOptions, stage
from transforms.dataset import ColumnType
from transforms.dimensions import dimensions
from transforms.report_queries import RELATIONS, report_queries
from transforms.views import taxi_views

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from concurrent.futures import Future
    from multiprocessing.connection import Connection
    from pathlib import Path

    import pytest

    from flows.staging import StagedMonth
    from transforms.dataset import Dataset
    from transforms.trip_month import TripMonth

LONGEST_WAIT_SECONDS = 60
DIMENSION_TABLES = {dimension.name for dimension in dimensions()}
"""Made beside whatever is published; see tests/flows/destinations/test_views.py."""


# Months to publish


class Months:
    """Makes staged months through the real landing and staging, each once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._settings = Settings(_env_file=None)
        self._made: dict[object, StagedMonth] = {}

    def trips(
        self, month: TripMonth, rows: int = 50, *, first: int = 0, new: Sequence[str] = ()
    ) -> StagedMonth:
        """A month whose every declared column has values, and nulls; another `first`, other values."""
        key = (month, rows, first, tuple(new))
        if key not in self._made:
            columns = _numbered_columns(month, range(first, first + rows))
            columns |= {name: [f"{name} {i}" for i in range(rows)] for name in new}
            self._made[key] = self.of(month, columns)
        return self._made[key]

    def of(self, month: TripMonth, columns: Mapping[str, list[Any]]) -> StagedMonth:
        """A month of these columns; undeclared ones are carried along as text."""
        types = month.dataset.types()
        source = self._new_directory() / f"{month.stem}.parquet"
        pq.write_table(
            pa.table(
                {
                    name: pa.array(values, types.get(name, ColumnType.TEXT).arrow)
                    for name, values in columns.items()
                }
            ),
            source,
        )
        return self._stage(SourceFile(source.as_uri(), source.name), month)

    def with_rejects(self, month: TripMonth, *lines: bytes) -> StagedMonth:
        """A CSV month of 1,000 trips, and lines that do not fit."""
        key = (month, lines)
        if key not in self._made:
            source = self._new_directory() / f"{month.stem}.csv"
            good = b"".join(synthetic_csv(month.dataset, month.year, month.month, rows=1000))
            source.write_bytes(good + b"".join(line + b"\n" for line in lines))
            self._made[key] = self._stage(SourceFile(source.as_uri(), source.name), month)
        return self._made[key]

    def outside(self, month: TripMonth) -> StagedMonth:
        """A month of 1,000 trips that all begin in the month before."""
        other = month.later(-1)
        source = self._new_directory() / f"{month.stem}.csv"
        source.write_bytes(b"".join(synthetic_csv(month.dataset, other.year, other.month, rows=1000)))
        return self._stage(SourceFile(source.as_uri(), source.name), month)

    def synthetic(self, month: TripMonth, rows: int) -> StagedMonth:
        """A month as `--source synthetic` makes it."""
        key = (month, rows)
        if key not in self._made:
            url = f"synthetic://{month.color}/{month.iso}?rows={rows}&seed=0&broken_rows=0"
            self._made[key] = self._stage(SourceFile(url, f"{month.stem}.csv.gz"), month)
        return self._made[key]

    def _stage(self, source: SourceFile, month: TripMonth) -> StagedMonth:
        directory = self._new_directory()
        landed = land(source, directory / "raw", self._settings)
        return stage(landed, month, directory, StagingOptions(allow_new_columns=True))

    def _new_directory(self) -> Path:
        made = self._directory / str(len(list(self._directory.iterdir())))
        made.mkdir()
        return made


def _numbered_columns(month: TripMonth, numbers: range) -> dict[str, list[Any]]:
    start = dt.datetime.combine(month.first_day, dt.time())
    value: dict[ColumnType, Callable[[int, str], object]] = {
        ColumnType.INTEGER: lambda i, _: i,
        ColumnType.FLOAT: lambda i, _: i / 4,
        ColumnType.TEXT: lambda i, name: f"{name} {i}",
        ColumnType.TIMESTAMP: lambda i, _: start + dt.timedelta(seconds=i),
    }
    return {
        column.name: [
            value[column.type](i, column.name) if column.required or (i + at) % 7 else None for i in numbers
        ]
        for at, column in enumerate(month.dataset.columns)
    }


# Harnesses


@dataclass(frozen=True)
class Place:
    """How to make a destination, in this process or in another one.

    Attributes:
        name: its name in the registry.
        data_dir: the data directory it is given.
        settings: of `flows.settings.Settings`, those that are not to be the default.
    """

    name: str
    data_dir: Path
    settings: dict[str, Any] = field(default_factory=dict)

    def make(self) -> Destination:
        return make_destination(self.name, self.data_dir, Settings(_env_file=None, **self.settings))


class Harness:
    """What the contract has to know of a destination to look behind its back.

    Attributes:
        module: where it looks up `reconcile`, between writing the rows and committing them.
        keeps_rows: they can be read back, and from another process.
        has_tables: it speaks SQL. The statements here are plain: every name in lower case, unquoted.
    """

    module: str
    keeps_rows = True
    has_tables = True

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        """Prepare an empty destination; `request` gives access to fixtures such as a server."""

    def make(self) -> Destination:
        """The destination, made anew."""
        return self.place.make()

    drop = "DROP TABLE {}"
    """The statement that drops a table that views read."""

    @property
    def place(self) -> Place:
        """How another process makes the same destination."""
        raise NotImplementedError

    def settle(self) -> None:
        """Wait until whatever a killed client had under way is over."""

    def column_name(self, name: str) -> str:
        """What the destination calls a column of the staged file."""
        return name

    def takes_name(self, name: str) -> bool:  # noqa: ARG002 - for those that refuse some
        """Whether the destination can have a column of that name; it refuses the others."""
        return True

    def tables(self) -> set[str]:
        """Every table there is, without partitions of others and without dimension tables."""
        raise NotImplementedError

    def read(self, table: str) -> pa.Table:
        """Every row of a table, in any order; the columns in the table's order."""
        raise NotImplementedError

    def rejects(self) -> list[tuple[Any, ...]]:
        """Every row of `taxi_rejects`, sorted."""
        return sorted(zip(*self.read(REJECTS).to_pydict().values(), strict=True))

    def ledger(self) -> list[Load]:
        """Every row of the ledger; none if it does not exist."""
        raise NotImplementedError

    def create_table(self, name: str, columns: Mapping[str, ColumnType]) -> None:
        """Create a table behind the destination's back."""
        raise NotImplementedError

    def execute(self, statement: str) -> None:
        """Run a statement, committed, behind the destination's back."""
        raise NotImplementedError

    def reader(self) -> contextlib.AbstractContextManager[Callable[[str], list[tuple[Any, ...]]]]:
        """A connection of its own that answers queries while somebody publishes."""
        raise NotImplementedError


class RecordingHarness(Harness):
    module = "support.recording"
    keeps_rows = False
    has_tables = False

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        self._made = Recording()

    def make(self) -> Destination:
        return self._made


class DuckDBHarness(Harness):
    module = "flows.destinations.duckdb.destination"

    def __init__(self, directory: Path, request: pytest.FixtureRequest) -> None:
        super().__init__(directory, request)
        self._place = Place("duckdb", directory, {"lock_timeout_seconds": 30})
        self.path = directory / "warehouse.duckdb"

    @property
    def place(self) -> Place:
        return self._place

    def tables(self) -> set[str]:
        if not self.path.exists():
            return set()
        with self.reader() as query:
            return {name for (name,) in query("SELECT table_name FROM duckdb_tables()")} - DIMENSION_TABLES

    def read(self, table: str) -> pa.Table:
        with duckdb.connect(self.path) as connection:
            return connection.sql(f"FROM {table}").to_arrow_table()

    def ledger(self) -> list[Load]:
        if LEDGER not in self.tables():
            return []
        with self.reader() as query:
            query("SET TimeZone = 'UTC'")
            names = ", ".join(f.name for f in fields(Load) if f.name != "loaded_at")
            rows = query(f"SELECT {names}, loaded_at::TIMESTAMP FROM {LEDGER}")
        return [Load(*row[:9], loaded_at=row[-1].replace(tzinfo=dt.UTC), warnings=row[9]) for row in rows]

    def create_table(self, name: str, columns: Mapping[str, ColumnType]) -> None:
        defined = ", ".join(f'"{column}" {kind.duckdb}' for column, kind in columns.items())
        self.execute(f"CREATE TABLE {name} ({defined})")

    def execute(self, statement: str) -> None:
        with self.reader() as query:
            query(statement)

    @contextlib.contextmanager
    def reader(self) -> Generator[Callable[[str], list[tuple[Any, ...]]]]:
        self.path.parent.mkdir(exist_ok=True)
        with duckdb.connect(self.path) as connection:
            yield lambda sql: connection.execute(sql).fetchall()


HARNESSES: dict[str, type[Harness]] = {
    "duckdb": DuckDBHarness,
    "recording": RecordingHarness,
}


# What a destination holds


def assert_holds(harness: Harness, *months: StagedMonth) -> None:
    """The destination holds exactly these months: every row, every value, every type, the ledger."""
    destination = harness.make()
    for staged in months:
        load = destination.loaded(staged.month)
        assert load is not None, f"{staged.month.label} is not there"
        assert load == replace(Load.of(staged), loaded_at=load.loaded_at)
    if not harness.keeps_rows:
        return
    keys = sorted((load.dataset, load.file_month) for load in harness.ledger())
    assert keys == sorted((staged.month.color, staged.month.first_day) for staged in months)
    by_table: dict[str, list[StagedMonth]] = defaultdict(list)
    for staged in months:
        by_table[staged.month.dataset.table].append(staged)
    assert harness.tables() == {LEDGER, REJECTS, *by_table}
    for table, its_months in by_table.items():
        _assert_same_rows(harness, harness.read(table), [pq.read_table(m.path) for m in its_months])


def _assert_same_rows(harness: Harness, found: pa.Table, staged: list[pa.Table]) -> None:
    staged = [part.rename_columns(list(map(harness.column_name, part.column_names))) for part in staged]
    types = {column.name: column.type for part in staged for column in part.schema}
    assert {column.name: column.type for column in found.schema} == types
    expected = sorted(row for part in staged for row in rows_of(part, list(types)))
    assert found.num_rows == len(expected)
    assert rows_of(found, list(types)) == expected


def rows_of(table: pa.Table, names: Sequence[str]) -> list[str]:
    """The rows as text, sorted; -0.0 is not 0.0, and null is not the empty text."""
    nulls = [None] * table.num_rows
    columns = [table[name].to_pylist() if name in table.column_names else nulls for name in names]
    return sorted(map(repr, zip(*columns, strict=True)))


def declared_comments(dataset: Dataset) -> dict[str, str | None]:
    """What a warehouse says about each column of a dataset's table, of the views and the dimension tables."""
    items = {
        item.name: {c.name: c.comment for c in item.columns} for item in (*dimensions(), *taxi_views({}))
    }
    items[dataset.table] = dataset.comments(dataset.types())
    return {f"{name}.{column}": text for name, texts in items.items() for column, text in texts.items()}


def answers(warehouse: Any) -> dict[str, list[str]]:  # noqa: ANN401 - a destination that answers queries
    """What a warehouse answers to the queries of the report, in any order of the rows."""
    queries = report_queries()
    answered = warehouse.ask([query.sql for query in queries.values()], RELATIONS)
    return {name: sorted(map(repr, rows)) for name, rows in zip(queries, answered, strict=True)}


# Readers


@dataclass(frozen=True)
class Readers:
    """What threads have read so far.

    Attributes:
        counts: how often each of them saw what.
        tasks: end only with the block, unless a reader fails.
    """

    counts: list[Counter[Any]]
    tasks: list[Future[None]]

    def reads(self) -> int:
        """How many reads there have been; raises what a reader has raised."""
        for task in self.tasks:
            if task.done():
                task.result()
        return sum(mine.total() for mine in self.counts)

    def seen(self) -> Counter[Any]:
        """How often all of them saw what; to be asked after the block."""
        return sum(self.counts, Counter[Any]())


@contextlib.contextmanager
def keep_reading(
    reader: Callable[[], contextlib.AbstractContextManager[Callable[[], object]]], count: int = 1
) -> Generator[Readers]:
    """Threads that read again and again until the block ends, each with a reader of its own."""
    done = threading.Event()

    def read(mine: Counter[Any]) -> None:
        with reader() as look:
            while not done.is_set():
                mine[look()] += 1

    counts = [Counter[Any]() for _ in range(count)]
    with ThreadPoolExecutor(count) as pool:
        readers = Readers(counts, [pool.submit(read, mine) for mine in counts])
        try:
            yield readers
        finally:
            done.set()
    readers.reads()


@contextlib.contextmanager
def asking(harness: Harness, question: str) -> Generator[Callable[[], tuple[Any, ...]]]:
    """A reader for `keep_reading`: the first row that answers a query, over a connection of its own."""
    with harness.reader() as query:
        yield lambda: query(question)[0]


# Other processes

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        *("pytest", "flows.destinations.duckdb.destination", "flows.staging"),
        *("flows.destinations.bigquery.load_job", "flows.destinations.gcs.month_object"),
        "flows.destinations.iceberg.destination",
        *("sqlglot", "gcp_storage_emulator.server"),  # NOTE: before Python 3.13 not `support` itself
    ]
)


class Apart:
    """A function of this module, or of another that can be imported, running in a process of its own.

    It is called with its end of a pipe and the arguments. Ends with the block: killed if still running.
    """

    def __init__(self, function: Callable[..., None], *arguments: object) -> None:
        self.pipe, self._its_pipe = _context.Pipe()
        self.process = _context.Process(target=function, args=(self._its_pipe, *arguments), daemon=True)

    def __enter__(self) -> Self:
        self.process.start()
        self._its_pipe.close()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self.process.close()
        self.pipe.close()

    def hear(self) -> Any:  # noqa: ANN401 - whatever that function sends
        """The next thing it sends; raised if it is an exception."""
        assert self.pipe.poll(LONGEST_WAIT_SECONDS), "the other process says nothing"
        heard = self.pipe.recv()
        if isinstance(heard, BaseException):
            raise heard
        return heard

    def tell(self, what: object = None) -> None:
        self.pipe.send(what)

    def kill(self) -> None:
        """SIGKILL, and wait until it is dead."""
        self.process.kill()
        self.wait()

    def wait(self) -> int | None:
        """Wait until it has ended; its exit code."""
        self.process.join(LONGEST_WAIT_SECONDS)
        return self.process.exitcode


def publish_when_told(pipe: Connection, place: Place, months: Sequence[StagedMonth]) -> None:
    """Say that it is ready, wait for the word, publish; sends the receipts or the error."""
    destination = place.make()
    pipe.send("ready")
    pipe.recv()
    try:
        pipe.send([destination.publish(staged) for staged in months])
    except Exception as error:  # noqa: BLE001 - raised again by `Apart.hear`
        pipe.send(error)


def publish_for_ever(pipe: Connection, place: Place, months: Sequence[StagedMonth]) -> None:
    """Publish one after the other, over and over; sends how many seconds each took."""
    destination = place.make()
    for staged in itertools.cycle(months):
        started = time.perf_counter()
        destination.publish(staged, force=True)
        pipe.send(time.perf_counter() - started)


def die_while_publishing(pipe: Connection, place: Place, module: str, staged: StagedMonth) -> None:
    """Be killed when the rows have been written and counted, and nothing is committed."""
    destination = place.make()
    with mock.patch.object(importlib.import_module(module), "reconcile", _be_killed):
        destination.publish(staged, force=True)


def die_before_the_views(_: Connection, place: Place, staged: StagedMonth) -> None:
    """Be killed when the month is published and the views are not."""
    with mock.patch("transforms.sql.render", _be_killed):
        place.make().publish(staged)


def _be_killed(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
