"""Where trips come from: the catalogue of URLs, the landing of files, and synthetic trips."""

from typing import TYPE_CHECKING

from flows.runtime import lazy_face

if TYPE_CHECKING:
    from flows.sources.catalogue import (
        PUBLISHERS,
        SYNTHETIC,
        SourceFile,
        check_months,
        check_open_ended,
        locate_source,
    )
    from flows.sources.csv_census import GZIP_MAGIC
    from flows.sources.landed_file import LandedFile, find_landed
    from flows.sources.landing import land
    from flows.sources.probe import CONCURRENT_PROBES, newest_months, probe_source
    from flows.sources.redaction import redact, without_secrets

__getattr__ = lazy_face(__name__)

__all__ = [
    "CONCURRENT_PROBES",
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
    "without_secrets",
]
