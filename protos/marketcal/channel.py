"""Where a client connects to and how: TLS, the published service config, what goes with a call."""

from __future__ import annotations

import ipaddress
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path

import grpc

MESSAGE_BYTES = 16 << 20
"""The largest message that is sent or taken, as the server has it."""
SERVICE_CONFIG = Path(__file__).with_name("service_config.json")
"""Deadlines and retries of each method, as gRPC reads them; made from the contract."""

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """What a TLS connection trusts and shows; all parts are PEM.

    Attributes:
        root_certificates: authorities that the server's certificate is checked against; None means
            those of the system.
        certificate_chain: the client's own certificate, for servers that ask for one (mTLS).
        private_key: the key of that certificate.
        server_name: name that the server's certificate must carry, where it is not the address's.
    """

    root_certificates: bytes | None = None
    certificate_chain: bytes | None = None
    private_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.certificate_chain is None) != (self.private_key is None):
            raise ValueError("certificate_chain and private_key go together: one is missing")


def security(address: str, *, tls: bool | Tls, insecure: bool) -> grpc.ChannelCredentials | None:
    """Credentials of the connection; None for one without TLS.

    Raises:
        ValueError: the connection would leave this machine in clear, and nobody asked for that.
    """
    if tls:
        if insecure:
            raise ValueError("insecure: contradicts tls")
        trust = tls if isinstance(tls, Tls) else Tls()
        return grpc.ssl_channel_credentials(
            trust.root_certificates, trust.private_key, trust.certificate_chain
        )
    if insecure or is_local(address):
        return None
    raise ValueError(
        f"address: {address} is not on this machine, and keys must not travel in clear; "
        "pass tls=True, or insecure=True where the network itself is trusted"
    )


def is_local(address: str) -> bool:
    """Whether an address can only be reached on this machine.

    A name that another machine resolves, such as that of ``dns://authority/``, may be anywhere.

    >>> [is_local(a) for a in ("localhost:1", "127.8.0.1:1", "[::1]:1", "unix:/run/a", "dns:///a:1")]
    [True, True, True, True, False]
    >>> [is_local(a) for a in ("dns:///localhost:1", "dns://8.8.8.8/localhost:1", "xds:///localhost")]
    [True, False, False]
    """
    if address.startswith(("unix:", "unix-abstract:")):
        return True
    scheme, _, rest = address.partition(":")
    targets = rest.removeprefix("///") if scheme in ("dns", "ipv4", "ipv6") else address
    return all(_is_loopback(target) for target in targets.split(","))


def _is_loopback(target: str) -> bool:
    host = target
    if target.startswith("["):
        host = target[1:].partition("]")[0]
    elif target.count(":") == 1:
        host = target.partition(":")[0]
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False


def options(address: str, tls: bool | Tls) -> list[tuple[str, str | int]]:
    """Options of the connection: sizes, pings that notice a dead peer, deadlines and retries.

    What stays on this machine goes through no proxy that the environment names for the network.
    """
    chosen: list[tuple[str, str | int]] = [
        ("grpc.max_receive_message_length", MESSAGE_BYTES),
        ("grpc.max_send_message_length", MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.service_config", SERVICE_CONFIG.read_text(encoding="utf-8")),
        ("grpc.service_config_disable_resolution", 1),
    ]
    if is_local(address):
        chosen.append(("grpc.enable_http_proxy", 0))
    if isinstance(tls, Tls) and tls.server_name is not None:
        chosen.append(("grpc.ssl_target_name_override", tls.server_name))
    return chosen


def deadlines() -> dict[str, float]:
    """Longest time of each method that answers once, seconds by path, as the service config has it.

    gRPC for Python takes the retries of that document and leaves its timeouts alone.
    """
    config = json.loads(SERVICE_CONFIG.read_text(encoding="utf-8"))
    return {
        f"/{name['service']}/{name['method']}": float(entry["timeout"].removesuffix("s"))
        for entry in config["methodConfig"]
        for name in entry["name"]
    }


def authorization(key: str | None) -> Metadata:
    """What shows the key to the server.

    Raises:
        ValueError: the key is no word of visible ASCII letters, such as one with a line's end.
    """
    if not key:
        return ()
    if not all("!" <= letter <= "~" for letter in key):
        raise ValueError("key: is no API key: it is one word of visible ASCII letters")
    return (("authorization", f"Bearer {key}"),)


def trace_context() -> Metadata:
    """W3C ``traceparent`` and ``tracestate`` of the current span; nothing without OpenTelemetry.

    A program that has not imported OpenTelemetry has no span, so it is never imported for its sake.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
