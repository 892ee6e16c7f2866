"""Prefect's API server, started faster than Prefect does it, and without 503 answers from SQLite.

A program of its own, run by its path (`make server`, and `flows.cli.prefect_server` for a temporary server),
that needs nothing of this package. It differs from `prefect server start`:

* A transaction of SQLite takes its lock when it begins. Prefect's default is to take it with the first write;
  if another transaction has written in between, SQLite refuses at once. The server then answers 503, and
  Prefect's client waits two seconds and more (PrefectHQ/prefect#18934, #19771).
* A new database is made from `prefect_schema.sql`, which took Prefect's migrations three seconds.
* No garbage is collected while modules are imported, which saves a third of the time, and none by the thread
  that answers requests, which could stall it for a minute (docs/upstream/prefect-sqlite-stall.md).
* A temporary server registers no block types and has no UI. It ends when its standard input does, so it does
  not outlive its parent for long, however that ended.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING

import flows

if TYPE_CHECKING:
    import uvicorn
    from prefect.server.database.configurations import AioSqliteConfiguration
    from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction

UNCOLLECTED_OBJECTS = 10_000
SCHEMA = Path(__file__).with_name("prefect_schema.sql")

COMMON = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Task runs are recorded by the second, not one by one: fewer writes for the others to wait for.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "50",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}

TEMPORARY = {
    # Blocks are found without: saving one registers its type. To compare the registered types with the
    # installed ones, the server would import every collection of Prefect, with Google's clients: a second.
    "PREFECT_API_BLOCKS_REGISTER_ON_START": "false",
    "PREFECT_MEMOIZE_BLOCK_AUTO_REGISTRATION": "false",
}


def parser() -> argparse.ArgumentParser:
    """The options of `taxi-etl server`, and that of a temporary server."""
    made = argparse.ArgumentParser(
        prog=flows.subcommand,
        description="A Prefect server with its UI, until Ctrl-C; PREFECT_SERVER_API_PORT names another port.",
        allow_abbrev=False,
    )
    made.add_argument(
        "--temporary",
        type=int,
        metavar="FD",
        help="serve one run on this listening socket, without a UI, until standard input ends",
    )
    return made


def main() -> None:
    """Serve the API until the process is told to end."""
    listening: int | None = parser().parse_args().temporary
    gc.disable()
    for name, value in (COMMON if listening is None else COMMON | TEMPORARY).items():
        os.environ.setdefault(name, value)

    from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL

    url: str = PREFECT_API_DATABASE_CONNECTION_URL.value()
    with adapted_sqlite(url) if url.startswith("sqlite") else contextlib.nullcontext():
        if listening is None:
            serve_with_ui()
        else:
            serve_one_run(socket.socket(fileno=listening))


def serve_with_ui() -> None:
    """Serve API and UI at the host and port of Prefect's settings, with all services, until Ctrl-C."""
    import uvicorn
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    settings = get_current_settings().server
    config = uvicorn.Config(
        create_app(final=True),
        host=settings.api.host,
        port=settings.api.port,
        log_level=settings.logging_level.lower(),
        timeout_keep_alive=settings.api.keepalive_timeout,
        lifespan="on",
    )
    print(
        f"Prefect's UI: http://{config.host}:{config.port}; for runs: "
        f"PREFECT_API_URL=http://{config.host}:{config.port}/api",
        file=sys.stderr,
    )
    collect_garbage_apart()
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()


def serve_one_run(listening: socket.socket) -> None:
    """Serve the API alone until standard input ends.

    Args:
        listening: where clients are already waiting.
    """
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="on"))
    threading.Thread(target=stop_after_parent, args=(server,), daemon=True).start()
    collect_garbage_apart()
    server.run(sockets=[listening])


def stop_after_parent(server: uvicorn.Server) -> None:
    """Stop the server when standard input ends: the parent has closed it, or is gone.

    Args:
        server: which one.
    """
    while os.read(sys.stdin.fileno(), 1024):
        pass
    server.should_exit = True


