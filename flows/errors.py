"""Every error a run can end with. A retry never guesses: it asks whether the error is Transient.

TaxiError                       one line: what was wrong, the legal values, the next step
├── UsageError                  the call itself is wrong; exit code 2, before anything starts
├── Transient                   worth trying again as it is
│   ├── SourceBusy              the server said 5xx or 429, stalled or hung up, and kept doing so
│   └── DestinationBusy         locked by somebody else, restarting, out of connections
│       └── LockTimeout        and has been for as long as the settings allow; not tried again
└── Terminal                    the same call would fail the same way
    ├── SourceNotFound          404, 403, no such file
    ├── SourceUnreachable       no network, no such host
    ├── SourceCorrupt           what arrived is not the file: HTML, empty, truncated, bad checksum
    ├── SchemaDrift             columns nobody declared, or a table of another shape
    ├── TooManyRejects          more rows rejected than allowed, or no good row at all
    ├── ReconciliationError     two counts of the same rows differ
    ├── DestinationRefused      wrong password, no such host or database, no right to do it
    ├── Stopped                 Ctrl-C
    ├── LocalStorageError       disk full, read-only, no permission, a damaged local file
    └── MonthFailed, MonthsFailed   the verdict on a month and on a run (`flows.month.outcome`)
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


class TaxiError(Exception):
    """Base of all errors with a message for people.

    Attributes:
        most_attempts: where trying again is known to help less than the settings say; None: they decide.
        message: what was wrong, the legal values, the next step, in one line.
        where: what it happened to, for example `yellow 2021-01` or `yellow 2021-01 -> duckdb`;
            filled in by `locate`, in one place.
    """

    most_attempts: int | None = None

    def __init__(self, message: str) -> None:
        """Keep the message; folds line ends so that it stays one line."""
        self.message = " ".join(message.split())
        self.where = ""
        super().__init__(self.message)

    def __str__(self) -> str:
        """`where: message`."""
        return f"{self.where}: {self.message}" if self.where else self.message


class UsageError(TaxiError):
    """The call is wrong; nothing was started."""


class Transient(TaxiError):
    """Worth trying again as it is.

    Attributes:
        retry_after_seconds: the pause the server asked for; 0 if it asked for none.
    """

    retry_after_seconds = 0.0


class Terminal(TaxiError):
    """Trying again changes nothing."""


class SourceBusy(Transient):
    """The source kept failing in a way that may pass."""


class DestinationBusy(Transient):
    """The destination is locked or not ready."""


class LockTimeout(DestinationBusy):
    """A lock was not free within the lock time-out; waiting once more would only multiply it."""


class SourceNotFound(Terminal):
    """The source has no such file."""


class SourceUnreachable(Terminal):
    """No connection to the source could be made at all."""

    most_attempts = 3  # a name that does not resolve rarely starts to while somebody waits


class SourceCorrupt(Terminal):
    """What arrived is not a whole trip file."""


class SchemaDrift(Terminal):
    """The columns of a file or of a table are not the declared ones."""


class TooManyRejects(Terminal):
    """Too few of the rows fit."""


class Stopped(Terminal):
    """Somebody asked the run to stop."""


class ReconciliationError(Terminal):
    """Two independent counts of the same rows differ."""


class DestinationRefused(Terminal):
    """The destination will not have it until somebody changes something there."""


class LocalStorageError(Terminal):
    """The local disk refused."""


@contextlib.contextmanager
def error_context(where: str) -> Generator[None]:
    """Say what a `TaxiError` raised inside happened to; the innermost place wins."""
    try:
        yield
    except TaxiError as error:
        error.where = error.where or where
        raise
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        refused = LocalStorageError(
            f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}; "
            "make room or give the run a directory it may write to (--data-dir), then run it again"
        )
        refused.where = where
        raise refused from error
