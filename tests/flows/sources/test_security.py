"""A source cannot pass for another one, and cannot choose where it lands."""

from __future__ import annotations

import datetime as dt
import http.server
import ipaddress
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from flows.errors import SourceUnreachable, UsageError
from flows.settings import Settings
from flows.sources import SourceFile, land, locate_source, redact
from flows.sources.redaction import restore
from transforms.trip_month import TripMonth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MONTH = TripMonth("yellow", 2021, 1)
SETTINGS = Settings(_env_file=None, http_attempts=1)


@pytest.fixture
def impostor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An HTTPS server whose certificate nobody vouches for but itself."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")]),
        dt.datetime.now(dt.UTC),
    )
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - dt.timedelta(1), now + dt.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "impostor.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)

    class Trips(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"VendorID,tpep_pickup_datetime\n1,2021-01-01 00:00:00\n")

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Trips)
    server.handle_error = lambda *_: None  # the client hangs up in the handshake, as it should
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/trips.csv"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_server_that_cannot_prove_who_it_is_is_not_read(impostor: str, tmp_path: Path) -> None:
    with pytest.raises(SourceUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
        land(SourceFile(impostor, "trips.csv"), tmp_path / "raw", SETTINGS)
    assert not list((tmp_path / "raw").glob("trips*"))


@pytest.mark.parametrize(
    "template",
    [
        "https://h/..%2F..%2F..%2Fetc%2Fpasswd",
        "https://h/%2e%2e",
        "https://h/a/..",
        "https://h/%2Froot%2F.ssh%2Fauthorized_keys",
        "https://h/x%00.csv",
        "https://h/..\\..\\x.csv",
        "https://h/.locks",
        pytest.param("https://h/" + "a" * 5000, id="5000 letters"),
        "https://h/yellow_tripdata_2021-01.csv.gz%0Arm%20-rf",
    ],
)
def test_a_source_lands_in_its_directory_and_nowhere_else(template: str, tmp_path: Path) -> None:
    try:
        file = locate_source(template, MONTH, SETTINGS)
    except UsageError:
        return
    raw = tmp_path / "raw" / "yellow"
    target = raw / file.file_name
    assert target.resolve().parent == raw.resolve()
    assert target.name not in ("", ".", "..", ".locks")
    assert len(target.name.encode()) < 240, "a name that no file system takes"
    assert target.name.isprintable()


def test_what_is_hidden_is_revealed_to_this_process_alone() -> None:
    secret = "https://reader:pa55@h/{color}_{month:02}.csv?sig=s1gn&month={month}"
    shown = redact(secret)
    assert "pa55" not in shown
    assert "s1gn" not in shown
    assert shown.startswith("https://h/{color}_{month:02}.csv?private=")
    assert restore(shown) == secret
    assert redact(shown) == shown
    assert redact(secret.replace("s1gn", "other")) != shown
    assert locate_source(shown, MONTH, SETTINGS).url == secret.format(color="yellow", month=1)
    with pytest.raises(UsageError, match="known only to the command it was given to"):
        restore("https://h/x.csv?private=0123456789ab")
    for plain in ("dtc", "synthetic", "https://h/x.csv", "data/{color}.csv"):
        assert redact(plain) == plain
