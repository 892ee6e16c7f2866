"""Writes tables and charts of `benchmarks/results/*.json` into README.md and docs/benchmarks.md.

python benchmarks/report.py            writes them
python benchmarks/report.py --check    exit code 1 if they are not what the results say
"""

from __future__ import annotations

import argparse
import statistics
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from charts import Bar, Line, bar_chart, line_charts, short
from goals import TYPED, goals_table
from results import Group, load
from typed_report import (
    about,
    cell,
    limits_table,
    short_table,
    typed_notes,
    typed_panels,
    typed_table,
    typed_ways,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from results import Comparison, Size

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
THROUGHPUT, SCALE = Path("docs/images/benchmark-throughput.svg"), Path("docs/images/benchmark-scale.svg")
BEGIN, END = "<!-- made by benchmarks/report.py: begin -->", "<!-- made by benchmarks/report.py: end -->"
DRAWN = ("end to end", "load postgres", "stage")
ORDER = (
    "as typed", "stage", "load postgres", "load duckdb", "load bigquery", "push bigquery", "end to end",
    "gates", "months at once", "one large file", "fixed overhead", "scale",
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


# --- tables ---


OVERHEAD = "fixed overhead"
ENGINE_ONLY = """\
Engine only: everything is imported and connected, the file is on the disk and has landed, and Postgres,
unless it is one of yours, runs with `fsync=off` for both sides. This leaves out the start of the process, the
download with its checks, the quality report and Prefect."""


def summary(groups: Mapping[str, Group]) -> str:
    """For the README: one short table of whole commands."""
    if TYPED not in groups:
        return "Not measured yet.\n"
    group = groups[TYPED]
    when = f"Medians, in seconds, on one machine ({_machine(group)}, {group.date})."
    return "\n".join([*short_table(group), "", when, ""])


def details(groups: Mapping[str, Group]) -> str:
    """For docs/benchmarks.md: everything."""
    known = [groups[name] for name in ORDER if name in groups]
    if not known:
        return "Not measured yet.\n"
    lines = ["## Results", "", f"![rows per second by tool]({THROUGHPUT.relative_to('docs')})", ""]
    if TYPED in groups:
        lines += [f"### {TYPED.capitalize()}", "", about(groups[TYPED]), ""]
        lines += [*typed_table(groups[TYPED], None), ""]
        lines += [*typed_ways(groups[TYPED], None), *typed_notes(groups[TYPED]), ""]
    engine = [group for group in known if group.comparisons and group.group != OVERHEAD]
    if engine:
        lines += ["### Engine only", "", ENGINE_ONLY, ""]
    for group in engine:
        lines += [f"#### {group.group.capitalize()}", "", *_table(group), ""]
    if OVERHEAD in groups:
        lines += [f"### {OVERHEAD.capitalize()}", "", *_overhead(groups[OVERHEAD]), ""]
    for group in (one for one in known if one.processes and one.group != TYPED):
        lines += [f"### {group.group.capitalize()}", "", *limits_table(group), ""]
    if "scale" in groups:
        lines += ["### Scale", "", f"![memory and time by rows]({SCALE.relative_to('docs')})", ""]
        lines += [*_sizes(groups["scale"].sizes), ""]
    lines += ["### What was asked for", "", *goals_table(groups), ""]
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
        what = cell(comparison.what)
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
            f"| {size.rows:,} | {seconds:.2f} | {staging:.2f} | {size.pace:.2f} | {size.peak:.0f} MB |"
        )
    return lines


# --- charts ---


def throughput_chart(groups: Mapping[str, Group]) -> str:
    panels = typed_panels(groups[TYPED]) if TYPED in groups else []
    panels += [(f"engine only: {name}", _bars(groups[name])) for name in DRAWN if name in groups]
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
        Line("peak memory of the process, MB", [(size.rows, size.peak) for size in sizes]),
        Line("seconds per million rows", [(size.rows, size.pace) for size in sizes]),
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
