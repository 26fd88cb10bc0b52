"""What every metric reads now, from the parts of a running gateway."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING

from forecast_service.policy.breaker import BreakerState
from forecast_service.policy.forecaster import BASELINE, Forecaster
from forecast_service.policy.statistics import Histogram
from gateway.telemetry import instruments as at
from gateway.telemetry.calls import BOUNDS_MS, Calls, Durations
from gateway.telemetry.instruments import Metric

if TYPE_CHECKING:
    from calibration_service.alerts.feed import AlertFeed
    from calibration_service.publication import Publication
    from forecast_service.telemetry.outbox import Outbox
    from gateway.hosting import Forecasting
    from gateway.interceptors.ratelimit import RateLimit
    from gateway.pipeline import Pipeline
    from gateway.shared_limits import SharedLimits


@dataclass(frozen=True, slots=True)
class Distribution:
    """Values of a histogram.

    Attributes:
        bounds: inclusive upper bounds, increasing, the last one infinite.
        counts: observations within each pair of bounds.
        total: sum of all observations.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float

    @property
    def cumulative(self) -> list[int]:
        """Observations up to each bound."""
        return list(accumulate(self.counts))


@dataclass(frozen=True, slots=True)
class Reading:
    """One value.

    Attributes:
        metric: of which metric.
        labels: values of its labels, in their order.
        value: what it reads.
    """

    metric: Metric
    labels: tuple[str, ...]
    value: float | Distribution


@dataclass(frozen=True, slots=True)
class Sources:
    """The parts that are read; None where a process has no such part.

    Attributes:
        calls: figures of the calls.
        pipeline: what is under way.
        rate_limit: its verdicts.
        shared: limits that other gateways share.
        publication: what reads are answered from.
        forecasting: what makes forecasts.
        alerts: tells streams of alerts.
        outbox: spans on their way.
        keys_read_at: when the keys were last read, seconds of ``clock``.
        clock: monotonic seconds.
        now: wall clock.
    """

    calls: Calls
    pipeline: Pipeline
    rate_limit: RateLimit
    shared: SharedLimits | None
    publication: Publication
    forecasting: Forecasting | None
    alerts: AlertFeed | None
    outbox: Outbox | None
    keys_read_at: Callable[[], float]
    clock: Callable[[], float]
    now: Callable[[], datetime]


def readings(of: Sources) -> Iterator[Reading]:
    """Every value there is now; may be called from any thread."""
    yield from calls_readings(of.calls)
    yield from _limits(of)
    yield from _tables(of)
    if of.forecasting is not None:
        forecaster = of.forecasting.forecaster
        yield from _decisions(forecaster)
        yield from _models(forecaster)
        yield from _backends(forecaster)
    yield from _watchers(of)
    if of.outbox is not None:
        for outcome in ("sent", "dropped", "failed"):
            yield Reading(at.SPANS, (outcome,), getattr(of.outbox, outcome))


def calls_readings(calls: Calls) -> Iterator[Reading]:
    """Figures of the calls."""
    for method in list(calls.methods.values()):
        of = (method.service, method.method)
        yield Reading(at.RPC_ACTIVE, of, method.active)
        for code, durations in list(method.ended.items()):
            yield Reading(at.RPC_DURATION, (*of, str(code)), _of_durations(code, durations))
    for reason, count in list(calls.refusals.items()):
        yield Reading(at.REFUSALS, (reason,), count)


def _of_durations(code: int, durations: Durations) -> Distribution:
    """All bars of calls that went well; one of the others, lest strangers make the page long."""
    counts = tuple(durations.counts)
    if code == 0:
        return Distribution(BOUNDS_MS, counts, durations.total)
    return Distribution(BOUNDS_MS[-1:], (sum(counts),), durations.total)


