"""Where data comes from: the catalogue of URLs, the landing, and synthetic trips."""

from flows.sources.catalogue import PUBLISHERS, SYNTHETIC, SourceFile, check_months, locate_source
from flows.sources.inspection import GZIP_MAGIC
from flows.sources.landed import LandedFile, find_landed
from flows.sources.landing import land, source_version
from flows.sources.probe import ASKED_AT_ONCE, check_open_ended, newest_months, probe_source
from flows.sources.redaction import redact, without_secrets

__all__ = [
    "ASKED_AT_ONCE",
    "GZIP_MAGIC",
    "PUBLISHERS",
    "SYNTHETIC",
    "LandedFile",
    "SourceFile",
    "check_months",
    "check_open_ended",
    "find_landed",
    "land",
    "locate_source",
    "newest_months",
    "probe_source",
    "redact",
    "source_version",
    "without_secrets",
]
