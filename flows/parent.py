"""The parent flow, and the main command: months of one dataset, side by side.

python flows/parent.py --color yellow --months 1 2 3 --year 2021
"""

from __future__ import annotations

try:
    from flows import start_script
except ImportError:
    raise SystemExit(
        "error: this Python has none of the project's packages; use .venv/bin/python (`make setup`)"
    ) from None

if __name__ == "__main__":
    start_script()  # first, because the imports below take a while

from collections.abc import Sequence

from flows.cli import exit_with, run_load_command


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line.

    Args:
        arguments: of the call; None: this process's own.

    Returns:
        The exit code: 0 all published, 1 a month failed, 2 wrong usage.
    """
    return run_load_command("flows.parent:etl_parent_flow", arguments)


if __name__ == "__main__":
    # Here, because Prefect takes a second, for which a wrong call or `--runner direct` need not wait.
    exit_with(main())

from pathlib import Path

from prefect import flow
from prefect.runtime import flow_run

from flows.alerts import alert_on_crash, alert_on_failure
from flows.cli import run_and_report
from flows.month import RunSummary
from flows.request import (
    Color,
    Count,
    IsoMonth,
    Month,
    Ratio,
    RunnerName,
    Selection,
    Year,
    checked_request,
)


def run_name() -> str:
    """The name of a run in the UI, such as `yellow-2021`, `yellow-2019-01-to-2021-07`, `yellow-latest-3`."""
    given = flow_run.get_parameters()
    selection = Selection(*(given.get(name) for name in ("months", "year", "since", "until", "latest")))
    return f"{given['color']}-{selection.label.replace(' ', '-')}"


@flow(
    name="etl-parent",
    flow_run_name=run_name,
    log_prints=False,
    on_failure=[alert_on_failure],
    on_crashed=[alert_on_crash],
)
def etl_parent_flow(
    color: Color = "yellow",
    months: Sequence[Month] | None = None,
    year: Year | None = None,
    to: Sequence[str] | None = None,
    source: str = "dtc",
    data_dir: Path | None = None,
    concurrency: Count | None = None,
    *,
    since: IsoMonth | None = None,
    until: IsoMonth | None = None,
    latest: Count | None = None,
    force: bool = False,
    allow_new_columns: bool = False,
    max_reject_ratio: Ratio | None = None,
    accept: Sequence[str] = (),
    row_transforms: Sequence[str] = (),
    runner: RunnerName = "threads",
    dask_address: str | None = None,
) -> RunSummary:
    """Load months of one dataset, side by side; a month that fails does not stop the others.

    The months are given in one way: `months` (and `year`), `since` (and `until`), or `latest`. Without any of
    them they are the tutorial's, January to March.

    Args:
        color: dataset.
        months: 1 to 12.
        year: of all of `months`; None: 2021.
        to: destinations by name; None: the setting.
        source: `dtc`, `tlc`, `synthetic` or a template.
        data_dir: files and local warehouse; None: the setting.
        concurrency: months at once, with `threads`; None: the setting.
        since: first month, such as `2019-01`.
        until: last month; None: the newest that the source has.
        latest: how many of the newest months that the source has.
        force: fetch, stage and publish even what is unchanged.
        allow_new_columns: carry undeclared columns along as text.
        max_reject_ratio: share of a month's rows that may be rejected; None: the setting.
        accept: measures that do not keep a month from being published; see docs/reference/gates.md.
        row_transforms: names from `transforms.row_transforms.ROW_TRANSFORMS`.
        runner: `threads` here, `direct` here without task runs, `dask` on its workers, `deployment` on the
            workers of a pool.
        dask_address: of the scheduler, for `dask`.

    Returns:
        One outcome for each month.

    Raises:
        UsageError: the request makes no sense; nothing was started.
        SourceNotFound, SourceUnreachable, SourceBusy, SourceCorrupt: the source cannot tell which months it
            has; nothing was started.
        MonthsFailed: with the summary; the other months are published.
    """
    parameters = locals()  # by name, so that an option is listed in the signature alone
    return run_and_report(checked_request(**parameters))