def _limits(of: Sources) -> Iterator[Reading]:
    for scope, work in list(of.pipeline.work.by_scope.items()):
        yield Reading(at.WORK, (scope,), work.cost)
        yield Reading(at.WORK_LIMIT, (scope,), work.limit)
        yield Reading(at.SHED, (scope,), work.refused)
    yield Reading(at.STREAMS, (), of.pipeline.streams.count)
    yield Reading(at.LIMITER, ("allowed",), of.rate_limit.allowed)
    yield Reading(at.LIMITER, ("refused",), of.rate_limit.refused)
    if of.shared is not None:
        yield Reading(at.LIMITER_AWAY, (), int(of.shared.away))
        yield Reading(at.LIMITER_STOOD_IN, (), of.shared.stood_in)


def _tables(of: Sources) -> Iterator[Reading]:
    yield Reading(at.KEYS_AGE, (), of.clock() - of.keys_read_at())
    if not of.publication.ready:
        return
    tables = of.publication.current()
    yield Reading(at.PUBLICATION_AGE, (), (of.now() - tables.as_of).total_seconds())
    measured = tables.coverage
    if measured is None:
        return
    for bands, column in (("raw", "before"), ("corrected", "after")):
        if measured[column] is not None:
            yield Reading(at.COVERAGE, (bands,), measured[column])
    yield Reading(at.COVERAGE_NOMINAL, (), measured["nominal"])


def _watchers(of: Sources) -> Iterator[Reading]:
    """Streams of alerts and of bands, and what they went without."""
    if of.alerts is not None:
        yield Reading(at.ALERT_WATCHERS, (), of.alerts.watchers)
        yield Reading(at.ALERTS_MISSED, (), of.alerts.missed)
    if of.forecasting is not None:
        yield Reading(at.FORECAST_WATCHERS, (), of.forecasting.bars.watchers)
        for reason, count in list(of.forecasting.service.skipped.items()):
            yield Reading(at.BARS_SKIPPED, (reason,), count)


def _decisions(forecaster: Forecaster) -> Iterator[Reading]:
    decisions = forecaster.decisions
    for (model, cache), count in list(decisions.answers.items()):
        yield Reading(at.FORECASTS, (model, cache.name), count)
    for reason, count in list(decisions.fallbacks.items()):
        yield Reading(at.FALLBACKS, (reason.name,), count)
    yield Reading(at.CROSSINGS, (), decisions.crossings)
    for metric, share in (
        (at.FALLBACK_RATE, decisions.recent_fallbacks.value),
        (at.CROSSING_RATE, decisions.recent_crossings.value),
    ):
        if share is not None:
            yield Reading(metric, (), share)
    for model, widths in list(decisions.widths.items()):
        yield Reading(at.INTERVAL_WIDTH, (model,), _of_histogram(widths))


def _models(forecaster: Forecaster) -> Iterator[Reading]:
    for model, done in forecaster.statistics.all().items():
        yield Reading(at.LATENCY, (model,), _of_histogram(done.latencies_ms))
        yield Reading(at.BATCH_SIZE, (model,), _of_histogram(done.batch_sizes))
        yield Reading(at.MODEL_SERIES, (model,), done.requests)
        yield Reading(at.MODEL_FAILURES, (model,), done.failures)


def _of_histogram(histogram: Histogram) -> Distribution:
    bars = histogram.bars()
    bounds = tuple(bar.upper_bound for bar in bars)
    return Distribution(bounds, tuple(bar.count for bar in bars), histogram.total)


def _backends(forecaster: Forecaster) -> Iterator[Reading]:
    entries, size = forecaster.cached
    yield Reading(at.CACHE_ENTRIES, (), entries)
    yield Reading(at.CACHE_BYTES, (), size)
    yield Reading(at.RAY, (), int(forecaster.connected))
    yield Reading(at.QUEUE, (BASELINE,), forecaster.queued_baselines)
    for family, lane in forecaster.lanes.items():
        yield Reading(at.QUEUE, (family,), lane.queued)
        breaker, degradation = lane.left_in
        yield Reading(at.BREAKER, (family,), breaker)
        yield Reading(at.DEGRADATION, (family,), degradation)
        for state in BreakerState:
            yield Reading(at.BREAKER_MOVES, (family, state.name), lane.entered[state])
