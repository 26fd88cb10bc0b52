"""One span per run of a pipeline and, below it, one per stage.

Spans go to the process's OpenTelemetry provider when it has one, else to the collector of the
settings; without either nothing is recorded and nothing is sent. Calls to a gateway belong to the
span of the stage that makes them, since the client sends its W3C context. A span says what kind of
error there was, never its text: that may hold an address, and stands in the run's row.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from opentelemetry.trace import ProxyTracerProvider, Span, get_tracer_provider

from flows.runs import Run, StageCount
from forecast_service.telemetry.spans import span_of


@contextmanager
def sent(run: Run) -> Iterator[None]:
    """Sends the spans of a run to the collector of its settings, the last ones at its end."""
    if not run.telemetry.otlp_endpoint or not isinstance(
        get_tracer_provider(), ProxyTracerProvider
    ):
        yield
        return
    from forecast_service.telemetry.export import traces_of

    traces, before = traces_of(run.telemetry, "flows"), run.tracer
    run.tracer = traces.provider.get_tracer("marketcal.flows")
    try:
        yield
    finally:
        run.tracer = before
        traces.close()


@contextmanager
def run_span(run: Run) -> Iterator[None]:
    """Covers a run; a run that failed in parts is no error, and counts them."""
    with _span(run, run.pipeline) as span:
        yield
        span.set_attribute("marketcal.failures", len(run.failures))


@contextmanager
def stage_span(run: Run, stage: str) -> Iterator[None]:
    """Covers a stage, with its counts once it is finished."""
    with _span(run, f"{run.pipeline} {stage}") as span:
        span.set_attribute("marketcal.stage", stage)
        yield
        for name, value in counts_of(run.stages[stage]).items():
            span.set_attribute(name, value)


def counts_of(count: StageCount) -> dict[str, int]:
    """What a stage counted, as attributes of its span."""
    return {
        "marketcal.rows_in": count.rows_in,
        "marketcal.rows_out": count.rows_out,
        "marketcal.rows_written": count.rows_written,
        "marketcal.set_aside": count.set_aside,
        "marketcal.failures": int(count.failures),
    }


def _span(run: Run, name: str) -> AbstractContextManager[Span]:
    """Below the span that is current."""
    attributes = {"marketcal.pipeline": run.pipeline, "marketcal.run_id": run.run_id}
    return span_of(run.tracer, name, None, attributes)
