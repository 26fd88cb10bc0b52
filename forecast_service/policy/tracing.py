"""The span of a decision who answers a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.trace import Span, Tracer

from forecast_service.policy.decision import Answer, Ask
from forecast_service.telemetry.spans import Attributes, span_of

DECISION = "forecast decision"
"""Name of the span."""


@contextmanager
def decision_span(tracer: Tracer, ask: Ask) -> Iterator[Span]:
    """Covers the decision who answers a request."""
    asked: Attributes = {
        "marketcal.model.asked": ask.card.name,
        "marketcal.route": ask.route,
        "marketcal.horizon_steps": ask.query.horizon_steps,
        "marketcal.prices": int(ask.series.values.size),
    }
    with span_of(tracer, DECISION, None, asked) as span:
        yield span


def tell(span: Span, answer: Answer) -> None:
    """What became of the request."""
    made = answer.made
    span.set_attribute("marketcal.model.answered", made.card.name)
    span.set_attribute("marketcal.served_by", made.bands.served_by)
    span.set_attribute("marketcal.cache", answer.cache.name)
    span.set_attribute("marketcal.fallback_reason", made.reason.name)
    span.set_attribute("marketcal.corrected", made.corrected is not None)
    if answer.breaker is not None:
        span.set_attribute("marketcal.breaker", answer.breaker.name)
    if answer.degradation is not None:
        span.set_attribute("marketcal.degradation", answer.degradation.name)
