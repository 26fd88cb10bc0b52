"""The document says what the code does: every metric, span and query in it is real."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from forecast_service.policy.tracing import DECISION
from forecast_service.telemetry.outbox import QUEUE
from forecast_service.telemetry.settings import TelemetrySettings
from forecast_service.telemetry.spans import BATCH, REPLICA
from gateway.telemetry.access_log import MOST_FAULTS
from gateway.telemetry.instruments import METRICS, Kind

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "telemetry.md").read_text()
SOURCES = [
    *(ROOT / "forecast_service" / "telemetry").glob("*.py"),
    ROOT / "forecast_service" / "policy" / "tracing.py", ROOT / "forecast_service" / "serving.py",
    ROOT / "gateway" / "interceptors" / "telemetry.py", ROOT / "flows" / "telemetry.py",
]  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_a_metric_stands_in_the_document_as_it_is(metric) -> None:
    labels = ", ".join(metric.labels) or "–"
    row = f"| `{metric.name}` | {metric.kind} | {metric.unit} | {labels} | {metric.meaning} |"
    assert row in TEXT.splitlines()


def test_the_document_has_no_metric_that_is_not_there() -> None:
    listed = re.findall(r"^\| `([a-z_]+)` \| (?:counter|gauge|histogram)", TEXT, flags=re.MULTILINE)
    assert sorted(listed) == sorted(metric.name for metric in METRICS)


def test_a_query_asks_for_series_that_are_there() -> None:
    (queries,) = re.findall(r"```promql\n(.*?)```", TEXT, flags=re.DOTALL)
    code = "\n".join(line for line in queries.splitlines() if not line.startswith("#"))
    asked = set(re.findall(r"\b(?:rpc_server|marketcal|coverage)_[a-z_]+", code))
    there = {
        metric.name + ending
        for metric in METRICS
        for ending in (("_count", "_sum", "_bucket") if metric.kind is Kind.HISTOGRAM else ("",))
    }
    assert asked
    assert asked <= there
    labels = set(re.findall(r"[{,]\s*([a-z_]+)=", code)) | {
        name for group in re.findall(r"by \(([^)]*)\)", code) for name in group.split(", ")
    }
    assert labels - {"le"} <= {label for metric in METRICS for label in metric.labels}


def test_a_span_and_its_attributes_stand_in_the_document() -> None:
    assert all(f"`{name}`" in TEXT for name in (DECISION, BATCH, REPLICA))
    made = {
        name
        for path in SOURCES
        for name in re.findall(r'"((?:marketcal|rpc)\.[a-z_.]+)"', path.read_text())
    }
    counts = {"marketcal.rows_in", "marketcal.rows_out", "marketcal.rows_written",
              "marketcal.set_aside", "marketcal.failures"}  # fmt: skip
    tracers = {"marketcal.flows", "marketcal.gateway", "marketcal.forecast", "marketcal.replica"}
    assert {name for name in made - counts - tracers if f"`{name}`" not in TEXT} == set()
    listed = set(re.findall(r"`((?:marketcal|rpc)\.[a-z_.]+)`", TEXT))
    assert listed - made == {"rpc.server.duration", "rpc.server.active_requests"}


def test_the_document_s_figures_and_settings_are_those_of_the_code() -> None:
    assert f"{QUEUE:,} spans wait" in TEXT
    assert f"at most {MOST_FAULTS} in a second" in TEXT
    for name in re.findall(r"`telemetry\.([a-z_]+)`", TEXT):
        assert name in TelemetrySettings.model_fields
