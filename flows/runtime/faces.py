"""The face of a package whose modules are imported when a name of theirs is asked for.

The commands read their options through these faces, and `--help` is to answer without Polars, DuckDB, PyArrow
and Prefect, which take a second to import. As scientific Python's `lazy_loader` does it, the names are
declared once, in imports that only type checkers run.
"""

from __future__ import annotations

import ast
import functools
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_face(package: str) -> Callable[[str], Any]:
    """Make the `__getattr__` of a package that imports its own modules under `TYPE_CHECKING`.

    Args:
        package: its `__name__`.
    """

    def get(name: str) -> Any:  # noqa: ANN401 - whatever has this name
        module = _homes(package).get(name)
        if module is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(module), name)
        setattr(sys.modules[package], name, value)  # the next time it is found at once
        return value

    return get


@functools.cache
def _homes(package: str) -> Mapping[str, str]:
    """The module of each name that a package's `__init__` imports from one of its own."""
    source = Path(str(sys.modules[package].__file__)).read_text(encoding="utf-8")
    return {
        alias.name: node.module
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith(f"{package}.")
        for alias in node.names
    }
