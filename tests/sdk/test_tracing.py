"""The caller's span goes with the call; without OpenTelemetry nothing does."""

from __future__ import annotations

import subprocess
from typing import Any

from opentelemetry.context import attach, detach
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    TraceFlags,
    TraceState,
    set_span_in_context,
)
from opentelemetry.trace.propagation import get_current_span

from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2, market_pb2

MARKET = market_pb2.GetMarketResponse(market={"market_id": "m"})


def test_the_server_sees_the_current_span(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", MARKET)
    server.answer("WatchAlerts", [alert_pb2.WatchAlertsResponse(missed=1)])
    with TracerProvider().get_tracer("tests").start_as_current_span("reading") as span:
        use(server, lambda client: client.get_market("m"))
        use(server, lambda client: client.watch_alerts())
    seen = span.get_span_context()
    wanted = f"00-{seen.trace_id:032x}-{seen.span_id:016x}-{seen.trace_flags:02x}"
    assert [call.metadata["traceparent"] for call in server.calls] == [wanted, wanted]


def test_the_state_of_the_trace_goes_along(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", MARKET)
    context = SpanContext(7, 9, True, TraceFlags(0), TraceState([("vendor", "x")]))
    token = attach(set_span_in_context(NonRecordingSpan(context)))
    use(server, lambda client: client.get_market("m"))
    detach(token)
    assert server.calls[0].metadata["tracestate"] == "vendor=x"
    assert server.calls[0].metadata["traceparent"].endswith("-00")


def test_no_span_sends_nothing(server: FakeServer, use: Any) -> None:
    assert not get_current_span().get_span_context().is_valid
    server.answer("GetMarket", MARKET)
    use(server, lambda client: client.get_market("m"))
    assert not {"traceparent", "tracestate"} & server.calls[0].metadata.keys()


def test_opentelemetry_is_never_imported_for_a_call(python: str) -> None:
    code = (
        "import sys\n"
        "from marketcal.testing import FakeServer\n"
        "from marketcal.v1 import market_pb2\n"
        "with FakeServer() as server, server.client() as client:\n"
        "    server.answer('GetMarket', market_pb2.GetMarketResponse())\n"
        "    client.get_market('m')\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]\n"
    )
    subprocess.run([python, "-c", code], check=True)
