"""The metrics page of a stream worker: no market is named on it, so its length has a bound."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from flows.live_service import LiveService


def text_of(service: LiveService) -> bytes:
    """The page as it is now."""
    registry = CollectorRegistry()
    registry.register(_Page(service))
    ProcessCollector(registry=registry)
    return generate_latest(registry)


class _Page(Collector):
    def __init__(self, service: LiveService) -> None:
        self._service = service

    def describe(self) -> Iterator[Metric]:
        return iter(())

    def collect(self) -> Iterator[Metric]:
        service = self._service
        yield _gauge(
            "ready", "1 once the loop goes on from its checkpoint.", service.ready.is_set()
        )
        yield _gauge("followed_markets", "Markets that are followed.", len(service.markets))
        yield _counter("restarts", "Times that the loop began again.", {"": service.restarts})
        yield _counter("failures", "Failures beside the loop, by work.", service.failures, "work")
        if service.outside.connections is not None:
            yield from _connections(service)
        if service.worker is not None:
            yield from _worker(service)


def _connections(service: LiveService) -> Iterator[Metric]:
    connections = service.outside.connections
    assert connections is not None
    shards = connections.shards
    fresh = sum(len(shard.ingest.session.fresh) for shard in shards)
    yield _gauge("connections", "Connections to venues.", len(shards))
    yield _gauge("fresh_instruments", "Instruments that the stream speaks of.", fresh)
    counts = [connections.ended, *(shard.counts for shard in shards)]
    opened, frames = sum(one.opened for one in counts), sum(one.frames for one in counts)
    yield _counter("connections_opened", "Connections that came up.", {"": opened})
    yield _counter("frames", "Frames received.", {"": frames})
    ended = sum((one.ended for one in counts), Counter[str]())
    yield _counter("connections_ended", "Connections that ended, by reason.", dict(ended), "reason")
    failed = sum((shard.ingest.failed for shard in shards), Counter[str]())
    yield _counter("refused", "Streams that a venue does not serve.", dict(failed), "reason")
    for venue, kinds in connections.parsed.items():
        yield _counter(f"{venue}_messages", "Messages by kind.", dict(kinds), "kind")


def _worker(service: LiveService) -> Iterator[Metric]:
    worker = service.worker
    assert worker is not None
    stream = worker.stream
    now_ms = service.outside.clock.wall_ms()
    yield _gauge("lag_seconds", "Age of the latest event.", worker.lag_seconds(now_ms))
    yield _gauge("suppressed", "1 while nothing may fire.", bool(stream.suppressed))
    quiet = sum(bool(one.suppressed) for one in stream.markets.values())
    yield _gauge("suppressed_markets", "Markets whose feed is stale.", quiet)
    yield _gauge("markets", "Markets with a state.", len(stream.markets))
    yield _counter(
        "worked", "What the loop did.", dict(worker.counts + worker.judge.counts), "what"
    )
    yield _counter("events", "Events by what became of them.", dict(stream.counts), "fate")
    judged = worker.judge.counts["judged"]
    if judged:
        share = worker.judge.counts["outside"] / judged
        yield _gauge("breach_rate", "Share of judged minutes outside their alert band.", share)
    repeats = {"": stream.recent.duplicates}
    yield _counter("duplicates", "Events that were seen before.", repeats)
    late = {"": worker.bands.late}
    yield _counter("late_forecasts", "Bands that a baseline stood in for.", late)


def _gauge(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(f"marketcal_stream_{name}", meaning, value=float(value))


def _counter(name: str, meaning: str, values: dict[str, int], label: str = "") -> Metric:
    family = CounterMetricFamily(
        f"marketcal_stream_{name}", meaning, labels=[label] if label else None
    )
    for key, value in sorted(values.items()):
        family.add_metric([key] if label else [], float(value))
    return family
