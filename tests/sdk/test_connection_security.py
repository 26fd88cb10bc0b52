"""Keys never travel in clear by accident; TLS trusts and shows what it was told to."""

from __future__ import annotations

import datetime
import ipaddress
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from marketcal import AsyncClient, Client, Tls, channel, errors
from marketcal.testing import FakeServer
from marketcal.v1 import market_pb2

START = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
END = datetime.datetime(2126, 1, 1, tzinfo=datetime.UTC)
MARKET = market_pb2.GetMarketResponse(market={"market_id": "m"})


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, PEM."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def chain(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def private(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )


def issue(name: str, issuer: Pair | None = None, *alternatives: x509.GeneralName) -> Pair:
    """A certificate, signed by ``issuer`` or by itself as an authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(START)
        .not_valid_after(END)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return Pair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


AUTHORITY = issue("authority")
SERVER = issue("server", AUTHORITY, x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
ELSEWHERE = issue("elsewhere", AUTHORITY, x509.DNSName("gateway.example"))
CLIENT = issue("client", AUTHORITY)


def served(pair: Pair, *, asks_for_clients: bool = False) -> FakeServer:
    credentials = grpc.ssl_server_credentials(
        [(pair.private, pair.chain)],
        root_certificates=AUTHORITY.chain if asks_for_clients else None,
        require_client_auth=asks_for_clients,
    )
    server = FakeServer(credentials=credentials)
    server.answer("GetMarket", MARKET)
    return server


def test_a_private_authority_is_trusted_when_named(use: Any) -> None:
    with served(SERVER) as server:
        tls = Tls(root_certificates=AUTHORITY.chain)
        found = use(server, lambda client: client.get_market("m"), tls=tls, key="mk_secret")
    assert found.market_id == "m"
    assert server.calls[0].metadata["authorization"] == "Bearer mk_secret"


def test_another_authority_is_not(use: Any) -> None:
    with served(SERVER) as server:
        for tls in (True, Tls(root_certificates=issue("stranger").chain)):
            with pytest.raises(errors.MarketcalError):
                use(server, lambda client: client.get_market("m", timeout=2), tls=tls)
    assert server.calls == []


def test_the_certificate_must_carry_the_name_of_the_server(use: Any) -> None:
    with served(ELSEWHERE) as server:
        with pytest.raises(errors.Unavailable):
            use(
                server,
                lambda client: client.get_market("m", timeout=2),
                tls=Tls(root_certificates=AUTHORITY.chain),
            )
        named = Tls(root_certificates=AUTHORITY.chain, server_name="gateway.example")
        assert use(server, lambda client: client.get_market("m"), tls=named).market_id == "m"


def test_a_server_that_asks_for_certificates_gets_the_clients(use: Any) -> None:
    with served(SERVER, asks_for_clients=True) as server:
        with pytest.raises(errors.Unavailable):
            use(
                server,
                lambda client: client.get_market("m", timeout=2),
                tls=Tls(root_certificates=AUTHORITY.chain),
            )
        mutual = Tls(AUTHORITY.chain, CLIENT.chain, CLIENT.private)
        assert use(server, lambda client: client.get_market("m"), tls=mutual).market_id == "m"


def test_a_private_key_is_not_printed() -> None:
    assert "PRIVATE" not in repr(Tls(AUTHORITY.chain, CLIENT.chain, CLIENT.private))
    with pytest.raises(ValueError, match="go together"):
        Tls(private_key=CLIENT.private)


AWAY = ["gateway:50051", "10.0.0.7:50051", "dns:///gateway.example:443", "[2001:db8::1]:1",
        "ipv4:127.0.0.1:1,10.0.0.7:1", "localhost.example:1", "127.0.0.1.example:1"]  # fmt: skip
HERE = ["localhost:1", "127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "ipv6:[::1]:1",
        "ipv4:127.0.0.1:1", "dns:///localhost:1", "unix:/tmp/a.sock", "unix:relative",
        "unix-abstract:name"]  # fmt: skip


@pytest.mark.parametrize("address", AWAY)
def test_refuses_to_leave_this_machine_in_clear(address: str) -> None:
    with pytest.raises(ValueError, match="keys must not travel in clear"):
        Client(address, key="mk_secret")
    Client(address, key="mk_secret", insecure=True).close()
    Client(address, key="mk_secret", tls=True).close()


@pytest.mark.parametrize("address", HERE)
def test_stays_on_this_machine_in_clear(address: str) -> None:
    Client(address, key="mk_secret").close()


@pytest.mark.parametrize(
    "address",
    ["xds:///localhost:1", "dns://8.8.8.8/localhost:1", "dns://localhost:53/a", "127.evil.com:1",
     "ipv4:127.0.0.1:1,10.0.0.1:1", "any:///localhost:1", "a/localhost:1"],
)  # fmt: skip
def test_a_name_that_another_machine_resolves_is_not_on_this_one(address: str) -> None:
    assert not channel.is_local(address)


async def test_the_asynchronous_client_refuses_the_same() -> None:
    with pytest.raises(ValueError, match="keys must not travel in clear"):
        AsyncClient("gateway:50051", key="mk_secret")


def test_tls_and_its_absence_cannot_both_be_asked_for() -> None:
    with pytest.raises(ValueError, match="contradicts"):
        Client("gateway:50051", tls=True, insecure=True)


@pytest.mark.parametrize("key", ["mk_a b", "mk_a\n", "mk_ü"])
def test_a_key_that_is_none_is_refused_without_being_said(key: str) -> None:
    with pytest.raises(ValueError, match=r"^key: ") as refused:
        Client("localhost:1", key=key)
    assert key not in str(refused.value)
