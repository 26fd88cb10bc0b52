"""What the tests of telemetry share: a collector that decodes what it is sent."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from marketcal.v1 import forecast_pb2, forecast_pb2_grpc


def plain(value: Any) -> Any:
    """The value of an attribute."""
    return getattr(value, value.WhichOneof("value"))


@dataclass(frozen=True)
class Received:
    """A span as the collector got it.

    Attributes:
        service: name of the process that made it.
        span: the decoded span.
    """

    service: str
    span: Any

    @property
    def trace(self) -> str:
        return str(self.span.trace_id.hex())

    @property
    def id(self) -> str:
        return str(self.span.span_id.hex())

    @property
    def parent(self) -> str:
        return str(self.span.parent_span_id.hex())

    @property
    def attributes(self) -> dict[str, Any]:
        return {pair.key: plain(pair.value) for pair in self.span.attributes}

    @property
    def links(self) -> set[str]:
        return {link.span_id.hex() for link in self.span.links}


@dataclass
class Collector:
    """A collector on loopback.

    Attributes:
        status: what it answers.
        free: while it is not set, requests wait.
        bodies: what it was sent, by path.
        headers: of each request.
    """

    url: str = ""
    status: int = 200
    free: threading.Event = field(default_factory=threading.Event)
    bodies: list[tuple[str, bytes]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    @property
    def spans(self) -> list[Received]:
        """All spans so far."""
        found = []
        for path, body in list(self.bodies):
            if path != "/v1/traces":
                continue
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                facts = {pair.key: plain(pair.value) for pair in resource.resource.attributes}
                for scope in resource.scope_spans:
                    found += [Received(facts["service.name"], span) for span in scope.spans]
        return found

    def named(self, name: str) -> list[Received]:
        """The spans with this name."""
        return [one for one in self.spans if one.span.name == name]

    @property
    def metrics(self) -> dict[str, Any]:
        """The last values by name of the metric."""
        bodies = [body for path, body in list(self.bodies) if path == "/v1/metrics"]
        if not bodies:
            return {}
        (resource,) = ExportMetricsServiceRequest.FromString(bodies[-1]).resource_metrics
        return {one.name: one for scope in resource.scope_metrics for one in scope.metrics}


@pytest.fixture
def collector(serve_http: Callable[[type[BaseHTTPRequestHandler]], str]) -> Iterator[Collector]:
    """A collector that takes everything at once, until it is told otherwise."""
    made = Collector()
    made.free.set()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.free.wait(20)
            if made.status == 200:
                made.bodies.append((self.path, body))
                made.headers.append(dict(self.headers))
            traces = self.path == "/v1/traces"
            answer = (ExportTraceServiceResponse if traces else ExportMetricsServiceResponse)()
            sent = answer.SerializeToString()
            self.send_response(made.status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(sent)))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *_of: Any) -> None:
            """Says nothing."""

    made.url = serve_http(Handler)
    yield made
    made.free.set()


@pytest.fixture
def serve_seen(serve_gateway: Any, collector: Collector) -> Callable[..., Any]:
    """Starts gateways whose spans go to the collector, all of them: ``serve_seen(stack, …)``."""

    def start(stack: ExitStack, **sections: dict[str, Any]) -> Any:
        telemetry = {"otlp_endpoint": collector.url, "sample_ratio": 1.0}
        sections["telemetry"] = telemetry | sections.get("telemetry", {})
        sections.setdefault("gateway", {}).setdefault("anonymous_role", "forecaster")
        sections["gateway"].setdefault("drain_notice_seconds", 0.0)
        sections.setdefault("forecast", {}).setdefault("in_process", "always")
        return serve_gateway(stack, **sections)

    return start


@pytest.fixture(scope="session")
def forecasts_on() -> Callable[[Any], Any]:
    """The stub of the forecast service on a channel."""
    return forecast_pb2_grpc.ForecastServiceStub


@pytest.fixture
def make_traced() -> Callable[[str], tuple[Any, tuple[tuple[str, str]]]]:
    """A request and metadata with a W3C context: ``make_traced("01")`` asks to be recorded."""

    def make(flags: str) -> tuple[Any, tuple[tuple[str, str]]]:
        parent = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-{flags}"
        values = [0.4 + secrets.randbelow(1000) / 1e4 + 0.001 * (i % 9) for i in range(96)]
        model = forecast_pb2.ModelSpec(name="ewma")
        request = forecast_pb2.ForecastRequest(market_id="m", values=values, model=model)
        return request, (("traceparent", parent),)

    return make
