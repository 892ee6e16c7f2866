"""What the pages of `support.reference` say between their tables."""

from flows.destinations import LEDGER, REJECTS

COMMANDS = """\
# Commands

In a checkout the program is `.venv/bin/taxi-etl`; installed, it is `taxi-etl`. `python -m taxi_etl` is the
same.
"""
SHARED = """\
`server` and `completion` have `--help` alone. Exit codes: [exit-codes.md](exit-codes.md). Settings behind the
defaults: [settings.md](settings.md).
"""
SETTINGS = """\
# Settings

A setting comes from the environment, from `.env` or from `taxi.toml`, in this order; both files are looked
for in the current directory. `TAXI_CONCURRENCY=4` becomes `concurrency = 4` in `taxi.toml`:

```toml
to = ["duckdb", "postgres"]        # TAXI_TO: the default of --to, for deployments too
postgres_url = "embedded"
duckdb_memory_mb = 1024
```

`.venv/bin/taxi-etl settings` prints the values in force and where each comes from; secrets are hidden.

"""
DATA = """\
# Data dictionary

Every column of every dataset, as all warehouses have it. Columns keep the TLC's own names, so that queries
written for the published data run unchanged; `file_month` is added at the end. Spellings of other years
become one. Timestamps are New York time, without a zone.
"""
VIEWS = """\
## Views, zones and codes

Made in DuckDB, Postgres and BigQuery; see [views.md](views.md).
"""
LOADS_INTRO = f"""\
# Ledger and rejects

## {LEDGER}

One row for each month of each dataset, written in the same transaction as the month's rows. A month whose
number of rows is not `row_count` counts as not loaded.

"""
LOADS_NOTES = """
`source` has neither user nor password nor query. `row_count` is -1 while it is not known whether a load
job of BigQuery has ended. `loaded_at` is in UTC. `warnings` are measures beyond their
threshold ([gates.md](gates.md)); null if there were none. In a bucket the ledger is the object's own
metadata, in Iceberg the summary of the snapshot.
"""
REJECTS_INTRO = f"""
## {REJECTS}

One row for each line that was not loaded, replaced together with its month; as many as `rejected_rows`.

"""
REJECTS_NOTES = """
`text` has bytes that are not UTF-8, and NUL, as `\\xff`, and at most the first 16,384 characters.
"""
HEAD_MAY_CLOSE = """
Closing the output early, as `head` does, changes neither the work nor the exit code.

## By command

"""
ERRORS = """\
# Errors

Each is one line: what was wrong, the legal values, the next step. The traceback is in the log, whose path is
printed. A run retries only transient errors by itself.
"""
