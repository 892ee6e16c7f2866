"""What a step makes and from what, as Prefect assets: source file -> Parquet file -> table.

Prefect records it as events (`prefect.asset.materialization.succeeded`, with what it was made from beside
it), so that the events of a table say which files it came from.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext

from flows.sources import without_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.trip_month import TripMonth

MOST_CHARACTERS = 512
"""Of a key; Prefect's bound."""

_REFUSED = re.compile(r"[\s\0#?&%\"'<>\[\]{}|\\^`]")


def source_asset(url: str) -> Asset:
    """The file at its source, without anything secret."""
    return Asset(key=_key(without_secrets(url)))


def staged_asset(path: Path, month: TripMonth) -> Asset:
    """The staged Parquet file of a month."""
    return Asset(
        key=_key(path.absolute().as_uri()),
        properties=AssetProperties(name=path.name, description=f"{month.label}, verified and typed"),
    )


def table_asset(destination: str, month: TripMonth) -> Asset:
    """The table of a dataset in a warehouse, or its folder in the bucket."""
    return Asset(
        key=_key(f"{destination}://{month.dataset.table}"),
        properties=AssetProperties(name=f"{month.dataset.table} in {destination}"),
    )


def note_rows(asset_key: str, **facts: Any) -> None:  # noqa: ANN401 - whatever JSON can hold
    """Add facts to the asset that the running task makes; nothing outside a task."""
    context = AssetContext.get()
    if context and any(asset.key == asset_key for asset in context.downstream_assets):
        context.add_asset_metadata(asset_key, facts)


def _key(uri: str) -> str:
    """The URI with what Prefect refuses in a key replaced."""
    return _REFUSED.sub("_", uri)[:MOST_CHARACTERS]
