"""Who we are at Google, and the file system of its buckets."""

from flows.gcp.credentials import GoogleIdentity, NoCredentials, google_credentials, key_text
from flows.gcp.filesystem import GCSFileSystem, HttpError, bucket_files

__all__ = [
    "GCSFileSystem",
    "GoogleIdentity",
    "HttpError",
    "NoCredentials",
    "bucket_files",
    "google_credentials",
    "key_text",
]
