"""Addresses with a key in them: what may be shown and stored in their place.

A flow's parameters are stored by the Prefect server and shown in its UI to whoever may look. So the command
line hands over an address without user, password and query, and a mark; only this process knows the whole.
"""

from __future__ import annotations

import hashlib
import re

from flows.errors import UsageError

MARK = "?private="

_known: dict[str, str] = {}


def without_secrets(url: str) -> str:
    """The URL or template without user, password and query, in which signed URLs carry their key."""
    if "://" not in url or url.startswith("synthetic:"):
        return url
    return re.sub(r"(?<=://)[^/?#]*@", "", url).partition("?")[0]


def redact(url: str) -> str:
    """The URL or template with a mark in place of what is secret, as it is if nothing is."""
    shown = without_secrets(url)
    if shown == url or MARK in url:
        return url
    marked = f"{shown}{MARK}{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    _known[marked] = url
    return marked


def restore(url: str) -> str:
    """The URL or template behind a mark.

    Raises:
        UsageError: it was hidden by another process.
    """
    if MARK not in url:
        return url
    if url not in _known:
        raise UsageError(
            f"the rest of {without_secrets(url)!r} is known only to the command it was given to; give the "
            "whole address, or one without user, password and query"
        )
    return _known[url]
