"""TLS: a server with a certificate of our own, and `sslmode=verify-full`.

The server is that of the system's packages, because the wheel's has no TLS.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pwd
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.postgres import Database, short_lived_directory
from support.postgres_harness import destination

from flows.errors import DestinationRefused
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Generator

    from support.destinations import Months

JANUARY = TripMonth("yellow", 2021, 1)
LONGEST_WAIT_SECONDS = 30


def write_certificate(directory: Path, name: str) -> Path:
    """A certificate for a host that is its own authority, and its key beside it."""
    key, subject = (
        ec.generate_private_key(ec.SECP256R1()),
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
    )
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = directory / f"{name}.crt"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.with_suffix(".key").write_bytes(private)
    path.with_suffix(".key").chmod(0o600)
    return path


def _program(name: str) -> str:
    places = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    path = shutil.which(name, path=os.pathsep.join([*map(str, places), os.environ["PATH"]]))
    if path is None:
        pytest.skip(f"needs {name} of a PostgreSQL with TLS: apt-get install postgresql")
    return path


@pytest.fixture(scope="module")
def encrypted() -> Generator[Database]:
    """A server that takes encrypted connections only, as the host `localhost`; `sslrootcert` is its own."""
    owner = None
    if os.geteuid() == 0:  # which PostgreSQL refuses
        owner = next((user.pw_uid for user in pwd.getpwall() if user.pw_name == "postgres"), None)
        if owner is None:
            pytest.skip("needs the user postgres to run a server as root")
    with short_lived_directory() as directory, socket.socket() as asking:
        certificate = write_certificate(directory, "localhost")
        write_certificate(directory, "elsewhere")
        for path in (directory, *directory.iterdir()):
            os.chown(path, owner if owner is not None else -1, -1)
        directory.chmod(0o755)
        asking.bind(("127.0.0.1", 0))
        port = asking.getsockname()[1]
        asking.close()
        data = directory / "data"
        subprocess.run(
            [_program("initdb"), "-D", data, "-U", "postgres", "-A", "trust", "--no-sync"],
            user=owner,
            cwd=directory,
            check=True,
            capture_output=True,
        )
        (data / "pg_hba.conf").write_text("hostssl all all all trust\n")
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": port,
            "unix_socket_directories": "",
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": certificate,
            "ssl_key_file": certificate.with_suffix(".key"),
        }
        options = [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        log = (directory / "server.log").open("w")
        with (
            log,
            subprocess.Popen(
                [_program("postgres"), "-D", data, *options], user=owner, cwd=directory, stderr=log
            ) as process,
        ):
            made = Database(f"postgresql://postgres@localhost:{port}/postgres").other(
                sslmode="verify-full", sslrootcert=str(certificate)
            )
            try:
                _wait_for(made, process)
                yield made
            finally:
                process.terminate()


def _wait_for(database: Database, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + LONGEST_WAIT_SECONDS
    while True:
        with contextlib.suppress(psycopg.OperationalError):
            database.execute("SELECT 1")
            return
        assert process.poll() is None, "the server has not started"
        assert time.monotonic() < deadline, "the server has not started"
        time.sleep(0.05)


def test_a_certificate_of_our_own_is_verified_on_every_connection(
    encrypted: Database, months: Months
) -> None:
    seen = set[tuple[int, bool]]()
    encryption = (
        "SELECT count(*), bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) "
        "WHERE application_name = 'taxi-etl' AND pid <> pg_backend_pid()"
    )
    staged = months.trips(JANUARY, 40_000)
    receipt = destination(encrypted).publish(
        staged, report=lambda *_: seen.update(encrypted.rows(encryption))
    )
    assert receipt.status == "published"
    assert max(seen) == (3, True)
    assert encrypted.value(f"SELECT count(*) FROM {JANUARY.dataset.table}") == staged.rows


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"sslrootcert": "elsewhere.crt"}, "certificate verify failed"),
        ({"sslrootcert": "no-such.crt"}, "root certificate file .* does not exist"),
        ({"host": "127.0.0.1"}, "does not match host name"),
        ({"sslmode": "disable", "sslrootcert": None}, "no encryption"),
    ],
    ids=["of another authority", "no file", "of another host", "not encrypted"],
)
def test_what_cannot_be_verified_is_refused(
    encrypted: Database, months: Months, changes: dict[str, str | None], says: str
) -> None:
    if name := changes.get("sslrootcert"):
        changes = changes | {"sslrootcert": str(Path(encrypted.parameters["sslrootcert"]).with_name(name))}
    with pytest.raises(DestinationRefused, match=says) as refused:
        destination(encrypted.other(**changes)).publish(months.trips(JANUARY))
    assert "\n" not in refused.value.message
