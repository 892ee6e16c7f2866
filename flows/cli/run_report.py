"""When a report is made: by its command, and after a deployment's run that has published a month."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, cast

from flows.destinations import WAREHOUSES
from flows.errors import TaxiError
from flows.month import MonthsFailed, RunSummary
from flows.request import check_destinations, configured_destination
from flows.runtime import Layout

if TYPE_CHECKING:
    from flows.destinations import Warehouse
    from flows.request import LoadRequest

logger = logging.getLogger(__name__)


def write_report(name: str, data_dir: Path, path: Path) -> None:
    """Write the page of pictures of a warehouse.

    Args:
        name: one of `WAREHOUSES`.
        data_dir: of the local warehouse.
        path: of the page; an earlier one is replaced.

    Raises:
        UsageError: no month is loaded there, there are no views, or the extra `report` is not installed.
        DestinationBusy, DestinationRefused, LocalStorageError: the warehouse cannot be read, or the page not
            written.
    """
    from flows.cli.report import (  # late, because they import Polars
        read_figures,
        require_packages,
        write_page,
    )

    require_packages()  # before the warehouse is put to work
    write_page(read_figures(_warehouse(name, data_dir)), path)


def _warehouse(name: str, data_dir: Path) -> Warehouse:
    check_destinations([name], data_dir)
    return cast("Warehouse", configured_destination(name, data_dir))


def run_and_report(request: LoadRequest) -> RunSummary:
    """Run a request in a flow run; if a deployment's run has published a month, show the report.

    Args:
        request: what is asked for, checked.

    Returns:
        One outcome for each month.

    Raises:
        TaxiError: see `flows.runners.run_request`. A report that cannot be made is logged, not raised.
    """
    from flows.runners import run_request  # late: the command `report` runs nothing

    try:
        summary = run_request(request)
    except MonthsFailed as error:
        _show(request, error.summary)
        raise
    _show(request, summary)
    return summary


def _show(request: LoadRequest, summary: RunSummary) -> None:
    from prefect.context import FlowRunContext  # prefect.runtime would ask the server

    context = FlowRunContext.get()
    name = next((name for name in request.to if name in WAREHOUSES), None)
    is_new = any(outcome.status == "published" for outcome in summary.months)
    if not (name and is_new and context and context.flow_run and context.flow_run.deployment_id):
        return
    from flows.cli.report import read_figures, show_report

    try:
        figures = read_figures(_warehouse(name, request.directory))
        show_report(figures, Layout(request.directory).report)
    except TaxiError as error:
        logger.warning("no report: %s", error.message)
    except Exception as error:  # noqa: BLE001 - the months are loaded, whatever the server says to an artifact
        logger.warning("no report: %s", type(error).__name__)
