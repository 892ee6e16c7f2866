"""The image and compose's services in containers of buildah: no engine, and a network of loopback alone.

All containers share that network, so services find each other by the names and ports that compose.yaml has,
nothing outside can be reached, and no port of this machine is taken. They also share the image's file system;
a volume each is their own.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import signal
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

IMAGE = os.environ.get("TAXI_TEST_IMAGE", "")
"""Its name in buildah's storage; `make image` builds it and sets this."""

COMPOSE: dict[str, Any] = yaml.safe_load((Path(__file__).parents[2] / "compose.yaml").read_text())
PASSWORD = "letters4digits"
START_TIMEOUT_SECONDS = 180
BUILDAH_RUN = ("buildah", "run", "--network=host")


def called(program: str, *arguments: str | Path) -> str:
    """What a program prints that has to succeed."""
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@dataclass(frozen=True)
class Started:
    """A command at work in a container.

    Attributes:
        process: buildah's, which ends as the command does.
        log: what the command prints.
    """

    process: subprocess.Popen[bytes]
    log: Path

    def inner(self) -> psutil.Process:
        """The command's own process, under those of buildah."""
        outer = psutil.Process(self.process.pid)
        for process in (outer, *outer.children(recursive=True)):
            if "buildah" not in process.name():
                return process
        raise AssertionError(f"nothing runs: {self.log.read_text()}")

    def terminate(self) -> int:
        """What `docker stop` does first; its exit code."""
        if self.process.poll() is None:
            self.inner().send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


@dataclass
class Containers:
    """A working container of the image, and what runs in it.

    Attributes:
        name: buildah's.
        config: of the image: user, entry point, command, environment.
        namespace: the network's, as a path.
        directory: for logs and volumes.
    """

    name: str
    config: dict[str, Any]
    namespace: str
    directory: Path
    started: list[Started] = field(default_factory=list)

    @property
    def beside(self) -> tuple[str, str]:
        """What runs a command of this machine in the network of the containers."""
        return ("nsenter", f"--net={self.namespace}")

    def volume(self, name: str) -> Path:
        """A named volume; as an engine does it, a new one belongs to whom it belongs in the image."""
        path = self.directory / name
        if not path.exists():
            path.mkdir()
            os.chown(path, int(self.config["User"]), int(self.config["User"]))
        return path

    def start(
        self, *command: str, environment: Mapping[str, str] | None = None, volumes: Mapping[Path, str]
    ) -> Started:
        """Start a command in the container, as the image's user."""
        options = [f"--env={name}={value}" for name, value in (environment or {}).items()]
        options += [f"--volume={path}:{place}" for path, place in volumes.items()]
        return self._start(*BUILDAH_RUN, *options, self.name, "--", *command)

    def start_beside(self, *command: str, user: str) -> Started:
        """Start a command of this machine in the network of the containers."""
        login = pwd.getpwnam(user)
        return self._start(f"--setuid={login.pw_uid}", f"--setgid={login.pw_gid}", *command)

    def _start(self, *command: str) -> Started:
        log = self.directory / f"{len(self.started)}.log"
        with log.open("wb") as output:
            process = subprocess.Popen([*self.beside, *command], stdout=output, stderr=subprocess.STDOUT)
        self.started.append(Started(process, log))
        return self.started[-1]

    def run(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        data: str,
        entry_point: tuple[str, ...] | None = None,
    ) -> tuple[int, str]:
        """What `docker run` or `docker compose exec` does: the exit code and the output of a command."""
        before = tuple(self.config["Entrypoint"]) if entry_point is None else entry_point
        started = self.start(
            *before, *arguments, environment=environment, volumes={self.volume(data): "/data"}
        )
        return started.process.wait(timeout=280), started.log.read_text()

    def up(self, service: str, more: Mapping[str, str]) -> Started:
        """Start a service of compose.yaml, with more variables, and wait for its own health check."""
        declared = COMPOSE["services"][service]
        place, environment = service_volume(service), service_environment(service) | dict(more)
        volumes = {self.volume(place): "/data"}
        started = self.start(
            *self.config["Entrypoint"], *declared["command"], environment=environment, volumes=volumes
        )
        _, *check = declared["healthcheck"]["test"]
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while self.run(*check, data=place, environment=environment, entry_point=())[0]:
            assert started.process.poll() is None, started.log.read_text()
            assert time.monotonic() < deadline, started.log.read_text()
            time.sleep(0.5)
        return started


def service_environment(service: str) -> dict[str, str]:
    """The variables of a service, with the password in place."""
    declared: dict[str, str] = COMPOSE["services"][service].get("environment", {})
    return {
        name: re.sub(r"\$\{POSTGRES_PASSWORD[^}]*\}", PASSWORD, value) for name, value in declared.items()
    }


def service_volume(service: str) -> str:
    """The name of the volume that a service has as /data; one named after it, if it has none."""
    volumes = COMPOSE["services"][service].get("volumes", ())
    return next((name for name, _, place in map(_parted, volumes) if place == "/data"), f"of-{service}")


def _parted(volume: str) -> tuple[str, str, str]:
    return volume.partition(":")


@pytest.fixture(scope="session")
def containers() -> Generator[Containers]:
    """Of the image that TAXI_TEST_IMAGE names."""
    if not IMAGE:
        pytest.skip("needs the image; `make image` builds it with buildah and runs this")
    for program in ("buildah", "nsenter", "unshare", "ip"):
        if not shutil.which(program):
            pytest.skip(f"needs {program}")
    hosts = [f"--add-host={service}:127.0.0.1" for service in COMPOSE["services"]]
    name = called("buildah", "from", "--pull-never", *hosts, IMAGE)
    called("buildah", "config", "--volume=/data-", name)  # its own would be mounted over ours
    directory = Path(tempfile.mkdtemp(prefix="taxi-etl-image-"))
    network = subprocess.Popen(
        ["unshare", "--net", "sh", "-ec", "ip link set lo up; echo up; exec sleep infinity"],
        stdout=subprocess.PIPE,
    )
    try:
        assert network.stdout
        if network.stdout.readline() != b"up\n":
            pytest.skip("needs the right to make a network of its own: root")
        config = json.loads(called("buildah", "inspect", "--type=image", IMAGE))["OCIv1"]["config"]
        directory.chmod(
            0o755
        )  # the image's user has to get through to its volumes, which pytest's own forbid
        made = Containers(name, config, f"/proc/{network.pid}/ns/net", directory)
        yield made
        for started in reversed(made.started):
            started.terminate()
    finally:
        network.kill()
        network.communicate()
        called("buildah", "rm", name)
        shutil.rmtree(directory)
