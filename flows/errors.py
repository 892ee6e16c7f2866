"""The errors that a run can end with. A retry depends on one question only: is the error `Transient`?

TaxiError                       one line: what was wrong, the legal values, the next step
├── UsageError                  the call itself is wrong; exit code 2, before anything starts
├── Transient                   the same call may succeed later
│   ├── SourceBusy              the server answered 5xx or 429, stalled or hung up, repeatedly
│   └── DestinationBusy         locked by another process, restarting, or out of connections
│       └── LockTimeout         locked for as long as the settings allow to wait; not retried
└── Terminal                    the same call would fail in the same way
    ├── SourceNotFound          404, 403, no such file
    ├── SourceUnreachable       no network, no such host
    ├── SourceCorrupt           not the expected file: HTML, empty, truncated, wrong checksum
    ├── SchemaDrift             undeclared columns, or a table of another shape
    ├── TooManyRejects          more rows rejected than allowed, or no valid row at all
    ├── GateFailed              a measure of the month is beyond its threshold
    ├── QualityReportFailed     the report of a month that is itself whole
    ├── ReconciliationError     two counts of the same rows differ
    ├── DestinationRefused      wrong password, no such host or database, missing permission
    ├── ServerNotStarted        the temporary Prefect server does not come up
    ├── Stopped                 the run was interrupted, by Ctrl-C or SIGTERM
    ├── LocalStorageError       disk full, read-only, no permission, a damaged local file
    └── MonthFailed, MonthsFailed   the failure of a month and of a run (`flows.month.outcome`)
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator


class TaxiError(Exception):
    """Base class of all errors whose message is written for users.

    Attributes:
        most_attempts: upper limit for the attempts that the settings allow; None: no limit of its own.
        problem: what was wrong.
        next_step: what to do about it, if it was given by itself.
        message: the whole line: what was wrong, the legal values, the next step.
        where: what failed, such as `yellow 2021-01` or `yellow 2021-01 -> duckdb`; set by `error_context`.
    """

    most_attempts: int | None = None

    def __init__(self, message: str, next_step: str = "") -> None:
        """Keep the message as one line.

        Args:
            message: line breaks in it are replaced by blanks.
            next_step: what to do, follows after a semicolon. Given by itself where the program may do it: a
                line that announces another attempt leaves it out.
        """
        self.problem = " ".join(message.split())
        self.next_step = next_step
        self.message = f"{self.problem}; {next_step}" if next_step else self.problem
        self.where = ""
        super().__init__(self.message)

    def __str__(self) -> str:
        """`where: message`."""
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(TaxiError):
    """The call is wrong; nothing was started.

    Cure: correct what the line names; it lists the legal values. `--help` has all options.
    """


class Transient(TaxiError):
    """The same call may succeed later.

    Attributes:
        retry_after_seconds: the pause that the server asked for; 0 if it did not.
    """

    retry_after_seconds = 0.0


class Terminal(TaxiError):
    """The same call would fail in the same way."""


class SourceBusy(Transient):
    """The source failed repeatedly, in a way that may pass.

    Cure: run the same command later; it goes on from where it stopped. TAXI_HTTP_ATTEMPTS allows more tries.
    """


class DestinationBusy(Transient):
    """The destination is locked or not ready.

    Cure: run the same command again once the other program is done, or the server is up.
    """


class LockTimeout(DestinationBusy):
    """A lock was not released within the lock time-out; retries would only multiply the wait.

    Cure: end the program that holds the lock, or raise TAXI_LOCK_TIMEOUT_SECONDS.
    """


class SourceNotFound(Terminal):
    """The source has no such file.

    Cure: ask for a month that it has (`--latest 3` finds the newest), or name another `--source`.
    """


class SourceUnreachable(Terminal):
    """No connection to the source could be established.

    Cure: check the network and the proxy. `--source synthetic` needs neither.
    """

    most_attempts = 3  # a host name that does not resolve rarely starts to while we wait


class SourceCorrupt(Terminal):
    """The download is not a complete trip file.

    Cure: open the URL in a browser: often it is an error page. Correct `--source`, or run the command again.
    """


class SchemaDrift(Terminal):
    """The columns of a file or a table are not the declared ones.

    Cure: `--allow-new-columns` keeps new ones as text; a table of another shape has to be renamed or dropped.
    """


class TooManyRejects(Terminal):
    """Too few of a month's rows are valid.

    Cure: read the `.rejects.parquet` file, then correct the source or raise `--max-reject-ratio`.
    """


class ServerNotStarted(Terminal):
    """The temporary Prefect server ended or hung while it was starting.

    Cure: read the log it names; `--runner direct` needs no server.
    """


class Stopped(Terminal):
    """The run was interrupted.

    Cure: run the same command again; what is published stays.
    """


class GateFailed(Terminal):
    """The month is readable, but cannot be right.

    Cure: look at the file; `--accept MEASURE` publishes it this once, TAXI_GATES changes the threshold.
    """


class QualityReportFailed(Terminal):
    """The quality report of a month cannot be computed; the month itself is whole.

    Cure: read the traceback in the log, and run again with `--force` for a new report.
    """


class ReconciliationError(Terminal):
    """Two independent counts of the same rows differ.

    Cure: run it again with `--force`; if it comes back, report it, with the log: nothing was published.
    """


class DestinationRefused(Terminal):
    """The destination refuses until its configuration or the request is changed.

    Cure: correct the password, the address or the permission that the line names.
    """


class LocalStorageError(Terminal):
    """The local disk cannot be read or written.

    Cure: make room, or choose another directory with `--data-dir`.
    """


@contextlib.contextmanager
def error_context(where: str) -> Generator[None]:
    """Add to errors raised inside the block what failed; of nested blocks the innermost wins.

    Args:
        where: such as `yellow 2021-01 -> duckdb`.

    Raises:
        LocalStorageError: in place of any `OSError` of the operating system.
    """
    try:
        yield
    except TaxiError as error:
        error.where = error.where or where
        raise
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        storage_error = LocalStorageError(
            f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}; "
            "make room or give the run a directory it may write to (--data-dir), then run it again"
        )
        storage_error.where = where
        raise storage_error from error
