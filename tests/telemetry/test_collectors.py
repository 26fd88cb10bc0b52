"""Collectors that take, refuse, hang or are not there: calls are as quick, memory is bounded."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from pydantic import ValidationError

from forecast_service.telemetry.export import metric_exporter_of, traces_of
from forecast_service.telemetry.outbox import QUEUE, Outbox
from forecast_service.telemetry.settings import TelemetrySettings, parse_headers
from gateway.settings import describe, load
from gateway.telemetry.instruments import Kind, Metric
from gateway.telemetry.push import MetricsPush
from gateway.telemetry.readings import Reading
from marketcal.v1 import forecast_pb2 as pb

VALUES = [0.4, 0.41, 0.43, 0.42] * 24
DEAD = "http://127.0.0.1:9"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def ask(forecasts_on: Any, gateway: Any, times: int = 1) -> float:
    """The longest of some calls, seconds."""
    stub, longest = forecasts_on(gateway.channel), 0.0
    for _ in range(times):
        began = time.monotonic()
        stub.Forecast(pb.ForecastRequest(market_id="m", values=VALUES), timeout=20)
        longest = max(longest, time.monotonic() - began)
    return longest


def test_metrics_arrive_with_their_labels_and_bars(
    serve_seen: Any, stack: ExitStack, forecasts_on: Any, collector: Any, until: Any
) -> None:
    gateway = serve_seen(stack, telemetry={"metrics_seconds": 0.05, "otlp_headers": "x-team=blue"})
    ask(forecasts_on, gateway, 3)
    until(lambda: "rpc.server.duration" in collector.metrics)

    duration = collector.metrics["rpc.server.duration"]
    assert duration.unit == "ms"
    (point,) = duration.histogram.data_points
    labels = {pair.key: pair.value for pair in point.attributes}
    assert labels["rpc.method"].string_value == "Forecast"
    assert labels["rpc.grpc.status_code"].int_value == 0
    assert (point.count, sum(point.bucket_counts)) == (3, 3)
    assert len(point.bucket_counts) == len(point.explicit_bounds) + 1
    assert not point.HasField("min")
    assert not point.HasField("max")
    assert point.start_time_unix_nano <= point.time_unix_nano
    assert abs(point.time_unix_nano / 1e9 - time.time()) < 60
    served = collector.metrics["marketcal_forecasts_total"]
    assert served.sum.is_monotonic
    assert sum(point.as_double or point.as_int for point in served.sum.data_points) == 3
    assert collector.headers[-1]["x-team"] == "blue"


@pytest.mark.parametrize("manner", ["dead", "refusing", "hanging"])
def test_a_collector_that_takes_nothing_costs_a_call_nothing_and_holds_up_no_end(
    serve_seen: Any, forecasts_on: Any, collector: Any, manner: str
) -> None:
    telemetry = {"otlp_endpoint": DEAD if manner == "dead" else collector.url,
                 "metrics_seconds": 0.05}  # fmt: skip
    collector.status = 503
    if manner == "hanging":
        collector.free.clear()
    with ExitStack() as stack:
        gateway = serve_seen(stack, telemetry=telemetry)
        ask(forecasts_on, gateway)
        assert ask(forecasts_on, gateway, 20) < 1.0
        watch = gateway.parts.watch
        assert watch.outbox.sent == 0
        began = time.monotonic()
        watch.close()
        assert time.monotonic() - began < 2.0


def test_without_an_endpoint_nothing_is_sent_whatever_the_environment_says(
    serve_gateway: Any, stack: ExitStack, forecasts_on: Any, collector: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    gateway = serve_gateway(
        stack, gateway={"anonymous_role": "forecaster"}, forecast={"in_process": "always"}
    )
    ask(forecasts_on, gateway)
    assert gateway.parts.watch.outbox is None
    assert gateway.parts.watch.tracer is None
    gateway.parts.watch.close()
    assert collector.bodies == []


def test_a_proxy_of_the_environment_is_not_asked(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", DEAD)
    monkeypatch.setenv("http_proxy", DEAD)
    traces = traces_of(TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=1), "test")
    traces.provider.get_tracer("t").start_span("one").end()
    traces.close()
    assert [span.span.name for span in collector.spans] == ["one"]


def test_headers_of_the_environment_are_not_sent(
    collector: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They belong to another party's collector, and so do the secrets in them."""
    for name in ("", "_TRACES", "_METRICS"):
        monkeypatch.setenv(f"OTEL_EXPORTER_OTLP{name}_HEADERS", "x-other=geheim,user-agent=geheim")
    settings = TelemetrySettings(
        otlp_endpoint=collector.url, sample_ratio=1, otlp_headers="x-team=blue"
    )
    traces = traces_of(settings, "test")
    traces.provider.get_tracer("t").start_span("one").end()
    traces.close()
    metrics = metric_exporter_of(settings)
    assert metrics.export(MetricsData([])) is MetricExportResult.SUCCESS
    metrics.shutdown()
    assert len(collector.headers) == 2
    for headers in collector.headers:
        assert headers["x-team"] == "blue"
        assert headers["Content-Type"] == "application/x-protobuf"
        assert "geheim" not in str(headers)


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_is_no_success(collector: Any, status: int) -> None:
    collector.status = status
    traces = traces_of(TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=1), "test")
    traces.provider.get_tracer("t").start_span("one").end()
    traces.close()
    assert (traces.outbox.sent, traces.outbox.failed) == (0, 1)


