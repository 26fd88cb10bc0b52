"""Settings of the server: where it listens, what it hosts, how much it takes."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

Hosted = Literal["forecast", "scoreboard", "market", "alert", "compat"]
HOSTED: tuple[Hosted, ...] = ("forecast", "scoreboard", "market", "alert", "compat")
"""Services by the name of their file in the contract; ``compat`` holds the older paths."""
_SECRET = 32
"""Characters that a secret has at least."""
_PLACEHOLDERS = ("changeme", "change-me", "change_me", "example", "placeholder", "secret", "xxxx")


def check_secret(secret: SecretStr | None) -> SecretStr | None:
    """A secret as it is given; refuses one that is short, repeats itself or was never chosen.

    Raises:
        ValueError: it is such a one. The message does not hold it.
    """
    if secret is None:
        return None
    text = secret.get_secret_value()
    if len(text) < _SECRET:
        raise ValueError(f"a secret has at least {_SECRET} characters")
    if len(set(text)) < 8 or any(word in text.lower() for word in _PLACEHOLDERS):
        raise ValueError("this is a placeholder, not a secret")
    return secret


class GatewaySettings(BaseModel):
    """Section ``gateway``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    allow_plaintext: bool = Field(False, description="Serve plaintext beyond loopback.")
    port: int = Field(50051, ge=0, le=65535, description="Port; 0 lets the system choose.")
    workers: int = Field(
        1, ge=1, le=64, description="Processes that share the port; each has limits of its own."
    )
    share_port: bool = Field(
        False, description="Let other gateways listen on the same port (SO_REUSEPORT)."
    )
    hosts: tuple[Hosted, ...] = Field(
        HOSTED, description="Services answered here, unless they have an upstream address."
    )
    behind: bool = Field(
        False,
        description="Take callers over from a gateway in front (upstream.secret), forward nothing.",
    )
    tls_certificate: Path | None = Field(
        None, description="Certificate chain (PEM). With it the gateway speaks TLS alone."
    )
    tls_key: Path | None = Field(None, description="Private key of the certificate (PEM).")
    tls_client_ca: Path | None = Field(
        None, description="Roots (PEM) of client certificates; with it every client needs one."
    )
    max_request_bytes: int = Field(8 << 20, ge=1024, description="Largest request taken.")
    max_response_bytes: int = Field(4 << 20, ge=1024, description="Largest answer sent.")
    transport_bytes: int = Field(
        16 << 20, ge=1024, description="Above it the transport itself refuses a message."
    )
    max_metadata_bytes: int = Field(
        16 << 10, ge=1024, description="Above it the transport refuses the metadata of a call."
    )
    min_in_flight: int = Field(
        192, ge=1, description="Cost of calls that may always be under way; a series costs one."
    )
    max_in_flight: int = Field(
        8192, ge=1, description="Cost of calls that may never be under way, unless by one call."
    )
    max_wait_seconds: float = Field(
        0.025, gt=0, description="Above min_in_flight as much may be under way as is done in this."
    )
    max_streams: int = Field(1024, ge=1, description="Calls under way on one connection.")
    max_open_streams: int = Field(4096, ge=1, description="Server streams open at once.")
    max_streams_per_caller: int = Field(64, ge=1, description="Server streams of one caller.")
    handshake_seconds: float = Field(
        10.0, gt=0, description="How long a new connection may take to say what it speaks."
    )
    keepalive_seconds: float = Field(
        60.0, ge=10, description="How often a silent connection is asked whether it lives."
    )
    max_connection_seconds: float = Field(
        1800.0, gt=0, description="Age at which a connection is asked to begin anew."
    )
    connection_grace_seconds: float = Field(
        60.0, gt=0, description="How long calls on such a connection may go on."
    )
    drain_notice_seconds: float = Field(
        0.0, ge=0, description="How long health says NOT_SERVING before calls are refused."
    )
    drain_seconds: float = Field(
        10.0, ge=0, description="How long calls in flight may go on after SIGTERM."
    )
    refresh_seconds: float = Field(
        1.0, gt=0, description="How often keys and tables are looked at for changes."
    )
    anonymous_role: Literal["viewer", "forecaster"] | None = Field(
        None, description="Role of callers without a credential. Unset: they are refused."
    )
    redis_url: str = Field(
        "", description="Redis that holds the rate limits of several gateways. Empty: each its own."
    )

    @model_validator(mode="after")
    def _below_the_transport(self) -> Self:
        """Our own limits come first: the transport refuses without saying why."""
        if self.transport_bytes < max(self.max_request_bytes, self.max_response_bytes):
            raise ValueError("transport_bytes is below max_request_bytes or max_response_bytes")
        return self

    @model_validator(mode="after")
    def _whole_tls(self) -> Self:
        """A key without its certificate, or roots without either, would silently mean plaintext."""
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise ValueError("tls_client_ca needs tls_certificate and tls_key")
        return self

    def address(self, port: int) -> str:
        """``host:port`` as clients write it.

        >>> GatewaySettings(host="::1").address(50051)
        '[::1]:50051'
        """
        host = self.host.strip("[]")
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def plaintext(self) -> bool:
        """Whether keys and answers can be read on the way."""
        return self.tls_certificate is None


class UpstreamSettings(BaseModel):
    """Section ``upstream``: services that other processes answer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    forecast: str = Field("", description="host:port that answers ForecastService.")
    scoreboard: str = Field("", description="host:port that answers ScoreboardService.")
    market: str = Field("", description="host:port that answers MarketService.")
    alert: str = Field("", description="host:port that answers AlertService.")
    ca: Path | None = Field(
        None, description="Roots (PEM) of upstream certificates. Unset: plaintext."
    )
    allow_plaintext: bool = Field(False, description="Forward in plaintext beyond loopback.")
    secret: SecretStr | None = Field(
        None, description="Shared with upstreams: signs who calls. At least 32 characters."
    )

    @model_validator(mode="after")
    def _can_be_forwarded(self) -> Self:
        check_secret(self.secret)
        services = ("forecast", "scoreboard", "market", "alert")
        addresses = {name: getattr(self, name) for name in services if getattr(self, name)}
        for name, address in addresses.items():
            host, _, port = address.rpartition(":")
            if not host or not port.isdigit():
                raise ValueError(f"{name}: {address!r} is no host:port")
            if self.ca is None and not self.allow_plaintext and not is_loopback(host):
                raise ValueError(
                    f"{name}: {address} is beyond loopback; give upstream.ca, or set "
                    "upstream.allow_plaintext where something else encrypts"
                )
        if addresses and self.secret is None:
            raise ValueError("secret: upstream processes need it to know who calls")
        return self


def is_loopback(host: str) -> bool:
    """Whether what is sent to ``host`` stays on this machine."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"
