"""What is asked for, checked before anything starts."""

from flows.request.check import check_color, check_destinations, check_request
from flows.request.read_blocks import (
    BUCKET_BLOCK,
    CREDENTIALS_BLOCK,
    POSTGRES_BLOCK,
    configured_destination,
    has_google_key,
    with_blocks,
)
from flows.request.runner import RUNNERS, Runner, RunnerName
from flows.request.selection import (
    DEFAULT_YEAR,
    FIRST_YEAR,
    LAST_YEAR,
    Selection,
    month_numbers,
    select_months,
)

__all__ = [
    "BUCKET_BLOCK",
    "CREDENTIALS_BLOCK",
    "DEFAULT_YEAR",
    "FIRST_YEAR",
    "LAST_YEAR",
    "POSTGRES_BLOCK",
    "RUNNERS",
    "Runner",
    "RunnerName",
    "Selection",
    "check_color",
    "check_destinations",
    "check_request",
    "configured_destination",
    "has_google_key",
    "month_numbers",
    "select_months",
    "with_blocks",
]
