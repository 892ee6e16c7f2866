"""The generated pages of docs/reference/ are what the code says, and say enough."""

from __future__ import annotations

import re

import pytest
from support.reference import DIRECTORY, PAGES, cause_and_cure, errors_below, page

from flows.errors import TaxiError, Terminal, Transient


@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_made_from_the_code(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAXI_CONCURRENCY", "7")  # a page does not depend on who makes it
    assert (DIRECTORY / name).read_text() == page(name), "make reference"


def test_every_error_has_a_cause_and_a_cure() -> None:
    kinds = [kind for kind in errors_below(TaxiError) if kind not in (Transient, Terminal)]
    assert len(kinds) > 10
    assert [kind.__name__ for kind in kinds if not all(cause_and_cure(kind))] == []


@pytest.mark.parametrize("name", ["commands.md", "settings.md", "data-dictionary.md", "ledger.md"])
def test_every_option_setting_and_column_says_what_it_is(name: str) -> None:
    place = 3 if name == "data-dictionary.md" else -1
    rows = [line[2:-2].split(" | ") for line in re.findall(r"^\| `.*$", page(name), re.MULTILINE)]
    assert len(rows) > 10
    assert [row[0] for row in rows if not row[place].strip()] == []
