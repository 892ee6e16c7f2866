"""The way to Google Cloud Storage for everybody here: gcsfs, with our credentials and our settings."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

# With it, gcsfs probes every bucket by gRPC, for up to a minute at an emulator. Read at the import below.
os.environ.setdefault("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

from gcsfs.core import GCSFileSystem
from gcsfs.retry import HttpError

__all__ = ["GCSFileSystem", "HttpError", "bucket_files"]  # nobody else imports gcsfs

if TYPE_CHECKING:
    from flows.gcp.credentials import GoogleIdentity


def bucket_files(identity: GoogleIdentity | None, emulator: str | None = None) -> GCSFileSystem:
    """A connection of one's own; nothing is sent yet.

    Args:
        identity: signed in; None: nobody, which a public bucket is content with.
        emulator: endpoint to talk to instead of Google, with or without http://.
    """
    endpoint = emulator if emulator is None or "://" in emulator else f"http://{emulator}"
    return GCSFileSystem(
        project=(identity and identity.project) or "",
        access="read_write",
        token="anon" if identity is None or identity.is_anonymous else identity.credentials,
        endpoint_url=endpoint.rstrip("/") if endpoint else None,
        # A proxy that the environment names is meant for the internet.
        session_kwargs={"trust_env": not emulator},
        skip_instance_cache=True,
    )