class Stumbling(SpanExporter):
    """Fails once, and takes what comes after."""

    def __init__(self) -> None:
        self.calls = 0

    def export(self, spans: Any) -> SpanExportResult:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("once")
        return SpanExportResult.SUCCESS


def test_an_exporter_that_fails_costs_its_spans_alone(
    until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(Stumbling())
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(outbox)
    provider.get_tracer("t").start_span("lost").end()
    outbox.force_flush()
    until(lambda: outbox.failed == 1)
    provider.get_tracer("t").start_span("sent").end()
    provider.shutdown()
    assert (outbox.failed, outbox.sent) == (1, 1)
    assert caplog.text.count("the exporter of spans failed") == 1


def test_metrics_that_cannot_be_read_once_are_sent_the_next_time(
    collector: Any, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    reads = []

    def read() -> Iterator[Reading]:
        reads.append(1)
        if len(reads) in (1, 2):
            raise KeyError("not yet")
        yield Reading(Metric("m", Kind.GAUGE, "1", "Meaning."), (), 7.0)

    exporter = metric_exporter_of(TelemetrySettings(otlp_endpoint=collector.url))
    push = MetricsPush(exporter, read, {}, seconds=0.02, started=0.0)
    until(lambda: "m" in collector.metrics)
    push.close()
    assert caplog.text.count("metrics could not be sent") == 1


class Held(SpanExporter):
    """Sends nothing until it may."""

    def __init__(self) -> None:
        self.may = False
        self.taken = 0

    def export(self, spans: Any) -> SpanExportResult:
        while not self.may:
            time.sleep(0.001)
        self.taken += len(spans)
        return SpanExportResult.SUCCESS


def test_spans_without_room_are_dropped_and_counted() -> None:
    exporter = Held()
    provider = TracerProvider(shutdown_on_exit=False)
    outbox = Outbox(exporter)
    provider.add_span_processor(outbox)
    tracer = provider.get_tracer("t")
    for _ in range(3 * QUEUE):
        tracer.start_span("s").end()
    dropped = outbox.dropped
    assert dropped >= QUEUE
    exporter.may = True
    provider.shutdown()
    assert exporter.taken == outbox.sent == 3 * QUEUE - dropped
    tracer.start_span("late").end()
    assert exporter.taken == outbox.sent


def test_spans_that_are_not_taken_are_counted(collector: Any) -> None:
    collector.status = 400
    traces = traces_of(TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=1), "test")
    for _ in range(5):
        traces.provider.get_tracer("t").start_span("s").end()
    traces.close()
    assert (traces.outbox.sent, traces.outbox.failed) == (0, 5)


def test_the_ratio_says_how_many_traces_are_recorded(collector: Any) -> None:
    traces = traces_of(TelemetrySettings(otlp_endpoint=collector.url, sample_ratio=0.25), "test")
    for _ in range(2_000):
        traces.provider.get_tracer("t").start_span("s").end()
    traces.close()
    assert 400 < len(collector.spans) < 600  # six standard deviations


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"otlp_endpoint": "http://collector.example:4318"}, "beyond loopback"),
        ({"otlp_endpoint": "http://10.0.0.1:4318"}, "beyond loopback"),
        ({"otlp_endpoint": "http://unix:4318"}, "beyond loopback"),
        ({"otlp_endpoint": "collector:4318"}, "is no http or https URL"),
        ({"otlp_endpoint": "ftp://127.0.0.1"}, "is no http or https URL"),
        ({"otlp_endpoint": "http://"}, "is no http or https URL"),
        ({"otlp_endpoint": "https://me:geheim@c.example"}, "holds a credential"),
        ({"otlp_headers": "geheim"}, "must read name=value"),
        ({"otlp_headers": "a=geheim\r\nb: c"}, "must read name=value"),
        ({"otlp_headers": "a=geheim\u20ac"}, "must read name=value"),
        ({"sample_ratio": 1.5}, "less than or equal to 1"),
        ({"prometheus_port": -2}, "greater than or equal to -1"),
        ({"service_name": "a b"}, "pattern"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError) as caught:
        TelemetrySettings(**given)
    message = str(caught.value.errors(include_input=False))
    assert next(iter(given)) in message
    assert said in message
    assert "geheim" not in message


@pytest.mark.parametrize(
    "given",
    [
        {"otlp_endpoint": "https://collector.example:4318/base/"},
        {"otlp_endpoint": "http://collector.example:4318", "allow_plaintext": True},
        {"otlp_endpoint": "http://[::1]:4318"},
        {"otlp_endpoint": "http://localhost:4318"},
    ],
)
def test_a_collector_is_reached_safely_or_by_permission(given: dict[str, Any]) -> None:
    settings = TelemetrySettings(**given)
    assert settings.url("traces").endswith("/v1/traces")
    assert "//v1" not in settings.url("traces")


def test_headers_are_read_and_never_shown() -> None:
    settings = load({"telemetry": {"otlp_headers": "authorization=Bearer geheim, x-team = a=b"}})
    assert parse_headers(settings.telemetry.otlp_headers) == {
        "authorization": "Bearer geheim", "x-team": "a=b",
    }  # fmt: skip
    assert "geheim" not in repr(settings) + repr(describe(settings))
