"""The report: what is in a warehouse, as one page of pictures and as an artifact."""

from flows.cli.report.artifact import show_report
from flows.cli.report.figures import Figures, read_figures
from flows.cli.report.page import require_packages, write_page

__all__ = [
    "Figures",
    "read_figures",
    "require_packages",
    "show_report",
    "write_page",
]
