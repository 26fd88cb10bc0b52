"""What is seen of every call: a span with the caller's W3C context as its parent, its figures, a
line in the log where one is wanted, and its ids in every record that is logged meanwhile.

Spans go to the given provider; without one nothing is recorded and nothing is sent.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from types import TracebackType

from opentelemetry.context import attach
from opentelemetry.trace import (
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from forecast_service.telemetry.carried import tracer_of
from gateway.call import Call
from gateway.telemetry.access_log import FAULTS, AccessLog
from gateway.telemetry.call_context import UNDER_WAY, UnderWay
from gateway.telemetry.calls import Calls, MethodCalls, code_number
from marketcal.errors import MarketcalError

_PROPAGATOR = TraceContextTextMapPropagator()


class Telemetry:
    """Traces, figures and log lines of the gateway.

    Args:
        tracer: makes the spans; None for none.
        access_log: told of calls that have ended; None for no lines.

    Attributes:
        calls: the figures.
    """

    def __init__(self, tracer: Tracer | None = None, access_log: AccessLog | None = None) -> None:
        self.calls = Calls()
        self._tracer = tracer
        self._access_log = access_log

    @classmethod
    def of(cls, provider: TracerProvider | None, access_log: AccessLog | None = None) -> Telemetry:
        """Traces to ``provider``; none when that is the API's own placeholder."""
        return cls(tracer_of(provider, "marketcal.gateway"), access_log)

    def span(self, call: Call) -> AbstractContextManager[object]:
        """Covers one call."""
        return _Covered(call, self.calls.begin(call.method.name), self._tracer, self._access_log)

    def refused(self, error: MarketcalError) -> None:
        """Counts a refusal, and notes it for the span of the call under way."""
        self.calls.refusals[error.reason or error.code] += 1
        under_way = UNDER_WAY.get()
        if under_way is not None:
            under_way.reason = error.reason or ""


class _Covered(UnderWay):
    """One call from its arrival to its end; a class, since a generator would cost twice as much."""

    __slots__ = ("_access_log", "_figures")

    def __init__(
        self, call: Call, figures: MethodCalls, tracer: Tracer | None, access_log: AccessLog | None
    ) -> None:
        super().__init__(call, None if tracer is None else _begun(tracer, call))
        self._figures = figures
        self._access_log = access_log

    def __enter__(self) -> None:
        UNDER_WAY.set(self)
        if self.span is not None:
            attach(set_span_in_context(self.span))  # in the call's own task, as `UNDER_WAY`

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _where: TracebackType | None,
    ) -> None:
        call = self.call
        seconds = call.clock() - call.started_at
        self._figures.end(call.code, seconds)
        if self._access_log is not None:
            self._access_log.ended(self, seconds)
        if self.span is not None:
            _end(self.span, call, self.reason)


def _begun(tracer: Tracer, call: Call) -> Span:
    service, _, method = call.method.name[1:].partition("/")
    carrier = {
        name: value
        for name in ("traceparent", "tracestate")
        if isinstance(value := call.metadata.get(name), str)
    }
    return tracer.start_span(
        call.method.name[1:],
        context=_PROPAGATOR.extract(carrier),
        kind=SpanKind.SERVER,
        attributes={
            "rpc.system": "grpc",
            "rpc.service": service,
            "rpc.method": method,
            "marketcal.request_id": call.request_id,
        },
    )


def _end(span: Span, call: Call, reason: str) -> None:
    span.set_attribute("rpc.grpc.status_code", code_number(call.code))
    if reason:
        span.set_attribute("marketcal.reason", reason)
    if call.code in FAULTS:
        span.set_status(Status(StatusCode.ERROR, call.code))
    span.end()
