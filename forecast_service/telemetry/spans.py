"""Spans of work that requests share: a batch of them, and its work on a replica.

A batch has many parents. It stands below the first request that is recorded, so that this one's
trace is whole, and links to all others; those find the batch by its link back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from types import TracebackType

from opentelemetry.context import Context
from opentelemetry.trace import (
    Link,
    Span,
    SpanKind,
    Status,
    StatusCode,
    Tracer,
    set_span_in_context,
)

from forecast_service.telemetry.carried import Carrier, context_of

BATCH, REPLICA = "forecast batch", "forecast replica"
"""Names of the spans."""
Attributes = Mapping[str, str | int | float | bool]


@contextmanager
def batch_span(
    tracer: Tracer, asking: Sequence[Span], served_by: str, models: Sequence[str]
) -> Iterator[None]:
    """Covers the call of a batch; nothing where no request of it is recorded.

    Args:
        tracer: makes the span.
        asking: the span of each request, in the order in which they came.
        served_by: who answers.
        models: of its parts.
    """
    recorded = [span for span in asking if span.is_recording()]
    if not recorded:
        yield
        return
    first, *others = recorded
    attributes: Attributes = {
        "marketcal.batch.series": len(asking),
        "marketcal.batch.parts": len(models),
        "marketcal.served_by": served_by,
        "marketcal.models": ",".join(sorted(set(models))),
    }
    links = [Link(span.get_span_context()) for span in others]
    parent = set_span_in_context(first, Context())
    with span_of(tracer, BATCH, parent, attributes, links) as span:
        for other in others:
            other.add_link(span.get_span_context())
        yield


@contextmanager
def replica_span(tracer: Tracer, carrier: Carrier, family: str, batches: int) -> Iterator[Span]:
    """Covers the work of a replica, below the span that travelled with it."""
    attributes: Attributes = {"marketcal.family": family, "marketcal.batch.parts": batches}
    with span_of(tracer, REPLICA, context_of(carrier), attributes, kind=SpanKind.SERVER) as span:
        yield span


@contextmanager
def span_of(
    tracer: Tracer,
    name: str,
    parent: Context | None,
    attributes: Attributes,
    links: Sequence[Link] = (),
    kind: SpanKind = SpanKind.INTERNAL,
) -> Iterator[Span]:
    """A span that says of an error what kind it is, never its text."""
    with ExitStack() as stack:
        started = tracer.start_as_current_span(
            name,
            context=parent,
            kind=kind,
            attributes=attributes,
            links=links,
            record_exception=False,
            set_status_on_exception=False,
        )
        span = stack.enter_context(started)
        stack.push(partial(_ended, span))
        yield span


def _ended(
    span: Span,
    kind: type[BaseException] | None,
    _error: BaseException | None,
    _where: TracebackType | None,
) -> None:
    if kind is not None:
        span.set_attribute("error.type", kind.__name__)
        span.set_status(Status(StatusCode.ERROR, kind.__name__))
