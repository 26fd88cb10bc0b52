"""Spans of runs and stages: what they counted, and only the kind of what went wrong."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from flows import pipeline
from flows.backfill_days import backfill_days
from flows.runs import NoDataError, Run, StageCount
from flows.settings import FlowSettings

AS_OF = datetime(2026, 10, 1, tzinfo=UTC)
SECRET = "mk_secret at /a/place"


def counted(_run: Run) -> StageCount:
    return StageCount(10, 9, rows_written=4, set_aside=1, failures=2, note="two parts failed")


def failing(_run: Run) -> StageCount:
    raise NoDataError(SECRET)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def run(settings_for: Callable[..., FlowSettings], exporter: InMemorySpanExporter) -> Run:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    made = pipeline.begin(AS_OF, settings_for("http://127.0.0.1:9"))
    made.tracer = provider.get_tracer("test")
    return made


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_run_is_a_span_and_its_stages_are_spans_below_it(
    run: Run, exporter: InMemorySpanExporter
) -> None:
    pipeline.carry_out(run, [pipeline.as_task(counted)])
    spans = by_name(exporter)
    assert set(spans) == {"daily", "daily counted"}
    whole, stage = spans["daily"], spans["daily counted"]
    assert stage.parent is not None
    assert stage.parent.span_id == whole.context.span_id
    of_run = {"marketcal.pipeline": "daily", "marketcal.run_id": run.run_id}
    assert dict(whole.attributes or {}) == of_run | {"marketcal.failures": 1}
    assert dict(stage.attributes or {}) == of_run | {
        "marketcal.stage": "counted", "marketcal.rows_in": 10, "marketcal.rows_out": 9,
        "marketcal.rows_written": 4, "marketcal.set_aside": 1, "marketcal.failures": 2,
    }  # fmt: skip
    assert {span.status.status_code for span in spans.values()} == {StatusCode.UNSET}


def test_a_failure_marks_both_spans_with_its_kind_and_tells_nothing_more(
    run: Run, exporter: InMemorySpanExporter
) -> None:
    with pytest.raises(NoDataError):
        pipeline.carry_out(run, [pipeline.as_task(counted), pipeline.as_task(failing)])
    spans = by_name(exporter)
    for name in ("daily", "daily failing"):
        status = spans[name].status
        assert (status.status_code, status.description) == (StatusCode.ERROR, "NoDataError")
        assert (spans[name].attributes or {})["error.type"] == "NoDataError"
        assert spans[name].events == ()
    assert spans["daily counted"].status.status_code is StatusCode.UNSET
    assert not any(SECRET in span.to_json() for span in spans.values())


def test_stages_of_days_belong_to_the_run_that_scores_them(
    run: Run, exporter: InMemorySpanExporter
) -> None:
    with pipeline.under_way(run):
        backfill_days(run, [AS_OF.date()])
    spans = by_name(exporter)
    own = spans["daily metrics"]
    assert own.parent is not None
    assert own.parent.span_id == spans["daily"].context.span_id
    assert (own.attributes or {})["marketcal.run_id"] != run.run_id


def test_without_a_provider_nothing_is_recorded(
    settings_for: Callable[..., FlowSettings],
) -> None:
    made = pipeline.begin(AS_OF, settings_for("http://127.0.0.1:9"))
    with made.tracer.start_as_current_span("anything") as span:
        assert not span.is_recording()
