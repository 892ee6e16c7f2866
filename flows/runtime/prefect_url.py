"""Whether a Prefect server is temporary: the one that this process has started for a single run.

Workers cannot reach such a server, and nobody has set limits on it. This module knows addresses only; Prefect
itself is imported by others.
"""

from __future__ import annotations

_temporary: set[str] = set()


def note_temporary_server(url: str) -> None:
    """Remember that the server at an address is temporary.

    Args:
        url: of its API.
    """
    _temporary.add(url)


def is_temporary_server(url: str | None) -> bool:
    """Whether runs are told to a temporary server.

    Args:
        url: of the API that Prefect is configured to use; None: Prefect starts one when it needs it.
    """
    return url is None or url in _temporary
