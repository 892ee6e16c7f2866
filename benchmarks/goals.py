"""What was asked for, and whether the measurements hold it."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from results import Comparison, Group, Process, Size

TYPED = "as typed"
PLAIN = "plain server"
GATES = ("with gates", "without gates")


@dataclass(frozen=True)
class Goal:
    """A goal for a measured number.

    Attributes:
        what: is measured.
        wanted: the goal in words.
        measured: returns the number as text and whether it meets the goal; None if it was not measured.
    """

    what: str
    wanted: str
    measured: Callable[[Mapping[str, Group]], tuple[str, bool] | None]


REAL_MONTH_ROWS = 1_000_000  # in smaller months fixed costs dominate, and the goals mean nothing


def _of_a_real_month(groups: Mapping[str, Group], group: str, rival: str) -> Comparison | None:
    comparison = groups[group].comparison(rival) if group in groups else None
    return comparison if comparison and comparison.rows >= REAL_MONTH_ROWS else None


def _faster(group: str, rival: str, times: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        comparison = _of_a_real_month(groups, group, rival)
        if not comparison:
            return None
        return _times(1 / comparison.pairs.ratio), 1 / comparison.pairs.ratio >= times

    return measured


def _ratio(group: str, rival: str, most: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        comparison = _of_a_real_month(groups, group, rival)
        return _compared(comparison.pairs.ratio, most) if comparison else None

    return measured


def _fixed_cost(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    if "fixed overhead" not in groups or not (run := groups["fixed overhead"].comparison("smallest flow")):
        return None
    return f"{run.overhead_seconds:+.2f} s", run.overhead_seconds <= 1


def _two_largest(groups: Mapping[str, Group]) -> tuple[Size, Size] | None:
    sizes = groups["scale"].sizes if "scale" in groups else []
    return (sizes[-2], sizes[-1]) if len(sizes) > 1 and sizes[-2].rows >= REAL_MONTH_ROWS else None


def _peak(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    sizes = _two_largest(groups)
    return (f"{sizes[0].peak:.0f} MB", sizes[0].peak <= 700) if sizes else None


def _peak_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    sizes = _two_largest(groups)
    return _compared(sizes[1].peak / sizes[0].peak, 1.25) if sizes else None


def _pace_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    sizes = _two_largest(groups)
    return _compared(sizes[1].pace / sizes[0].pace, 1.10) if sizes else None


def _compared(ratio: float, most: float) -> tuple[str, bool]:
    return f"{ratio:.2f}", ratio <= most


def _typed(
    to: str, months: int, rival: str, most: float, ours: str = PLAIN
) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    """Our whole command against a rival's."""

    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        processes = _typed_of_real_months(groups, to, months, ours, rival)
        return _compared(processes[0].against(processes[1]).ratio, most) if processes else None

    return measured