def collect_garbage_apart() -> None:
    """Collect garbage from now on, in a thread of its own; what was imported is never looked through again.

    To collect a cursor of SQLite, Python resets its statement, and waits for it if its connection is waiting
    for the database's lock. The thread that answers requests would then never answer the one that holds it.
    """
    gc.freeze()
    threading.Thread(target=collect_garbage, daemon=True).start()


def collect_garbage() -> None:
    """Check every second whether enough new objects have accumulated."""
    while True:
        time.sleep(1)
        if gc.get_count()[0] > UNCOLLECTED_OBJECTS:
            gc.collect()


@contextlib.contextmanager
def adapted_sqlite(url: str) -> Generator[None]:
    """Let servers made inside the block use transactions that wait, and a database that is there already.

    Args:
        url: of the database.
    """
    import prefect
    from prefect.server.database.dependencies import temporary_database_config
    from prefect.settings import PREFECT_API_DATABASE_MIGRATE_ON_START, temporary_settings

    is_current = prepare_database(url, prefect.__version__)
    with (
        temporary_settings({PREFECT_API_DATABASE_MIGRATE_ON_START: False} if is_current else {}),
        temporary_database_config(locking_configuration(url)),
    ):
        yield


def locking_configuration(url: str) -> AioSqliteConfiguration:
    """Prefect's configuration of SQLite, with transactions that take the lock when they begin.

    Such a transaction waits for its turn (`busy_timeout`) instead of failing. Plain reads begin no
    transaction and run side by side as before.

    Args:
        url: of the database.
    """
    from prefect.server.database.configurations import AioSqliteConfiguration

    class LockingConfiguration(AioSqliteConfiguration):
        @contextlib.asynccontextmanager
        async def begin_transaction(
            self,
            session: AsyncSession,
            with_for_update: bool = False,  # noqa: ARG002 - Prefect's signature
        ) -> AsyncGenerator[AsyncSessionTransaction, None]:
            async with super().begin_transaction(session, with_for_update=True) as transaction:
                yield transaction

    return LockingConfiguration(connection_url=url)


def prepare_database(url: str, version: str) -> bool:
    """Create the database if it does not exist.

    Args:
        url: of the SQLite database.
        version: of Prefect.

    Returns:
        Whether its tables are those of this version. Prefect's migrations have to run if another version has
        made it, if `prefect_schema.sql` is of another version, and if it is in memory.
    """
    from sqlalchemy import make_url

    name, schema = make_url(url).database, SCHEMA.read_text(encoding="utf-8")
    made_by, revision = schema.partition("\n")[0].removeprefix("-- Prefect ").split(", revision ")
    if made_by != version or not name or ":memory:" in name or name.startswith("file:"):
        return False
    database = Path(name)
    if not database.exists():
        create_database(database, schema)
    return database.exists() and revision_of(database) == revision


def create_database(path: Path, schema: str) -> None:
    """Create a database; it appears under its name when it is complete, unless another process was faster.

    Args:
        path: where.
        schema: its tables and indexes in SQL.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.unlink(missing_ok=True)  # of a process that was killed and had this number
    try:
        with contextlib.closing(sqlite3.connect(part)) as connection:
            # In this mode from the start: servers that start at the same time would dispute the change to it.
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(f"BEGIN; {schema} COMMIT;")
        # Unlike a rename, it never replaces a database. Where there are no links, Prefect makes its own.
        with contextlib.suppress(OSError):
            path.hardlink_to(part)
    finally:
        for name in (part, Path(f"{part}-wal"), Path(f"{part}-shm")):
            name.unlink(missing_ok=True)


def revision_of(database: Path) -> str | None:
    """The revision of Prefect's migrations that a database has; None if it cannot be told.

    Args:
        database: which one.
    """
    with contextlib.closing(sqlite3.connect(database, timeout=60)) as connection:
        try:
            rows: list[tuple[str]] = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.DatabaseError:  # empty, or no database: the server has the words for that
            return None
    return rows[0][0] if len(rows) == 1 else None


if __name__ == "__main__":
    main()
