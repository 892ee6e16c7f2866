"""The layout of the code: few entries in flows/, one face for each package, no use of private names."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
FLOWS = ROOT / "flows"
FACES = sorted(path for folder in ("flows", "transforms") for path in (ROOT / folder).rglob("__init__.py"))
OUR_CODE = sorted(
    path for folder in ("flows", "transforms", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
COPY_PROCESS = FLOWS / "destinations" / "postgres" / "copy_process.py"


def package_of(face: Path) -> str:
    return ".".join(face.parent.relative_to(ROOT).parts)


def test_flows_has_few_entries() -> None:
    entries = [path.name for path in FLOWS.iterdir() if path.is_file() or any(path.glob("*.py"))]
    assert len(entries) <= 22, sorted(entries)


def test_no_file_repeats_the_name_of_its_destination() -> None:
    packages = {face.parent for face in FLOWS.glob("destinations/*/__init__.py")}
    assert packages
    repeated = [
        path for package in packages for path in package.iterdir() if path.name.startswith(f"{package.name}_")
    ]
    assert repeated == []


@pytest.mark.parametrize("face", FACES, ids=package_of)
def test_a_face_exports_names_that_exist_each_once(face: Path) -> None:
    package = importlib.import_module(package_of(face))
    exported = getattr(package, "__all__", [])
    assert len(exported) == len(set(exported))
    assert [name for name in exported if not hasattr(package, name)] == []
    # A module of the same name would be found in its place once it is imported.
    assert [name for name in exported if isinstance(getattr(package, name), ModuleType)] == []


@pytest.mark.parametrize("face", [face for face in FACES if FLOWS in face.parents], ids=package_of)
def test_a_face_exports_what_it_imports(face: Path) -> None:
    package = package_of(face)
    imports = [node for node in ast.walk(ast.parse(face.read_text())) if isinstance(node, ast.ImportFrom)]
    of_its_own = [node for node in imports if node.module and node.module.startswith(f"{package}.")]
    imported = {alias.asname or alias.name for node in of_its_own for alias in node.names}
    assert set(getattr(importlib.import_module(package), "__all__", [])) == imported


def test_a_face_has_no_other_names() -> None:
    with pytest.raises(AttributeError, match=r"module 'flows\.staging' has no attribute 'nothing'"):
        _ = importlib.import_module("flows.staging").nothing


@pytest.mark.parametrize("package", [package_of(face) for face in FACES])
def test_a_face_can_be_the_first_import_of_a_process(package: str, tmp_path: Path) -> None:
    """A circular import can go unnoticed as long as other modules happen to be imported first."""
    program = f"import {package} as face; [getattr(face, name) for name in getattr(face, '__all__', ())]"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_no_private_attribute_of_a_library_is_excused() -> None:
    """Ruff and basedpyright find every use of one, so it is enough that nobody silences them."""
    silenced = re.compile("SLF001|reportPrivateUsage")
    assert [path.relative_to(ROOT) for path in OUR_CODE if silenced.search(path.read_text())] == []


def test_no_private_module_or_name_is_imported() -> None:
    """Ruff's SLF001 says nothing about imports."""
    nodes = [(path, node) for path in OUR_CODE for node in ast.walk(ast.parse(path.read_text()))]
    names = [
        (path, f"{node.module}.{alias.name}")
        for path, node in nodes
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    names += [
        (path, alias.name) for path, node in nodes if isinstance(node, ast.Import) for alias in node.names
    ]
    private = [
        f"{path.relative_to(ROOT)}: {name}" for path, name in names if re.search(r"(^|\.)_(?!_)", name)
    ]
    assert private == []


def test_the_copying_process_imports_neither_psycopg_nor_prefect(tmp_path: Path) -> None:
    """A load may have to wait until it has started: a module it does not need would only slow that down."""
    done = subprocess.run(
        [sys.executable, "-P", "-X", "importtime", COPY_PROCESS],
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}
    assert "adbc_driver_postgresql" in imported
    assert imported & {"psycopg", "prefect"} == set()
