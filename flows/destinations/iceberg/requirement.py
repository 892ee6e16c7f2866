"""The extra `iceberg`: imported before everything else here, so that one line says if it is not installed."""

from __future__ import annotations

from importlib import import_module

from flows.errors import UsageError

EXTRA = "taxi-etl[iceberg]"
"""What to install."""

try:
    import_module("pyiceberg")
except ModuleNotFoundError:
    raise UsageError(f"--to iceberg needs the extra `iceberg`; pip install '{EXTRA}'") from None
