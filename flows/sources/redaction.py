"""Source addresses that hold a secret: what may be shown and stored in their place.

The Prefect server stores a flow's parameters and shows them in its UI. So the command line passes an address
without its user, password and query but with a mark, and only this process knows the complete address.
"""

from __future__ import annotations

import hashlib
import re

from flows.errors import UsageError

MARK = "?private="

_complete_urls: dict[str, str] = {}


def without_secrets(url: str) -> str:
    """Remove the parts of an address that may hold a secret.

    Args:
        url: a source: a name, a path, a URL or a template.

    Returns:
        The URL without user, password and query (signed URLs carry their key there); other sources as given.
    """
    if "://" not in url or url.startswith("synthetic:"):
        return url
    return re.sub(r"(?<=://)[^/?#]*@", "", url).partition("?")[0]


def redact(url: str) -> str:
    """Replace the secret parts of an address by a mark, from which this process can `restore` it.

    Args:
        url: a source: a name, a path, a URL or a template.

    Returns:
        The marked address; the source as given if it holds no secret.
    """
    public = without_secrets(url)
    if public == url or MARK in url:
        return url
    marked = f"{public}{MARK}{hashlib.sha256(url.encode()).hexdigest()[:12]}"
    _complete_urls[marked] = url
    return marked


def restore(url: str) -> str:
    """Look up the complete address of a marked one.

    Args:
        url: what `redact` returned.

    Returns:
        The address that was redacted; a source without a mark as given.

    Raises:
        UsageError: another process redacted it.
    """
    if MARK not in url:
        return url
    if url not in _complete_urls:
        raise UsageError(
            f"the rest of {without_secrets(url)!r} is known only to the command it was given to; give the "
            "whole address, or one without user, password and query"
        )
    return _complete_urls[url]
