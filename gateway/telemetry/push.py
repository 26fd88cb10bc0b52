"""Metrics on their way to a collector, every few seconds, from a thread of their own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    MetricExporter,
    MetricExportResult,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.metrics.export import Metric as Sent
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from gateway.telemetry.exposition import Read
from gateway.telemetry.instruments import Kind, Metric
from gateway.telemetry.readings import Distribution, Reading

_LOG = logging.getLogger("gateway.telemetry")
CLOSING_SECONDS = 1.5
"""How long the last values may take when the process ends."""
_SCOPE = InstrumentationScope("marketcal.gateway")


class MetricsPush:
    """Sends all readings again and again; the next ones hold what was lost.

    Args:
        exporter: sends them; may block.
        read: gives the readings.
        resource: what tells this process apart.
        seconds: from one time to the next.
        started: wall clock at the start of the process, seconds since the epoch.
    """

    def __init__(
        self,
        exporter: MetricExporter,
        read: Read,
        resource: Mapping[str, str],
        *,
        seconds: float,
        started: float,
    ) -> None:
        self._exporter = exporter
        self._read = read
        self._resource = Resource(resource)
        self._seconds = seconds
        self._began = (int(started * 1e9), time.monotonic_ns())
        self._away = self._failing = False
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="metrics-push", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Sends the last values, for at most `CLOSING_SECONDS`; blocks."""
        self._closing.set()
        self._thread.join(CLOSING_SECONDS)
        self._exporter.shutdown()

    def _work(self) -> None:
        while not self._closing.wait(self._seconds):
            self._try_to_send()
        self._try_to_send()

    def _try_to_send(self) -> None:
        """Sends once; what fails here is told once, and tried again the next time."""
        try:
            self._send()
        except Exception:  # noqa: BLE001 - the edge of this thread, which goes on
            if not self._failing:
                _LOG.exception("metrics could not be sent")
            self._failing = True
        else:
            self._failing = False

    def _send(self) -> None:
        started, at_start = self._began
        now = started + time.monotonic_ns() - at_start
        taken = self._exporter.export(self._data(now)) is MetricExportResult.SUCCESS
        if self._away is taken:
            self._away = not taken
            _LOG.warning("the collector %s", "takes metrics" if taken else "takes no metrics")

    def _data(self, now: int) -> MetricsData:
        by_metric: dict[Metric, list[Reading]] = {}
        for reading in self._read():
            by_metric.setdefault(reading.metric, []).append(reading)
        metrics = [_sent(one, found, self._began[0], now) for one, found in by_metric.items()]
        scope = ScopeMetrics(_SCOPE, metrics, schema_url="")
        return MetricsData([ResourceMetrics(self._resource, [scope], schema_url="")])


def _sent(metric: Metric, found: Iterable[Reading], start: int, now: int) -> Sent:
    name = metric.otlp_name or metric.name
    keys = [key.replace("rpc_grpc_", "rpc.grpc.").replace("rpc_", "rpc.") for key in metric.labels]
    cumulative = AggregationTemporality.CUMULATIVE
    data: Gauge | Sum | Histogram
    if metric.kind is Kind.HISTOGRAM:
        bars = [_bars(reading, keys, start, now) for reading in found]
        data = Histogram(bars, cumulative)
    else:
        points = [_point(reading, keys, start, now) for reading in found]
        grows = metric.kind is Kind.COUNTER
        data = Sum(points, cumulative, is_monotonic=True) if grows else Gauge(points)
    return Sent(name, metric.meaning, metric.unit, data)


def _point(reading: Reading, keys: list[str], start: int, now: int) -> NumberDataPoint:
    if isinstance(reading.value, Distribution):
        raise TypeError(f"{reading.metric.name}: a {reading.metric.kind} is one number")
    labels = dict(zip(keys, reading.labels, strict=True))
    return NumberDataPoint(labels, start, now, reading.value)


def _bars(reading: Reading, keys: list[str], start: int, now: int) -> HistogramDataPoint:
    value = reading.value
    if not isinstance(value, Distribution):
        raise TypeError(f"{reading.metric.name}: a histogram is no number")
    labels: dict[str, str | int] = dict(zip(keys, reading.labels, strict=True))
    if "rpc.grpc.status_code" in labels:
        labels["rpc.grpc.status_code"] = int(labels["rpc.grpc.status_code"])
    return HistogramDataPoint(
        attributes=labels,
        start_time_unix_nano=start,
        time_unix_nano=now,
        count=sum(value.counts),
        sum=value.total,
        bucket_counts=list(value.counts),
        explicit_bounds=list(value.bounds[:-1]),
        min=None,  # type: ignore[arg-type]  # not known, and left out on the wire
        max=None,  # type: ignore[arg-type]
    )
