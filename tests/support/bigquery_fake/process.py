"""The fake in a process of its own, for whoever measures a client: its threads would share one interpreter's.

`python -m support.bigquery_fake.process` prints the REST URL and the gRPC address when it is ready, and
serves until its standard input is closed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.bigquery_fake.server import BigQueryFake

if TYPE_CHECKING:
    from collections.abc import Generator

TESTS = Path(__file__).parents[2]
WHOLE_JOB_SECONDS = 600.0


@dataclass(frozen=True)
class BigQueryProcess:
    """A running one.

    Attributes:
        rest_url, grpc_address: where it listens.
    """

    rest_url: str
    grpc_address: str


@contextlib.contextmanager
def running() -> Generator[BigQueryProcess]:
    """Start one, empty, and stop it at the end of the block.

    Every job is answered when it is done, not while it runs: a client that is told to wait asks again
    after a second, and that second would be measured, too.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "support.bigquery_fake.process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(TESTS)},
    ) as process:
        assert process.stdout
        try:
            rest_url, grpc_address = process.stdout.readline().split()
            yield BigQueryProcess(rest_url, grpc_address)
        finally:
            process.kill()  # it holds nothing that outlives it


def serve() -> None:
    with BigQueryFake() as fake:
        fake.jobs.patience_seconds = WHOLE_JOB_SECONDS
        print(fake.rest_url, fake.grpc_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    serve()
