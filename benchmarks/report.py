"""Tables and charts in README.md and docs/benchmarks.md, made of `benchmarks/results/*.json`.

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
    """Every file that the results make, or make a part of, with its whole text."""
    groups = load(results)
    made = {root / THROUGHPUT: throughput_chart(groups), root / SCALE: scale_chart(groups)}
    for name, section in (("README.md", summary(groups)), ("docs/benchmarks.md", details(groups))):
        made[root / name] = _replaced((root / name).read_text(), section, name)
    return made


def _replaced(text: str, section: str, name: str) -> str:
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise SystemExit(f"error: {name} has no lines {BEGIN} and {END}; put them where the tables belong")
    return f"{before}{BEGIN}\n\n{section}\n{END}{after}"


# --- what was asked for ---


@dataclass(frozen=True)
class Goal:
    """A number that is to hold.

    Attributes:
        what: it is about.
        wanted: in words.
        measured: as text, and whether it holds; None if it was not measured.
    """

    what: str
    wanted: str
    measured: Callable[[Mapping[str, Group]], tuple[str, bool] | None]


REAL_MONTH_ROWS = 1_000_000  # of smaller ones fixed costs are most, and a goal says nothing


def _of_a_real_month(groups: Mapping[str, Group], group: str, rival: str) -> Comparison | None:
    found = groups[group].comparison(rival) if group in groups else None
    return found if found and found.rows >= REAL_MONTH_ROWS else None


def _faster(group: str, rival: str, times: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        found = _of_a_real_month(groups, group, rival)
        return (f"{_times(1 / found.pairs.ratio)}", 1 / found.pairs.ratio >= times) if found else None

    return measured


def _ratio(group: str, rival: str, most: float) -> Callable[[Mapping[str, Group]], tuple[str, bool] | None]:
    def measured(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
        found = _of_a_real_month(groups, group, rival)
        return (f"{found.pairs.ratio:.2f}", found.pairs.ratio <= most) if found else None

    return measured


def _fixed_cost(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    found = groups["fixed overhead"].comparison("smallest flow") if "fixed overhead" in groups else None
    return (f"{found.overhead_seconds:+.2f} s", found.overhead_seconds <= 1) if found else None


def _two_largest(groups: Mapping[str, Group]) -> tuple[Size, Size] | None:
    sizes = groups["scale"].sizes if "scale" in groups else []
    return (sizes[-2], sizes[-1]) if len(sizes) > 1 and sizes[-2].rows >= REAL_MONTH_ROWS else None


def _peak(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    found = _two_largest(groups)
    return (f"{peak(found[0]):.0f} MB", peak(found[0]) <= 700) if found else None


def _peak_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    found = _two_largest(groups)
    return _compared(peak(found[1]) / peak(found[0]), 1.25) if found else None


def _pace_growth(groups: Mapping[str, Group]) -> tuple[str, bool] | None:
    found = _two_largest(groups)
    return _compared(pace(found[1]) / pace(found[0]), 1.10) if found else None


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
    """For the README: the chart and the way from end to end."""
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
    for found in group.comparisons:
        pairs = found.pairs
        seconds = f"{pairs.rival_seconds:.2f} | {pairs.ours_seconds:.2f} | {found.work_seconds:.2f}"
        lines.append(f"| {found.rival} | {found.what} | {seconds} | {found.overhead_seconds:+.2f} |")
    return lines


def _table(group: Group) -> list[str]:
    lines = [
        "| against | what it does | rows | its seconds | ours | ours : its (pairs) |",
        "|---|---|--:|--:|--:|---|",
    ]
    for found in group.comparisons:
        pairs = found.pairs
        spread = (
            f"{pairs.ratio:.3f} ({pairs.lowest:.3f} to {pairs.highest:.3f}, {len(found.ours_seconds)} pairs)"
        )
        theirs = f"{pairs.rival_seconds:.2f}"
        if found.extrapolated:
            theirs = f"{theirs}, extrapolated from {short(found.rival_rows)} rows"
        what = found.what.replace("|", "\\|")
        seconds = f"{theirs} | {pairs.ours_seconds:.2f}"
        lines.append(f"| {found.rival} | {what} | {short(found.rows)} | {seconds} | {spread} |")
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
        found = goal.measured(groups)
        text, holds = (
            (found[0], "yes" if found[1] else "**no**") if found else ("not measured at this size", "")
        )
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
    names = dict.fromkeys(found.ours for found in group.comparisons)
    bars = [_our_bar(name, [found for found in group.comparisons if found.ours == name]) for name in names]
    for found in group.comparisons:
        note = " (extrapolated)" if found.extrapolated else ""
        kind = "bound" if found.what.endswith("the bound") else "other"
        label = f"{found.rival} (bound)" if kind == "bound" else found.rival
        pace_ = found.rows / found.pairs.rival_seconds
        bars.append(Bar(label, pace_, f"{pace_:,.0f}{note}", kind))
    return sorted(bars, key=lambda bar: -bar.value)


def _our_bar(name: str, comparisons: Sequence[Comparison]) -> Bar:
    seconds = statistics.median(value for found in comparisons for value in found.ours_seconds)
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
