"""The figures in the document are those that the long mode has written."""

from __future__ import annotations

import json

import pytest
from support.torture import BEGIN, DOCUMENT, END, FIGURES, table

needs_figures = pytest.mark.skipif(not FIGURES.exists(), reason="no figures yet: make torture writes them")


@needs_figures
def test_the_document_shows_the_figures_of_the_last_run() -> None:
    shown = DOCUMENT.read_text().partition(BEGIN)[2].partition(END)[0]
    assert shown.strip() == table().strip()


@needs_figures
def test_nothing_was_lost_and_nothing_came_twice() -> None:
    parts = json.loads(FIGURES.read_text())
    matrices = [figures for part, figures in parts.items() if part.startswith("kill matrix")]
    assert sum(figures["kill_points"] for figures in matrices) >= 100
    assert [(figures["rows_lost"], figures["rows_duplicated"]) for figures in matrices] == [(0, 0)] * len(
        matrices
    )
