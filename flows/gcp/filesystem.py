"""The file system of Google's buckets, through which `gs://` sources are read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gcsfs.core import GCSFileSystem

    from flows.gcp.credentials import GoogleIdentity

# NOTE: read when gcsfs is imported; otherwise it probes each bucket by gRPC, an emulator for up to a minute.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
# Otherwise google-cloud-storage fetches the metadata of each bucket in another thread, for unused traces.
os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


def endpoint_url(emulator: str) -> str:
    """The URL of an emulator that may be given as `host:port`.

    Args:
        emulator: `host:port`, or a URL.
    """
    return (emulator if "://" in emulator else f"http://{emulator}").rstrip("/")


def bucket_files(identity: GoogleIdentity | None, emulator: str | None = None) -> GCSFileSystem:
    """Make a file system with a connection of its own; nothing is sent yet.

    Args:
        identity: signed in; None for anonymous access, which public buckets allow.
        emulator: endpoint of an emulator to use instead of Google, with or without `http://`.

    Returns:
        The file system, shared with no other caller.
    """
    from gcsfs.core import GCSFileSystem

    return GCSFileSystem(
        project=(identity and identity.project) or "",
        access="read_write",
        token="anon" if identity is None or identity.is_anonymous else identity.credentials,
        endpoint_url=endpoint_url(emulator) if emulator else None,
        # A proxy named in the environment is meant for the internet, not for an emulator.
        session_kwargs={"trust_env": not emulator},
        skip_instance_cache=True,
    )
