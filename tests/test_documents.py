"""What the documents say is what the program does."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from support import reference

from flows.errors import UsageError
from flows.settings import Settings
from taxi_etl import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
ARCHITECTURE = (ROOT / "docs" / "explanation" / "architecture.md").read_text()


DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]


plain_parser = functools.cache(reference.plain_parser)


def printed_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of ours that a document prints, each with its arguments; `...` stands for any."""
    scripts = {script: name for name, (script, _) in COMMANDS.items()}
    blocks = re.findall(r"^```(?:sh|cron)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL))
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    indented = [line.strip() for line in text.splitlines() if line.startswith("    ")]
    for line in (*lines, *indented, *inline):
        found = re.search(r"(?:^|[ /])(?:taxi-etl|python (flows/\w+\.py))(?: (?P<rest>.*))?$", line)
        words = shlex.split(found["rest"] or "", comments=True) if found and "'" not in line[:1] else []
        if not found or "..." in words:
            continue
        if found[1]:
            yield scripts[found[1]], words
        elif words and re.fullmatch("[a-z-]+", words[0]):
            yield words[0], words[1:]


@pytest.mark.parametrize(
    "document",
    # The how-to pages that add a name are run by their own test.
    [path for path in DOCUMENTS if not path.name.startswith("new-")],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_every_command_in_the_documents_is_understood(document: Path) -> None:
    for name, words in printed_commands(document.read_text()):
        assert name in COMMANDS, f"taxi-etl {name}"
        # Single options are named in the text without those that are required.
        complete = name == "load" and "--color" not in words
        try:
            given, rest = plain_parser(name).parse_known_args(
                [*words, *(["--color", "yellow"] if complete else [])]
            )
        except UsageError as error:
            pytest.fail(f"taxi-etl {name} {shlex.join(words)}: {error}")
        assert given
        assert not rest or name in PASSING_ON, f"taxi-etl {name} {shlex.join(words)}: {rest}"


PASSING_ON = {"psql", "worker"}
"""Commands whose further options go to another program."""


def test_commands_are_printed_in_one_form() -> None:
    """The scripts' own names are for those who come from the tutorial; the image has no .venv."""
    others = {"README.md", "docs/tutorial/zoomcamp.md", "docs/docker.md"}
    named = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS if "python flows/" in path.read_text()}
    assert named <= others
    assert README.count("python flows/") == 1


def test_the_commands_are_found() -> None:
    found = [command for path in DOCUMENTS for command in printed_commands(path.read_text())]
    assert len(found) > 40
    assert {name for name, _ in found} >= {
        "load",
        "status",
        "gates",
        "web-to-gcs",
        "gcs-to-bq",
        "ingest",
        "psql",
    }


def test_every_deployment_that_is_named_exists() -> None:
    entries = yaml.safe_load((ROOT / "prefect.yaml").read_text())["deployments"]
    text = "".join(path.read_text() for path in DOCUMENTS)
    named = set(re.findall(r"deployment run '[\w -]+/([\w -]+)'", text))
    assert "monthly-yellow" in named
    assert named <= {entry["name"] for entry in entries}


ANSWERS = {
    "What is it?": ("README.md", "trip records"),
    "How do I start?": ("README.md", "make demo"),
    "Where are my rows?": ("README.md", "data/warehouse.duckdb"),
    "Where are they in Postgres?": (
        "docs/how-to/postgres.md",
        "table `yellow_taxi_trips` in the schema `public`",
    ),
    "How do I query them?": ("README.md", "FROM yellow_taxi_trips"),
    "What do the columns mean?": ("docs/reference/data-dictionary.md", "`trip_distance`"),
    "How much disk and time does it take?": ("README.md", "0.1 GB in files"),
    "Is a rerun safe?": ("README.md", "rerun is safe"),
    "What if it fails?": ("docs/reference/errors.md", "| cure |"),
    "How do I schedule it?": ("docs/how-to/monthly.md", "```cron"),
    "How do I get rid of it?": ("README.md", "delete `data/`"),
}
"""A newcomer's questions: a page, and what is in the answer."""


@pytest.mark.parametrize("question", ANSWERS)
def test_a_newcomers_question_is_answered_within_one_click(question: str) -> None:
    page, answer = ANSWERS[question]
    assert page == "README.md" or f"]({page})" in README
    assert answer in (ROOT / page).read_text()


def test_the_readme_is_short_and_answers_within_one_click() -> None:
    assert README.count("\n") <= 120
    pages = {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} - {"docs/index.md"}
    linked = set(re.findall(r"\]\((docs/[\w/-]+\.md)", README))
    # Reports to other projects are linked where they matter.
    assert {page for page in pages - linked if not page.startswith("docs/upstream/")} == set()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_is_dead(document: Path) -> None:
    """mkdocs looks at links within docs/ only; on GitHub all of them have to work."""
    links = re.findall(r"\]\((?![a-z]+:)([^)#\s]*)(#[^)\s]*)?\)", document.read_text())
    assert [target for target, _ in links if target and not (document.parent / target).exists()] == []
    for target, anchor in links:
        page = document.parent / target if target else document
        if anchor and page.suffix == ".md":
            assert anchor[1:] in anchors(page.read_text()), f"{page.name}{anchor}"


def anchors(text: str) -> set[str]:
    """Those that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_site_builds(tmp_path: Path) -> None:
    # NOTE: with --quiet mkdocs does not count warnings, and --strict has no effect.
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "reference" / "commands" / "index.html").exists()


def test_the_example_of_a_settings_file_is_legal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (ROOT / "docs" / "reference" / "settings.md").read_text()
    [example] = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "taxi.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    given = tomllib.loads(example)
    assert given.keys() <= Settings.model_fields.keys()
    assert Settings().to == tuple(given["to"])


def test_every_setting_says_when_to_change_it() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_every_setting_named_in_the_documents_exists() -> None:
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields} | {
        "TAXI_TEST_POSTGRES_URL",
        "TAXI_TEST_POSTGRES_BINARIES",
    }
    named = {name for path in DOCUMENTS for name in re.findall(r"\bTAXI_[A-Z_]+[A-Z]\b", path.read_text())}
    assert named - known == set()


def test_every_file_and_folder_named_in_the_documents_exists() -> None:
    path = re.compile(r"\b(?:tests|flows|transforms|benchmarks|docs)/[\w/]+(?:\.(?:py|md)\b|/)")
    for document in DOCUMENTS:
        text = document.read_text()
        made = set(re.findall(r'title="(.+?)"', text))  # files that a reader is shown how to write
        assert [name for name in path.findall(text) if not (name in made or (ROOT / name).exists())] == []


def test_the_walk_through_one_month_is_short_and_names_a_file_in_each_step() -> None:
    """That the files exist is another test's matter, which reads all documents."""
    walk = ARCHITECTURE.partition("## One month, from the command to a row in Postgres\n")[2].partition(
        "\n## "
    )[0]
    _, *steps = re.split(r"^\d+\. ", walk, flags=re.MULTILINE)
    assert 5 <= len(steps) <= 10
    assert [step for step in steps if not re.search(r"`flows/[\w/]+\.py`", step)] == []


def test_the_architecture_lists_every_package_with_names_of_its_face() -> None:
    rows = re.findall(r"^\| `(flows/[\w/]+)/` \| .+ \| (.+) \|$", ARCHITECTURE, re.MULTILINE)
    packages = {
        folder.parent.relative_to(ROOT).as_posix() for folder in (ROOT / "flows").glob("*/**/__init__.py")
    }
    assert {folder for folder, _ in rows} == packages
    for folder, names in rows:
        face = importlib.import_module(folder.replace("/", "."))
        assert [name for name in re.findall(r"`(\w+)`", names) if name not in face.__all__] == [], folder


def test_every_class_in_the_glossary_exists() -> None:
    section = (ROOT / "docs" / "reference" / "naming.md").read_text().partition("\n## In the code\n")[2]
    sources = "".join(
        path.read_text() for folder in ("flows", "transforms") for path in (ROOT / folder).rglob("*.py")
    )
    defined = re.findall(r"^class (\w+)", sources, re.MULTILINE)
    named = re.findall(r"`((?:[A-Z][a-z]+)+)`", section)
    assert named
    assert set(named) - set(defined) == set()


def test_every_make_target_the_documents_name_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    printed = re.compile(r"(?:^|`)make ([a-z-]+)\b(?! sure)", re.MULTILINE)
    named = {name for path in DOCUMENTS for name in printed.findall(path.read_text())}
    assert {"demo", "test", "docs", "reference"} <= named
    assert named <= targets


def test_the_readmes_query_runs_and_prints_its_table(tmp_path: Path) -> None:
    import duckdb

    (tmp_path / "demo").mkdir()
    with duckdb.connect(tmp_path / "demo" / "warehouse.duckdb") as connection:
        connection.execute(
            "CREATE TABLE yellow_taxi_trips AS SELECT DATE '2021-01-01' AS file_month, 15.004 AS total_amount"
        )
    block = re.search(r'```sh\n\.venv/bin/python -c "\n(.*?)"\n```', README, re.DOTALL)
    assert block
    query = subprocess.run(
        [sys.executable, "-c", block[1]], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "mean_total" in query.stdout
    assert "2021-01-01" in query.stdout
    columns = re.findall(r"│ +(file_month|trips|mean_total) ", README)
    assert columns == ["file_month", "trips", "mean_total"]


def test_no_module_in_flows_hides_a_library() -> None:
    """`python flows/parent.py` puts flows/ first on the path, before every library."""
    ours = {path.stem for path in (ROOT / "flows").iterdir() if path.suffix == ".py" or path.is_dir()}
    libraries = set(importlib.metadata.packages_distributions()) | set(sys.stdlib_module_names)
    assert (ours - {"__init__", "__pycache__"}) & libraries == set()
