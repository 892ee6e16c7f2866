"""Writes `flows/cli/prefect_schema.sql` from Prefect's migrations: `make schema`, for another Prefect."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCHEMA = ROOT / "flows" / "cli" / "prefect_schema.sql"


def migrated_database(home: Path) -> Path:
    """A new database, made by Prefect's migrations."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    subprocess.run(
        [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"],
        env=others | {"PREFECT_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return home / "prefect.db"


def schema_of(database: Path) -> str:
    """Tables, indexes, triggers and the revision of a database as SQL, with the version of Prefect on top."""
    import prefect

    with contextlib.closing(sqlite3.connect(database)) as connection:
        statements = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        lines = [f"{sql};" for (sql,) in statements]
        [(revision,)] = connection.execute("SELECT version_num FROM alembic_version")
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        filled = [name for (name,) in tables if connection.execute(f'SELECT 1 FROM "{name}"').fetchone()]
    assert filled == ["alembic_version"]  # otherwise the rows have to be written too
    header = f"-- Prefect {prefect.__version__}, revision {revision}"
    note = "-- What Prefect's migrations make of an empty SQLite database; written by `make schema`."
    insert = f"INSERT INTO alembic_version (version_num) VALUES ('{revision}');"
    return "\n".join([header, note, *lines, insert]) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        SCHEMA.write_text(schema_of(migrated_database(Path(home))), encoding="utf-8")
