"""Writes tables and charts of `benchmarks/results/*.json` into README.md and docs/benchmarks.md.

python benchmarks/report.py            writes them
python benchmarks/report.py --check    exit code 1 if they are not what the results say
"""

from __future__ import annotations

import argparse
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from charts import Bar, Line, bar_chart, line_charts, short
from results import Group, load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from results import Comparison, Size

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
THROUGHPUT, SCALE = Path("docs/images/benchmark-throughput.svg"), Path("docs/images/benchmark-scale.svg")
BEGIN, END = "<!-- made by benchmarks/report.py: begin -->", "<!-- made by benchmarks/report.py: end -->"
DRAWN = ("end to end", "load postgres", "stage")
ORDER = (
    "stage", "load postgres", "load duckdb", "load bigquery", "push bigquery", "end to end", "fixed overhead",
    "scale",
)  # fmt: skip


def render(results: Path = RESULTS, root: Path = ROOT) -> dict[Path, str]:
    """Every file that shows results, with its whole new text."""
    groups = load(results)
    texts = {root / THROUGHPUT: throughput_chart(groups), root / SCALE: scale_chart(groups)}
    for name, section in (("README.md", summary(groups)), ("docs/benchmarks.md", details(groups))):
        texts[root / name] = _replaced((root / name).read_text(), section, name)
    return texts


def _replaced(text: str, section: str, name: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"error: {name} has no lines {BEGIN} and {END}; put them where the tables belong")
    return f"{before}{BEGIN}\n\n{section}\n{END}{after}"


# --- goals ---


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
    return (f"{peak(sizes[0]):.0f} MB", peak(sizes[0]) <= 700) if sizes else None


def _peak_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    sizes = _two_largest(groups)
    return _compared(peak(sizes[1]) / peak(sizes[0]), 1.25) if sizes else None


def _pace_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    sizes = _two_largest(groups)
    return _compared(pace(sizes[1]) / pace(sizes[0]), 1.10) if sizes else None


def _compared(ratio: float, most: float) -> tuple[str, bool]:
    return f"{ratio:.2f}", ratio <= most


E2E, STAGE = "end to end", "stage"
PUSH, TO_GBQ = "push bigquery", "to_gbq, load_csv"
GOALS = (
    Goal("file to Postgres against the tutorial's script", "50 times faster", _faster(E2E, "pandas", 50)),
    Goal("the same against dlt's fastest", "2.0 times faster", _faster(E2E, "dlt", 2)),
    Goal("the same against `psql \\copy` of the raw CSV", "at most 0.95", _ratio(E2E, "psql", 0.95)),
    Goal("three months against three such copies", "at most 0.85", _ratio(E2E, "psql, three months", 0.85)),
    Goal("staging against Polars `sink_parquet` alone", "at most 1.15", _ratio(STAGE, "polars", 1.15)),
    Goal("staging against pandas", "13 times faster", _faster(STAGE, "pandas", 13)),
    Goal("push to BigQuery against the tutorial's `to_gbq`", "10 times faster", _faster(PUSH, TO_GBQ, 10)),
    Goal("fixed cost of a run against Prefect's smallest flow", "at most 1 s more", _fixed_cost),
    Goal("peak memory of the whole process", "at most 700 MB", _peak),
    Goal("peak memory with ten times the rows", "at most 1.25", _peak_growth),
    Goal("seconds per million rows with ten times the rows", "at most 1.10", _pace_growth),
)  # fmt: skip


# --- tables ---


def summary(groups: Mapping[str, Group]) -> str:
    """For the README: the chart and the table of the group `end to end`."""
    if "end to end" not in groups:
        return "Not measured yet.\n"
    group = groups["end to end"]
    return "\n".join(
        [
            f"![rows per second by tool]({THROUGHPUT})",
            "",
            *_table(group),
            "",
            f"Medians of pairs run in turns on one machine ({_machine(group)}, {group.date}).",
            "",
        ]
    )


def details(groups: Mapping[str, Group]) -> str:
    """For docs/benchmarks.md: everything."""
    known = [groups[name] for name in ORDER if name in groups]
    if not known:
        return "Not measured yet.\n"
    lines = ["## Results", "", f"![rows per second by tool]({THROUGHPUT.relative_to('docs')})", ""]
    for group in known:
        if group.comparisons:
            table = _overhead if group.group == "fixed overhead" else _table
            lines += [f"### {group.group.capitalize()}", "", *table(group), ""]
    if "scale" in groups:
        lines += ["### Scale", "", f"![memory and time by rows]({SCALE.relative_to('docs')})", ""]
        lines += [*_sizes(groups["scale"].sizes), ""]
    lines += ["### What was asked for", "", *_goals(groups), ""]
    lines += ["### Where and when", ""]
    lines += [f"* {group.group}: {_machine(group)}, {group.source}, {group.date}" for group in known]
    lines += ["", "Versions: " + ", ".join(f"{name} {of}" for name, of in known[0].versions.items()), ""]
    return "\n".join(lines)


