"""The report as an artifact on the page of a flow run: a link to the page, and the main figures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from flows.cli.report.page import write_page
from flows.errors import UsageError

if TYPE_CHECKING:
    from flows.cli.report.figures import Figures

KEY = "report"


def show_report(figures: Figures, path: Path) -> None:
    """Write the page, and create the artifact in the current flow run.

    Without the packages that draw, the artifact has the figures and says what is missing.

    Args:
        figures: of a warehouse.
        path: of the page.

    Raises:
        LocalStorageError: the page cannot be written.
    """
    from prefect.artifacts import create_markdown_artifact  # late: the page itself needs no Prefect

    try:
        write_page(figures, path)
        page = f"[{path.name}]({path.absolute().as_uri()}), on the machine of this run"
    except UsageError as error:
        page = error.message
    create_markdown_artifact(_markdown(figures, page), KEY, f"what {figures.warehouse} has")


def _markdown(figures: Figures, page: str) -> str:
    first, last = figures.range
    rows = {
        "file months": f"{first:%Y-%m} to {last:%Y-%m}: {len(figures.months)}, {len(figures.gaps)} missing",
        "trips": f"{figures.trips:,}",
        "revenue": f"${figures.revenue:,.2f}",
        "odd trips": f"{figures.odd_trips:,}",
        "rejected rows": f"{figures.rejected:,}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    return f"{page}\n\n| {figures.warehouse} | |\n|---|---|\n{table}\n"
