"""What the user asks for: one frozen request, built and checked once, before anything starts."""

from flows.request.load_request import (
    LoadRequest,
    already_checked,
    check_color,
    check_destinations,
    check_measures,
    checked_request,
)
from flows.request.parameters import Color, Count, IsoMonth, Month, Ratio, Year, with_parameters_of
from flows.request.read_blocks import (
    BUCKET_BLOCK,
    CREDENTIALS_BLOCK,
    POSTGRES_BLOCK,
    before_reading_blocks,
    configured_destination,
    has_google_key,
    with_blocks,
    without_blocks,
)
from flows.request.runner import RUNNERS, RunnerName
from flows.request.selection import DEFAULT_YEAR, Selection, month_numbers

__all__ = [
    "BUCKET_BLOCK",
    "CREDENTIALS_BLOCK",
    "DEFAULT_YEAR",
    "POSTGRES_BLOCK",
    "RUNNERS",
    "Color",
    "Count",
    "IsoMonth",
    "LoadRequest",
    "Month",
    "Ratio",
    "RunnerName",
    "Selection",
    "Year",
    "already_checked",
    "before_reading_blocks",
    "check_color",
    "check_destinations",
    "check_measures",
    "checked_request",
    "configured_destination",
    "has_google_key",
    "month_numbers",
    "with_blocks",
    "with_parameters_of",
    "without_blocks",
]
