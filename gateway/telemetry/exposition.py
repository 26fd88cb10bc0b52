"""Readings as the text that Prometheus reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector

from gateway.telemetry.instruments import Kind, Metric
from gateway.telemetry.readings import Distribution, Reading

Read = Callable[[], Iterable[Reading]]
"""Gives all readings."""
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition(Collector):
    """The readings and the figures of the process as text.

    Args:
        read: gives the readings.
    """

    def __init__(self, read: Read) -> None:
        self._read = read
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def text(self) -> bytes:
        """The page as it is now."""
        return generate_latest(self._registry)

    def describe(self) -> Iterator[Family]:
        """Nothing: to register reads no metric."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """The families, each with its values."""
        by_metric: dict[Metric, list[Reading]] = {}
        for reading in self._read():
            by_metric.setdefault(reading.metric, []).append(reading)
        for metric, found in by_metric.items():
            yield _family(metric, found)


def _family(metric: Metric, found: list[Reading]) -> Family:
    if metric.kind is Kind.HISTOGRAM:
        return _histogram(metric, found)
    kind = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = kind(metric.name, metric.meaning, labels=metric.labels)
    for reading in found:
        if isinstance(reading.value, Distribution):
            raise TypeError(f"{metric.name}: a {metric.kind} is one number")
        family.add_metric(reading.labels, reading.value)
    return family


def _histogram(metric: Metric, found: list[Reading]) -> Family:
    family = HistogramMetricFamily(metric.name, metric.meaning, labels=metric.labels)
    for reading in found:
        value = reading.value
        if not isinstance(value, Distribution):
            raise TypeError(f"{metric.name}: a histogram is no number")
        bounds = ["+Inf" if math.isinf(bound) else f"{bound:g}" for bound in value.bounds]
        buckets = [
            (bound, float(count)) for bound, count in zip(bounds, value.cumulative, strict=True)
        ]
        family.add_metric(reading.labels, buckets, value.total)
    return family
