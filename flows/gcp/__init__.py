"""Google credentials, and what every client of Google's services here shares."""

from flows.gcp.credentials import (
    GoogleIdentity,
    NoCredentials,
    describe_network_error,
    google_credentials,
    key_text,
)
from flows.gcp.filesystem import bucket_files, endpoint_url

__all__ = [
    "GoogleIdentity",
    "NoCredentials",
    "bucket_files",
    "describe_network_error",
    "endpoint_url",
    "google_credentials",
    "key_text",
]
