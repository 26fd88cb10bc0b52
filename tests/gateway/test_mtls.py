"""Roles of client certificates, and what counts when a caller sends a credential too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.keys import new_key
from gateway.settings import SettingsError, load
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import scoreboard_pb2

MODELS = pb.ListModelsRequest()
SCORES = scoreboard_pb2.ListScoresRequest()
ROLES = {
    "spiffe://prod/scorer": "forecaster",
    "reader.internal": "viewer",
    "desk": "operator",
}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@dataclass
class Callers:
    """A gateway that asks for certificates, and channels that show them."""

    running: Any
    authority: Any
    stack: ExitStack
    stubs_on: Any

    def showing(self, common_name: str, *names: x509.GeneralName) -> Any:
        """Stubs on a connection with a certificate of these names."""
        chain, key = certificate(self.authority, common_name, names)
        credentials = grpc.ssl_channel_credentials(self.authority.roots.read_bytes(), key, chain)
        channel = grpc.secure_channel(
            f"127.0.0.1:{self.running.port}",
            credentials,
            options=[("grpc.use_local_subchannel_pool", 1)],
        )
        return self.stubs_on(self.stack.enter_context(channel))


def certificate(authority: Any, common_name: str, names: tuple[Any, ...]) -> tuple[bytes, bytes]:
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)]))
        .issuer_name(authority.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), False)
    made = builder.sign(authority.key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


@pytest.fixture
def callers(serve_gateway: Any, stack: ExitStack, authority: Any, stubs_on: Any) -> Callers:
    chain, key = authority.issue("gateway")
    running = serve_gateway(
        stack,
        gateway={
            "tls_certificate": str(chain),
            "tls_key": str(key),
            "tls_client_ca": str(authority.roots),
        },
        identity={"certificate_roles": ROLES},
    )
    return Callers(running, authority, stack, stubs_on)


def test_a_certificate_has_the_role_of_its_uri(callers: Callers) -> None:
    stubs = callers.showing("any", x509.UniformResourceIdentifier("spiffe://prod/scorer"))
    assert stubs.forecasts.ListModels(MODELS, timeout=20).models


def test_a_certificate_has_the_role_of_its_dns_name_and_no_more(
    callers: Callers, refused: Any
) -> None:
    stubs = callers.showing("any", x509.DNSName("other"), x509.DNSName("reader.internal"))
    assert refused(stubs.forecasts.ListModels, MODELS).reason == "SCOPE_MISSING"
    assert refused(stubs.scores.ListScores, SCORES).reason == "NOT_READY", "admitted; no tables yet"


def test_a_common_name_counts_where_there_is_no_other_name(callers: Callers, refused: Any) -> None:
    assert callers.showing("desk").forecasts.ListModels(MODELS, timeout=20).models
    named = callers.showing("desk", x509.DNSName("elsewhere"))
    assert refused(named.forecasts.ListModels, MODELS).reason == "CREDENTIAL_MISSING"


@pytest.mark.parametrize(
    "name",
    [
        "spiffe://prod/scorer2", "spiffe://prod/scorer/x", "spiffe://PROD/scorer",
        "spiffe://evil/scorer",
    ],
)  # fmt: skip
def test_a_verified_certificate_without_a_role_is_no_credential(
    name: str, callers: Callers, refused: Any
) -> None:
    stubs = callers.showing("any", x509.UniformResourceIdentifier(name))
    refusal = refused(stubs.forecasts.ListModels, MODELS)
    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    assert "www-authenticate" in refusal.trailers


def test_a_mail_address_is_no_name_that_may_have_a_role(callers: Callers, refused: Any) -> None:
    mail = callers.showing("any", x509.RFC822Name("reader.internal"))
    assert refused(mail.scores.ListScores, SCORES).reason == "CREDENTIAL_MISSING"


def test_a_credential_in_the_metadata_counts_before_the_certificate(
    callers: Callers, refused: Any, bearer: Any
) -> None:
    stubs = callers.showing("any", x509.UniformResourceIdentifier("spiffe://prod/scorer"))
    viewer = bearer(callers.running.key("viewer"))
    assert refused(stubs.forecasts.ListModels, MODELS, viewer).reason == "SCOPE_MISSING"
    wrong = bearer(new_key()[0])
    assert refused(stubs.forecasts.ListModels, MODELS, wrong).reason == "CREDENTIAL_INVALID"


def test_a_stranger_to_the_authority_never_gets_so_far(
    callers: Callers, refused: Any, tmp_path: Path, authority: Any
) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    stranger = type(authority)(tmp_path, authority.roots, authority.certificate, own)
    callers.authority = stranger
    stubs = callers.showing("any", x509.UniformResourceIdentifier("spiffe://prod/scorer"))
    refusal = refused(stubs.forecasts.ListModels, MODELS, timeout=5)
    assert refusal.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")


def test_roles_of_certificates_that_nobody_asks_for_are_an_error() -> None:
    with pytest.raises(SettingsError, match=r"identity\.certificate_roles: needs gateway\.tls_cl"):
        load({"identity": {"certificate_roles": ROLES}})
    with pytest.raises(SettingsError, match=r"certificate_roles\.x"):
        load({"identity": {"certificate_roles": {"x": "root"}}})
