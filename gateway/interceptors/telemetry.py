"""One span per call by the RPC conventions, with the caller's W3C trace context as its parent.

Spans go to the process's OpenTelemetry provider when it has one (``opentelemetry-instrument``, or a
provider set by the embedding program); without one nothing is recorded and nothing is sent.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from opentelemetry import trace
from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from gateway.call import Call
from marketcal.errors import MarketcalError

_PROPAGATOR = TraceContextTextMapPropagator()
_NOTHING = nullcontext()


class Telemetry:
    """Traces of the gateway."""

    def __init__(self, tracer: Tracer | None = None) -> None:
        self._tracer = tracer

    @classmethod
    def of(cls, provider: TracerProvider) -> Telemetry:
        """Traces to ``provider``; none when that is the API's own placeholder."""
        placeholder = isinstance(provider, NoOpTracerProvider | ProxyTracerProvider)
        return cls(None if placeholder else provider.get_tracer("marketcal.gateway"))

    def span(self, call: Call) -> AbstractContextManager[object]:
        """Covers one call."""
        if self._tracer is None:
            return _NOTHING
        service, _, method = call.method.name[1:].partition("/")
        carrier = {key: value for key, value in call.metadata.items() if isinstance(value, str)}
        return self._tracer.start_as_current_span(
            call.method.name[1:],
            context=_PROPAGATOR.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.service": service, "rpc.method": method},
        )

    def refused(self, error: MarketcalError) -> None:
        """Marks the current span with the refusal."""
        if self._tracer is None:
            return
        span = trace.get_current_span()
        span.set_attribute("rpc.grpc.status", error.code)
        span.set_attribute("marketcal.reason", error.reason or "")
        if error.code in ("INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED"):
            span.set_status(Status(StatusCode.ERROR, error.code))
