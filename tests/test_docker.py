"""Dockerfile and compose.yaml, as far as they can be tried without an engine; the rest: docs/docker.md."""

from __future__ import annotations

import copy
import fnmatch
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose

from flows.settings import Settings
from taxi_etl import COMMANDS

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
NOT_RUN = ("python -m pip install", "useradd")
"""Steps that would change this machine: uv is here already, and a user is not made for a test."""


def instructions() -> list[tuple[str, str]]:
    """Every instruction of the Dockerfile and its arguments, lines joined."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in lines]


def sent_to_the_builder(path: str) -> bool:
    """Whether .dockerignore lets a file of the checkout through; the last pattern that fits decides."""
    sent = True
    for pattern in (ROOT / ".dockerignore").read_text().splitlines():
        if not pattern or pattern.startswith("#"):
            continue
        glob = pattern.removeprefix("!").removeprefix("**/").rstrip("/")
        parts = Path(path).parts
        anywhere = pattern.startswith("**/")
        names = parts if anywhere else ("/".join(parts[:depth]) for depth in range(1, len(parts) + 1))
        if any(fnmatch.fnmatch(name, glob) for name in names):
            sent = pattern.startswith("!")
    return sent


def uv() -> str:
    program = shutil.which("uv") or shutil.which("uv", path=str(BIN))
    if not program:
        pytest.skip("needs uv; `python -m pip install uv` installs it")
    return program


def test_hadolint_has_nothing_to_say() -> None:
    done = subprocess.run(
        [BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_is_small_rootless_and_pinned() -> None:
    steps = instructions()
    bases = [arguments.split()[0] for name, arguments in steps if name == "FROM"]
    assert len(bases) == 2
    for image in [*bases, *(service["image"] for service in COMPOSE["services"].values())]:
        assert re.fullmatch(r"[a-z-]+:\d[\w.-]*", image), f"{image} is not pinned by a version"
    [user] = [arguments for name, arguments in steps if name == "USER"]
    assert int(user) > 0
    last = max(at for at, (name, _) in enumerate(steps) if name == "FROM")
    assert not any("pip" in arguments for name, arguments in steps[last:] if name == "RUN")


def test_the_python_of_the_image_is_one_that_the_project_supports() -> None:
    [version] = set(re.findall(r"FROM python:(\d+\.\d+)", DOCKERFILE))
    supported = importlib.metadata.metadata("taxi-etl").get_all("Classifier")
    assert f"Programming Language :: Python :: {version}" in supported


@pytest.mark.parametrize("path", [".env", "data/warehouse.duckdb", ".git/config", "tests/conftest.py"])
def test_nothing_private_is_sent_to_the_builder(path: str) -> None:
    assert not sent_to_the_builder(path)


def test_the_steps_of_the_build_give_a_program_that_runs(tmp_path: Path) -> None:
    app = tmp_path / "app"
    app.mkdir()
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("TAXI_", "PREFECT_"))
    }
    # Those of the Dockerfile would copy and compile two hundred packages; what is installed is the same.
    environment |= {"UV_LINK_MODE": "hardlink", "UV_PYTHON": sys.executable, "UV_OFFLINE": "1"}
    environment |= {
        "PATH": f"{Path(uv()).parent}{os.pathsep}{environment['PATH']}",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    environment.pop("VIRTUAL_ENV", None)
    environment.pop("UV_PROJECT_ENVIRONMENT", None)
    not_run = 0
    for name, arguments in instructions():
        if name == "COPY" and not arguments.startswith("--from"):
            *sources, target = arguments.split()
            for source in sources:
                copy_into_image(ROOT / source, app / target / (source if target.endswith("/") else ""))
        elif name == "RUN" and any(step in arguments for step in NOT_RUN):
            not_run += 1
        elif name == "RUN":
            done = subprocess.run(
                ["/bin/sh", "-c", arguments.removeprefix("--mount=type=cache,target=/root/.cache/uv")],
                cwd=app,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            if "--offline" in done.stderr or "network was disabled" in done.stderr:
                pytest.skip("not every package is in uv's cache; `make setup` fills it")
            assert done.returncode == 0, done.stderr
    assert not_run == len(NOT_RUN)
    assert not (app / "tests").exists()
    in_image = {
        **environment,
        "PATH": f"{app}/.venv/bin:{environment['PATH']}",
        "TAXI_DATA_DIR": str(tmp_path / "data"),
    }
    shutil.rmtree(app / "flows")  # only the environment is copied into the image
    call = ["load", "--color", "green", "--months", "1", "--source", "synthetic", "--dry-run"]
    done = subprocess.run(
        ["taxi-etl", *call], cwd=tmp_path, env=in_image, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "add the month" in done.stdout
    modules = ("prefect_dask", "pyiceberg", "pytest")
    installed = f"import importlib.util as u; print([bool(u.find_spec(m)) for m in {modules}])"
    done = subprocess.run(
        ["python", "-c", installed], cwd=app, env=in_image, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[True, True, False]"


def copy_into_image(source: Path, target: Path) -> None:
    """What COPY would: of the files that .dockerignore lets through."""
    files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
    for file in files:
        if sent_to_the_builder(str(file.relative_to(ROOT))):
            place = target / file.relative_to(source) if source.is_dir() else target
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)


def test_the_compose_file_keeps_to_the_specification() -> None:
    assert sorted(PyCompose.from_json(json.dumps(COMPOSE)).service_names()) == [
        "deploy",
        "postgres",
        "server",
        "worker",
    ]
    wrong = copy.deepcopy(COMPOSE)
    wrong["services"]["worker"]["helthcheck"] = {}
    with pytest.raises(ValueError, match="helthcheck"):
        PyCompose.from_json(json.dumps(wrong))


def test_services_wait_for_what_they_need() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            if wait["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"], f"{name} waits for {other}"
    assert list(services["worker"]["depends_on"]) == ["deploy"]
    assert set(COMPOSE["volumes"]) == {
        volume.partition(":")[0] for service in services.values() for volume in service.get("volumes", ())
    }
    for service in services.values():
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), "nothing is open to the network by itself"


def test_the_compose_file_has_no_secret_and_only_settings_that_exist() -> None:
    known = {f"TAXI_{name.upper()}" for name in Settings.model_fields}
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            assert not variable.startswith("TAXI_") or variable in known
            if "PASSWORD" in variable or "://taxi:" in str(value):
                assert re.search(r"\$\{POSTGRES_PASSWORD[:}]", value), f"{name}: {variable}"
    # The example names every variable, gives no value, and does not get in the way of TAXI_* in .env.
    example = (ROOT / ".env.example").read_text()
    variables = set(re.findall(r"\$\{(\w+)", (ROOT / "compose.yaml").read_text()))
    assert set(re.findall(r"^(\w+)=$", example, re.MULTILINE)) == variables
    assert not any(variable.startswith("TAXI_") and variable not in known for variable in variables)


def test_commands_and_checks_of_the_services_are_those_of_the_program() -> None:
    services = COMPOSE["services"]
    [entry_point] = [json.loads(arguments) for name, arguments in instructions() if name == "ENTRYPOINT"]
    assert entry_point == ["taxi-etl"]
    for name in ("server", "deploy", "worker"):
        subcommand, *options = services[name]["command"]
        assert subcommand in COMMANDS
        assert not options or name == "worker"
    # The options that `taxi-etl worker` hands on.
    usage = subprocess.run(
        [BIN / "prefect", "worker", "start", "--help"], capture_output=True, text=True, check=True
    )
    for option in filter(lambda part: part.startswith("--"), services["worker"]["command"]):
        assert option in usage.stdout
    for name in ("server", "worker"):
        *_, code = services[name]["healthcheck"]["test"]
        compile(code, name, "exec")
    # The image answers on its socket before it has made the databases.
    assert "--host 127.0.0.1" in services["postgres"]["healthcheck"]["test"][1]
