"""TLS: what is served follows the files, and nothing is served in clear beside it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.server_settings import GatewaySettings
from gateway.tls import Certificates, TlsError

CHECK = health_pb2.HealthCheckRequest()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def served_certificate(port: int) -> str:
    return ssl.get_server_certificate(("127.0.0.1", port))


def secure(port: int, roots: Path, *own: Path) -> grpc.Channel:
    """A channel that trusts ``roots``, and shows (certificate, key) where given."""
    certificate, key = [file.read_bytes() for file in own] or (None, None)
    credentials = grpc.ssl_channel_credentials(roots.read_bytes(), key, certificate)
    return grpc.secure_channel(
        f"127.0.0.1:{port}", credentials, options=[("grpc.use_local_subchannel_pool", 1)]
    )


def serve_tls(serve_gateway: Any, stack: ExitStack, *files: Path, **more: Any) -> Any:
    gateway = {"tls_certificate": str(files[0]), "tls_key": str(files[1])} | more
    return serve_gateway(stack, gateway=gateway)


def test_serves_tls_and_nothing_in_clear(
    serve_gateway: Any, stack: ExitStack, authority: Any, refused: Any
) -> None:
    running = serve_tls(serve_gateway, stack, *authority.issue("gateway"))
    with secure(running.port, authority.roots) as channel:
        assert health_pb2_grpc.HealthStub(channel).Check(CHECK, timeout=20).status == 1

    # The channel of the fixture is in clear.
    refusal = refused(health_pb2_grpc.HealthStub(running.channel).Check, CHECK, timeout=5)
    assert refusal.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_a_renewed_certificate_is_served_without_a_restart(
    serve_gateway: Any, stack: ExitStack, authority: Any
) -> None:
    files = authority.issue("gateway")
    running = serve_tls(serve_gateway, stack, *files)
    assert served_certificate(running.port) == files[0].read_text()
    channel = stack.enter_context(secure(running.port, authority.roots))
    health_pb2_grpc.HealthStub(channel).Check(CHECK, timeout=20)

    before = files[0].read_text()
    authority.issue("renewed", file="gateway")

    assert files[0].read_text() != before
    assert served_certificate(running.port) == files[0].read_text()
    # A connection that was there before goes on.
    assert health_pb2_grpc.HealthStub(channel).Check(CHECK, timeout=20).status == 1


def test_a_half_written_renewal_leaves_the_certificate_before_in_force(
    serve_gateway: Any, stack: ExitStack, authority: Any
) -> None:
    certificate, key = authority.issue("gateway")
    running = serve_tls(serve_gateway, stack, certificate, key)
    before, old_key = certificate.read_text(), key.read_bytes()

    authority.issue("renewed", file="gateway")
    new_key = key.read_bytes()
    key.write_bytes(old_key)  # the certificate has been written, its key not yet
    assert served_certificate(running.port) == before
    key.write_bytes(new_key)

    assert served_certificate(running.port) == certificate.read_text() != before


def test_with_client_roots_every_caller_shows_a_certificate_of_theirs(
    serve_gateway: Any, stack: ExitStack, authority: Any, refused: Any
) -> None:
    files = authority.issue("gateway")
    running = serve_tls(serve_gateway, stack, *files, tls_client_ca=str(authority.roots))
    with secure(running.port, authority.roots, *authority.issue("caller")) as known:
        assert health_pb2_grpc.HealthStub(known).Check(CHECK, timeout=20).status == 1
    with secure(running.port, authority.roots) as stranger:
        refusal = refused(health_pb2_grpc.HealthStub(stranger).Check, CHECK, timeout=5)
        assert refusal.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def settings(certificate: Path, key: Path, roots: Path | None = None) -> GatewaySettings:
    return GatewaySettings(tls_certificate=certificate, tls_key=key, tls_client_ca=roots)


def test_files_that_cannot_be_used_are_named_at_the_start(authority: Any, tmp_path: Path) -> None:
    certificate, key = authority.issue("gateway")
    _, other_key = authority.issue("other")
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("this is no certificate")

    with pytest.raises(TlsError, match=r"and gateway\.tls_key cannot be used"):
        Certificates(settings(certificate, other_key)).credentials()
    with pytest.raises(TlsError, match="tls_certificate"):
        Certificates(settings(tmp_path / "absent.pem", key)).credentials()
    with pytest.raises(TlsError, match="tls_client_ca"):
        Certificates(settings(certificate, key, nonsense)).credentials()
