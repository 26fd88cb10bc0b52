"""W3C trace context inside our own envelope, where no transport carries it for us."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.context import Context
from opentelemetry.trace import (
    NoOpTracerProvider,
    ProxyTracerProvider,
    Span,
    Tracer,
    TracerProvider,
    set_span_in_context,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

_PROPAGATOR = TraceContextTextMapPropagator()
Carrier = Mapping[str, str]
"""``traceparent`` and ``tracestate`` of a span."""


def carrier_of(span: Span) -> dict[str, str]:
    """What travels in the place of ``span``; nothing for one that is not recorded."""
    carrier: dict[str, str] = {}
    if span.is_recording():
        _PROPAGATOR.inject(carrier, context=set_span_in_context(span, Context()))
    return carrier


def context_of(carrier: Carrier) -> Context:
    """The context of the span that travelled; an empty one where there was none."""
    return _PROPAGATOR.extract(carrier, context=Context())


def tracer_of(provider: TracerProvider | None, name: str) -> Tracer | None:
    """A tracer of ``provider``; None for no provider or the API's own placeholder.

    Who is given None does nothing for traces at all, which costs nothing.
    """
    if provider is None or isinstance(provider, NoOpTracerProvider | ProxyTracerProvider):
        return None
    return provider.get_tracer(name)