def _machine(group: Group) -> str:
    facts = group.machine
    return (
        f"{facts['cores']} cores of {facts['cpu']}, {facts['memory_gigabytes']} GB, "
        f"{facts['system']}, Python {facts['python']}"
    )


def _overhead(group: Group) -> list[str]:
    lines = [
        "| against | what it does | its seconds | ours | of these work | beyond both |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for comparison in group.comparisons:
        pairs = comparison.pairs
        seconds = f"{pairs.rival_seconds:.2f} | {pairs.ours_seconds:.2f} | {comparison.work_seconds:.2f}"
        lines.append(
            f"| {comparison.rival} | {comparison.what} | {seconds} | {comparison.overhead_seconds:+.2f} |"
        )
    return lines


def _table(group: Group) -> list[str]:
    lines = [
        "| against | what it does | rows | its seconds | ours | ours : its (pairs) |",
        "|---|---|--:|--:|--:|---|",
    ]
    for comparison in group.comparisons:
        pairs = comparison.pairs
        count = len(comparison.ours_seconds)
        spread = f"{pairs.ratio:.3f} ({pairs.lowest:.3f} to {pairs.highest:.3f}, {count} pairs)"
        theirs = f"{pairs.rival_seconds:.2f}"
        if comparison.extrapolated:
            theirs = f"{theirs}, extrapolated from {short(comparison.rival_rows)} rows"
        what = comparison.what.replace("|", "\\|")
        seconds = f"{theirs} | {pairs.ours_seconds:.2f}"
        lines.append(f"| {comparison.rival} | {what} | {short(comparison.rows)} | {seconds} | {spread} |")
    return lines


def _sizes(sizes: Sequence[Size]) -> list[str]:
    lines = [
        "| rows | seconds | of these staging | per million rows | peak memory |",
        "|--:|--:|--:|--:|--:|",
    ]
    for size in sizes:
        seconds, staging = statistics.median(size.seconds), statistics.median(size.stage_seconds)
        lines.append(
            f"| {size.rows:,} | {seconds:.2f} | {staging:.2f} | {pace(size):.2f} | {peak(size):.0f} MB |"
        )
    return lines


def _goals(groups: Mapping[str, Group]) -> list[str]:
    lines = ["| what | wanted | measured | holds |", "|---|---|--:|---|"]
    for goal in GOALS:
        text, holds = "not measured at this size", ""
        if measured := goal.measured(groups):
            text, holds = measured[0], "yes" if measured[1] else "**no**"
        lines.append(f"| {goal.what} | {goal.wanted} | {text} | {holds} |")
    return lines


def _times(factor: float) -> str:
    return f"{factor:.0f} times" if factor >= 10 else f"{factor:.1f} times"


def peak(size: Size) -> float:
    """Megabytes, the highest of all runs."""
    return max(size.peak_megabytes)


def pace(size: Size) -> float:
    """Seconds per million rows, median."""
    return statistics.median(size.seconds) / size.rows * 1e6


# --- charts ---


def throughput_chart(groups: Mapping[str, Group]) -> str:
    panels = [(name, _bars(groups[name])) for name in DRAWN if name in groups]
    return bar_chart("Rows per second, more is better", panels)


def _bars(group: Group) -> list[Bar]:
    names = dict.fromkeys(comparison.ours for comparison in group.comparisons)
    bars = [
        _our_bar(name, [comparison for comparison in group.comparisons if comparison.ours == name])
        for name in names
    ]
    for comparison in group.comparisons:
        note = " (extrapolated)" if comparison.extrapolated else ""
        kind = "bound" if comparison.what.endswith("the bound") else "other"
        label = f"{comparison.rival} (bound)" if kind == "bound" else comparison.rival
        pace_ = comparison.rows / comparison.pairs.rival_seconds
        bars.append(Bar(label, pace_, f"{pace_:,.0f}{note}", kind))
    return sorted(bars, key=lambda bar: -bar.value)


def _our_bar(name: str, comparisons: Sequence[Comparison]) -> Bar:
    seconds = statistics.median(value for comparison in comparisons for value in comparison.ours_seconds)
    return Bar(name, comparisons[0].rows / seconds, f"{comparisons[0].rows / seconds:,.0f}", "ours")


def scale_chart(groups: Mapping[str, Group]) -> str:
    sizes = groups["scale"].sizes if "scale" in groups else []
    lines = [
        Line("peak memory of the process, MB", [(size.rows, peak(size)) for size in sizes]),
        Line("seconds per million rows", [(size.rows, pace(size)) for size in sizes]),
    ]
    return line_charts("One month by its number of rows", lines if sizes else [])


def main(arguments: Sequence[str] | None = None) -> int:
    """Write what has changed, or say whether anything would."""
    parser = argparse.ArgumentParser(description="Tables and charts out of the results.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if anything differs")
    options = parser.parse_args(arguments)
    stale = {path: text for path, text in render().items() if not path.exists() or path.read_text() != text}
    for path, text in stale.items():
        print(("stale: " if options.check else "written: ") + str(path.relative_to(ROOT)))
        if not options.check:
            path.write_text(text)
    return int(bool(options.check and stale))


if __name__ == "__main__":
    sys.exit(main())