def _beyond_direct(ours: str, most: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    """What Prefect adds to one month: the seconds of our command beyond those of `--runner direct`."""

    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        if not (processes := _typed_of_real_months(groups, "duckdb", 1, ours, "direct")):
            return None
        seconds = _added(*(process.seconds for process in processes))
        return f"{seconds:+.1f} s", seconds <= most

    return measured


def _gates(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    """What they add to a month: seconds, and seconds of CPU."""
    found = [groups["gates"].process(side, "duckdb", 1) for side in GATES] if "gates" in groups else []
    sides = [side for side in found if side and side.rows >= REAL_MONTH_ROWS]
    if len(sides) < len(GATES):
        return None
    wall, cpu = _added(*(side.seconds for side in sides)), _added(*(side.cpu_seconds for side in sides))
    return f"{wall:+.2f} s, {cpu:+.2f} s of CPU", max(wall, cpu) <= 0.1


def _added(ours: Sequence[float], others: Sequence[float]) -> float:
    """The median of what we take longer, pair by pair."""
    return statistics.median(mine - theirs for mine, theirs in zip(ours, others, strict=True))


def _large_file(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    """The memory of the whole command, with a file of many rows, into DuckDB."""
    group = groups.get("one large file")
    process = group.process("direct", "duckdb", 1, "one large file") if group else None
    if not process or process.rows < 14 * REAL_MONTH_ROWS:
        return None
    peak = max(process.peak_megabytes)
    return f"{peak} MB", peak <= 800


def _unchanged(most: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        process = groups[TYPED].process(PLAIN, "duckdb", 12, "unchanged") if TYPED in groups else None
        if not process or process.rows < 12 * REAL_MONTH_ROWS:
            return None
        seconds = statistics.median(process.seconds)
        return f"{seconds:.1f} s", seconds <= most

    return measured


def _typed_of_real_months(
    groups: Mapping[str, Group], to: str, months: int, *sides: str
) -> list[Process] | None:
    """The sides' processes, if all of them were measured with months of real size."""
    found = [groups[TYPED].process(side, to, months) for side in sides] if TYPED in groups else []
    processes = [process for process in found if process and process.rows >= months * REAL_MONTH_ROWS]
    return processes if len(processes) == len(sides) else None


E2E, STAGE, INTO = "end to end", "stage", "--to duckdb"
PUSH, TO_GBQ = "push bigquery", "to_gbq, load_csv"
POSTGRES, DUCKDB = "as typed: {} to Postgres against {}", "as typed: {} to DuckDB against {}"
GOALS = (
    Goal(POSTGRES.format("1 month", "`psql`"), "at most 1.6", _typed("postgres", 1, "psql", 1.6)),
    Goal(POSTGRES.format("3 months", "`psql`"), "at most 1.0", _typed("postgres", 3, "psql", 1.0)),
    Goal(POSTGRES.format("12 months", "`psql`"), "at most 0.80", _typed("postgres", 12, "psql", 0.80)),
    Goal(POSTGRES.format("1 month", "dlt"), "at most 0.9", _typed("postgres", 1, "dlt", 0.9)),
    Goal(POSTGRES.format("12 months", "dlt"), "at most 0.6", _typed("postgres", 12, "dlt", 0.6)),
    Goal(DUCKDB.format("1 month", "DuckDB alone"), "at most 1.8", _typed("duckdb", 1, "duckdb", 1.8)),
    Goal(DUCKDB.format("12 months", "DuckDB alone"), "at most 1.3", _typed("duckdb", 12, "duckdb", 1.3)),
    Goal("as typed: 12 months to Iceberg, `--to duckdb`", "at most 0.8", _typed("iceberg", 12, INTO, 0.8)),
    Goal(
        "as typed: 1 month without a server, beyond `--runner direct`",
        "at most 4 s",
        _beyond_direct("no server", 4),
    ),
    Goal("as typed: the same, first run ever", "at most 8 s", _beyond_direct("first run ever", 8)),
    Goal("as typed: 12 months, all unchanged", "at most 4 s", _unchanged(4)),
    Goal("one file of 20 M rows to DuckDB, memory of the whole command", "at most 800 MB", _large_file),
    Goal("file to Postgres against the tutorial's script", "50 times faster", _faster(E2E, "pandas", 50)),
    Goal("the same against dlt's fastest", "2.0 times faster", _faster(E2E, "dlt", 2)),
    Goal("the same against `psql \\copy` of the raw CSV", "at most 0.95", _ratio(E2E, "psql", 0.95)),
    Goal("three months against three such copies", "at most 0.85", _ratio(E2E, "psql, three months", 0.85)),
    Goal("staging against Polars `sink_parquet` alone", "at most 1.15", _ratio(STAGE, "polars", 1.15)),
    Goal("staging against pandas", "13 times faster", _faster(STAGE, "pandas", 13)),
    Goal("push to BigQuery against the tutorial's `to_gbq`", "10 times faster", _faster(PUSH, TO_GBQ, 10)),
    Goal("the gates, on a month to DuckDB", "at most 0.1 s more", _gates),
    Goal("fixed cost of a run against Prefect's smallest flow", "at most 1 s more", _fixed_cost),
    Goal("peak memory of the whole process", "at most 700 MB", _peak),
    Goal("peak memory with ten times the rows", "at most 1.25", _peak_growth),
    Goal("seconds per million rows with ten times the rows", "at most 1.10", _pace_growth),
)  # fmt: skip


def goals_table(groups: Mapping[str, Group]) -> list[str]:
    """Every goal with what was measured."""
    lines = ["| what | wanted | measured | holds |", "|---|---|--:|---|"]
    for goal in GOALS:
        text, holds = "not measured at this size", ""
        if measured := goal.measured(groups):
            text, holds = measured[0], "yes" if measured[1] else "**no**"
        lines.append(f"| {goal.what} | {goal.wanted} | {text} | {holds} |")
    return lines


def _times(factor: float) -> str:
    return f"{factor:.0f} times" if factor >= 10 else f"{factor:.1f} times"
