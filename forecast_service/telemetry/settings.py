"""Settings of telemetry, the same in every process."""

from __future__ import annotations

from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator

from marketcal.channel import is_local

OFF = -1
"""The port of what does not listen."""


class TelemetrySettings(BaseModel):
    """Section ``telemetry``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    otlp_endpoint: str = Field(
        "",
        description="Base URL of an OTLP/HTTP collector, such as `http://127.0.0.1:4318`; traces "
        "go to `/v1/traces` below it, metrics to `/v1/metrics`. Unset: nothing is sent.",
    )
    otlp_headers: SecretStr | None = Field(
        None, description="Headers for the collector: `name=value`, separated by commas."
    )
    allow_plaintext: bool = Field(
        False, description="Send to a collector beyond loopback over http."
    )
    sample_ratio: float = Field(
        0.1, ge=0, le=1,
        description="Share of the traces begun here that are recorded; a caller's own decision "
        "is followed.",
    )  # fmt: skip
    metrics_seconds: float = Field(
        15.0, gt=0, le=3600, description="How often metrics are sent to the collector."
    )
    prometheus_host: str = Field(
        "127.0.0.1", description="Address at which metrics can be read, without a key."
    )
    prometheus_port: int = Field(
        9464, ge=OFF, le=65535,
        description="Port of `/metrics`; worker i takes the i-th port after it. 0 takes a free "
        "one, -1 is off.",
    )  # fmt: skip
    service_name: str = Field(
        "marketcal", pattern=r"^[A-Za-z0-9._-]{1,64}$",
        description="Begins the service name of each role in traces and metrics.",
    )  # fmt: skip
    log_format: Literal["auto", "json", "text"] = Field(
        "auto", description="Form of the log; auto is text on a terminal and JSON elsewhere."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Records below this level are left out."
    )
    access_log: Literal["off", "errors", "all"] = Field(
        "errors", description="Calls that leave a line in the log; errors are the server's faults."
    )

    @model_validator(mode="after")
    def _can_be_sent_to(self) -> Self:
        parse_headers(self.otlp_headers)
        if not self.otlp_endpoint:
            return self
        url = urlsplit(self.otlp_endpoint)
        if url.scheme not in ("http", "https") or not url.hostname or url.query or url.fragment:
            raise ValueError("otlp_endpoint: is no http or https URL of a host")
        if url.username is not None or url.password is not None:
            raise ValueError("otlp_endpoint: holds a credential; give telemetry.otlp_headers")
        clear = url.scheme == "http" and not is_local(url.hostname)
        if clear and not self.allow_plaintext:
            raise ValueError(
                f"otlp_endpoint: {url.hostname} is beyond loopback; use https, or set "
                "telemetry.allow_plaintext where the network itself is trusted"
            )
        return self

    def url(self, signal: str) -> str:
        """Where ``signal`` (traces or metrics) goes."""
        return f"{self.otlp_endpoint.rstrip('/')}/v1/{signal}"


def parse_headers(given: SecretStr | None) -> dict[str, str]:
    """Headers by name, from ``name=value`` separated by commas; none from None.

    Raises:
        ValueError: they are not of the form; the message does not hold them.
    """
    if given is None:
        return {}
    found = {}
    for pair in given.get_secret_value().split(","):
        name, equals, value = (part.strip() for part in pair.partition("="))
        text = f"{name}{value}"
        if not name or not equals or not (text.isascii() and text.isprintable()):
            raise ValueError("otlp_headers: must read name=value,name=value")
        found[name] = value
    return found
