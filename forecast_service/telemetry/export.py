"""The way of traces and metrics to the collector that the settings name; none without one.

Where anything goes, and with which headers, is a matter of our settings alone:
``OTEL_EXPORTER_OTLP_ENDPOINT`` sends nothing, ``OTEL_EXPORTER_OTLP_HEADERS`` adds nothing, and
proxies of the environment are not asked. Importing this takes a while: whoever sends
nothing leaves it alone.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanLimits, TracerProvider
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

from forecast_service.telemetry.outbox import Outbox
from forecast_service.telemetry.settings import TelemetrySettings, parse_headers

TRY_SECONDS = 1.0
"""How long a request to the collector may take, its repetitions included."""
ATTRIBUTE_CHARACTERS = 256
"""Longest text in a span."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Traces of a process that are sent.

    Attributes:
        provider: makes the tracers.
        outbox: what waits, and what became of the rest.
    """

    provider: TracerProvider
    outbox: Outbox

    def close(self) -> None:
        """Sends the last spans, within a bounded time; blocks."""
        self.provider.shutdown()


def traces_of(settings: TelemetrySettings, role: str) -> Traces:
    """Traces of the process with this role, for settings that name an endpoint."""
    _quiet()
    exporter = OTLPSpanExporter(
        endpoint=settings.url("traces"),
        timeout=TRY_SECONDS,
        session=_Session(parse_headers(settings.otlp_headers)),
    )
    limits = SpanLimits(
        max_span_attributes=32, max_links=1_024, max_span_attribute_length=ATTRIBUTE_CHARACTERS
    )
    provider = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(settings.sample_ratio)),
        resource=Resource(resource_of(settings, role)),
        span_limits=limits,
        shutdown_on_exit=False,
    )
    outbox = Outbox(exporter)
    provider.add_span_processor(outbox)
    return Traces(provider, outbox)


def metric_exporter_of(settings: TelemetrySettings) -> MetricExporter:
    """Sends metrics, for settings that name an endpoint."""
    _quiet()
    return OTLPMetricExporter(
        endpoint=settings.url("metrics"),
        timeout=TRY_SECONDS,
        session=_Session(parse_headers(settings.otlp_headers)),
    )


def resource_of(settings: TelemetrySettings, role: str) -> Mapping[str, str]:
    """What tells the processes of a platform apart."""
    return {
        "service.name": f"{settings.service_name}-{role}",
        "service.namespace": settings.service_name,
        "service.instance.id": f"{os.getpid()}-{secrets.token_hex(4)}",
    }


class _Session(requests.Session):
    """Sends the headers that it is given, and none that the exporters find in the environment.

    A redirect is a failure: nothing is sent after it, and the exporters would take it for success.
    """

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.trust_env = False
        self._given = headers

    def request(self, method: str, url: str, **given: Any) -> requests.Response:  # type: ignore[override]  # of the many arguments the exporters name theirs
        """The answer to a request.

        Raises:
            requests.RequestException: there is none, or a redirect.
        """
        found = given.pop("headers") or {}
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": "marketcal"}
        if "Content-Encoding" in found:
            headers["Content-Encoding"] = found["Content-Encoding"]
        answer = super().request(method, url, headers=headers | dict(self._given), **given)
        if 300 <= answer.status_code < 400:
            raise requests.TooManyRedirects(f"the collector answers {answer.status_code}")
        return answer


def _quiet() -> None:
    """The exporters log each failure; the outbox says once that the collector is away."""
    for name in ("opentelemetry.exporter", "opentelemetry.sdk", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
