"""Names in SQL statements."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Quote a name.

    Args:
        name: with any characters.

    Returns:
        The name as an SQL identifier.
    """
    return '"' + name.replace('"', '""') + '"'
