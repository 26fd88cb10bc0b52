"""The parts that deploy/README.md gives for TLS and other origins work in the file."""

from __future__ import annotations

import datetime
import ipaddress
import re
import ssl
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

README = Path(__file__).resolve().parents[2] / "deploy" / "README.md"
ORIGIN = {"origin": "https://app.example", "access-control-request-method": "GET"}


def self_signed(folder: Path, name: str, host: str) -> tuple[Path, Path]:
    """Files of a certificate for ``host`` and 127.0.0.1, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    day = datetime.timedelta(days=1)
    now = datetime.datetime.now(datetime.UTC)
    hosts = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - day)
        .not_valid_after(now + day)
        .add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, secret = folder / f"{name}.pem", folder / f"{name}.key"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return pem, secret


def with_the_parts(text: str, front: tuple[Path, Path], authority: Path) -> str:
    """The file with the three parts of the README at the places that it names."""
    blocks = re.findall(r"```yaml\n(.*?)```", README.read_text(), re.DOTALL)
    listener, cluster, host = (
        yaml.safe_load(
            block.replace("certificates/front.pem", str(front[0]))
            .replace("certificates/front.key", str(front[1]))
            .replace("certificates/authority.pem", str(authority))
        )
        for block in blocks
    )
    config = yaml.safe_load(text)
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    chain |= listener
    config["static_resources"]["clusters"][0] |= cluster
    routes = chain["filters"][0]["typed_config"]["route_config"]
    routes["virtual_hosts"][0] |= host
    return yaml.safe_dump(config)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: Any, start_envoy: Any, serve_gateway: Any) -> Any:
    """A gateway and an Envoy that speak TLS alone, and a key."""
    folder = tmp_path_factory.mktemp("certificates")
    front, gateway = (
        self_signed(folder, name, host)
        for name, host in (("front", "front.internal"), ("gateway", "gateway.internal"))
    )
    with ExitStack() as stack:
        files = {"tls_certificate": str(gateway[0]), "tls_key": str(gateway[1])}
        running = serve_gateway(stack, gateway=files)
        verify = ssl.create_default_context(cafile=str(front[0]))
        started = start_envoy(
            stack, running.port, lambda text: with_the_parts(text, front, gateway[0]), verify
        )
        yield started, {"x-api-key": running.key("forecaster")}


def test_tls_holds_from_the_caller_to_the_gateway(guarded: Any) -> None:
    front, key = guarded
    assert front.http.get("/v1/models", headers=key).status_code == 200
    with pytest.raises(httpx.TransportError):
        httpx.get(f"http://127.0.0.1:{front.port}/v1/models")


def test_an_origin_is_let_in_where_the_policy_names_it(guarded: Any) -> None:
    front, key = guarded
    asked = front.http.options("/v1/models", headers=ORIGIN)
    assert asked.status_code == 200
    assert "x-api-key" in asked.headers["access-control-allow-headers"]
    answer = front.http.get("/v1/models", headers=key | ORIGIN)
    assert answer.headers["access-control-allow-origin"] == ORIGIN["origin"]
    other = front.http.get("/v1/models", headers=key | {"origin": "https://other.example"})
    assert "access-control-allow-origin" not in other.headers
