"""What a step writes and from what, as Prefect assets: source file -> Parquet file -> table.

Prefect records this lineage as events (`prefect.asset.materialization.succeeded`), so that the events of a
table tell which files its rows came from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prefect.assets import Asset, AssetProperties
from prefect.context import AssetContext

from flows.sources import without_secrets

if TYPE_CHECKING:
    from transforms.trip_month import TripMonth

MAX_KEY_CHARACTERS = 512  # Prefect's limit
_REFUSED = re.compile(r"[\s\0#?&%\"'<>\[\]{}|\\^`]")


def source_asset(url: str) -> Asset:
    """Describe the file at the source.

    Args:
        url: of the file; secrets in it are removed.

    Returns:
        The asset.
    """
    return Asset(key=_key(without_secrets(url)))


def staged_asset(path: Path, month: TripMonth) -> Asset:
    """Describe the staged Parquet file of a month.

    Args:
        path: of the file.
        month: the month.

    Returns:
        The asset.
    """
    return Asset(
        key=_key(path.absolute().as_uri()),
        properties=AssetProperties(name=path.name, description=f"{month.label}, verified and typed"),
    )


def table_asset(destination: str, month: TripMonth) -> Asset:
    """Describe the table of a dataset in a warehouse, or its folder in the bucket.

    Args:
        destination: its name.
        month: any month of the dataset.

    Returns:
        The asset.
    """
    return Asset(
        key=_key(f"{destination}://{month.dataset.table}"),
        properties=AssetProperties(name=f"{month.dataset.table} in {destination}"),
    )


def note_rows(asset_key: str, **facts: Any) -> None:  # noqa: ANN401 - any JSON value
    """Attach facts to an asset that the current task writes; outside such a task, do nothing.

    Args:
        asset_key: `Asset.key`.
        facts: JSON values by name.
    """
    context = AssetContext.get()
    if context and any(asset.key == asset_key for asset in context.downstream_assets):
        context.add_asset_metadata(asset_key, facts)


def _key(uri: str) -> str:
    """The URI as a key, with the characters that Prefect refuses replaced."""
    return _REFUSED.sub("_", uri)[:MAX_KEY_CHARACTERS]
