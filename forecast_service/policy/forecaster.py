"""The one who decides who makes a forecast.

A baseline that is asked for is computed at once. Any other model is asked through the cache, the
gates and the lane of its family; where it gives no answer, the last one of the same market stands
in, and else a baseline. Every answer says who made it and why.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from opentelemetry.trace import Tracer, get_current_span

from forecast_service.batch import Bands, Query
from forecast_service.conformal.state import UNCORRECTED, Corrections, ModelKey
from forecast_service.in_process import InProcess
from forecast_service.models.catalog import CATALOG, ModelCard
from forecast_service.policy.baselines import Baselines, Failures
from forecast_service.policy.cache import ForecastCache, input_key
from forecast_service.policy.deadline import Deadline
from forecast_service.policy.decision import (
    Answer,
    Ask,
    BandKind,
    CacheState,
    Corrected,
    FallbackReason,
    Made,
    ModelFailed,
)
from forecast_service.policy.decisions import Decisions
from forecast_service.policy.flights import Flights
from forecast_service.policy.gates import closed_gate
from forecast_service.policy.lane import Lane
from forecast_service.policy.statistics import Statistics
from forecast_service.policy.tracing import decision_span, tell
from forecast_service.pool import Backend, CallReport, Pool
from forecast_service.series import Series, series_of
from forecast_service.settings import ForecastSettings
from forecast_service.settings import InProcess as Where
from forecast_service.transform import LOGIT
from marketcal.errors import MarketcalError

BASELINE = "baseline"
"""The family that needs no backend."""


_PROBE = Query("last_value", 1, (0.5,), LOGIT)
_PROBE_SERIES = series_of([0.5, 0.5], "5m")


class Forecaster:
    """Answers checked requests.

    Args:
        settings: of the forecast service.
        clock: monotonic seconds.
        local: backends in this process by model family, asked where Ray never is; the baselines
            are always there.
        corrections: where the conformal state is; none is applied by default.
        tracer: makes the spans of requests that are recorded; None for no spans.

    Attributes:
        statistics: what each model has done.
        decisions: what has been answered.
    """

    def __init__(
        self,
        settings: ForecastSettings,
        clock: Callable[[], float],
        local: Mapping[str, Backend] | None = None,
        corrections: Corrections = UNCORRECTED,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self._corrections = corrections
        self._settings = settings
        self._clock = clock
        self.statistics = Statistics()
        self.decisions = Decisions()
        backends = {BASELINE: InProcess()} | dict(local or {})
        self._ray = Failures(clock)
        baseline_pool = self._pool(backends[BASELINE], self._note)
        self._baselines = Baselines(settings, clock, baseline_pool, self._ray)
        self._local = self._lanes(backends)
        self._remote: dict[str, Lane] = {}
        self._connected = False
        self._cache = ForecastCache(settings.policy, clock)
        self._flights = Flights(clock)

    def connect(self, backends: Mapping[str, Backend] | None) -> None:
        """Says through which backend each model family answers; None when Ray is away.

        A family that was there before keeps what is known of it: being listed again proves nothing.
        """
        given = backends or {}
        self._connected = backends is not None
        self._remote = self._lanes(given, self._remote)
        baseline = given.get(BASELINE)
        pool = None if baseline is None else self._pool(baseline, self._note)
        self._baselines.connect(pool)
        self._ray.clear()

    @property
    def connected(self) -> bool:
        """Whether Ray is there."""
        return self._connected

    @property
    def lanes(self) -> dict[str, Lane]:
        """The lanes in use by model family."""
        always = self._settings.in_process is Where.ALWAYS
        return dict(self._local if always else self._remote)

    @property
    def queued_baselines(self) -> int:
        """Series that wait for a baseline."""
        return self._baselines.queued

    @property
    def cached(self) -> tuple[int, int]:
        """(forecasts, bytes) that are remembered."""
        return len(self._cache), self._cache.size

    @property
    def failures(self) -> int:
        """Failures of Ray, each with its pause, since it last answered."""
        return self._ray.count

    @property
    def corrects(self) -> bool:
        """Whether a conformal state is there, so that answers hold corrected bands too."""
        return self._corrections.current is not None

    async def probe(self) -> None:
        """Asks for a baseline as callers do: a cluster that hangs is counted without them."""
        budget = self._settings.ray_seconds + 0.1
        try:
            await self._baselines.forecast(_PROBE, _PROBE_SERIES, budget)
        except MarketcalError:
            return  # counted where it happened; there was no caller to tell

    async def forecast(self, ask: Ask, budget: float) -> Answer:
        """The answer to a request within ``budget`` seconds.

        Raises:
            Overloaded: queues are full.
            NotReady: Ray is away and may not be replaced.
            OutOfTime: the budget is spent.
        """
        if self._tracer is not None and get_current_span().is_recording():
            with decision_span(self._tracer, ask) as span:
                answer = await self._decide(ask, budget)
                tell(span, answer)
        else:
            answer = await self._decide(ask, budget)
        self.decisions.note(ask, answer)
        return answer

    async def _decide(self, ask: Ask, budget: float) -> Answer:
        if ask.card.family != BASELINE:
            return await self._by_model(ask, Deadline(self._clock() + budget))
        if self._settings.policy.cache_baselines:
            return await self._by_remembered_baseline(ask, budget)
        bands = await self._baselines.forecast(ask.query, ask.series, budget)
        return Answer(self._made(ask, bands, ask.card), ask.series)

    async def _by_remembered_baseline(self, ask: Ask, budget: float) -> Answer:
        key = self._key(ask)
        known = self._cache.fresh(key)
        if known is not None:
            return Answer(known, ask.series, CacheState.HIT)
        bands = await self._baselines.forecast(ask.query, ask.series, budget)
        made = self._cache.put(key, ask, self._made(ask, bands, ask.card))
        return Answer(made, ask.series, CacheState.MISS)

    async def _by_model(self, ask: Ask, deadline: Deadline) -> Answer:
        lane = self._lane(ask.card.family)
        key = self._key(ask)
        known = self._cache.fresh(key)
        if known is not None:
            return self._answer(ask, lane, known, CacheState.HIT)
        gate = closed_gate(self._settings.policy, ask)
        if gate is not FallbackReason.NONE:
            made = await self._by_baseline(ask, gate, deadline)
            return self._answer(ask, lane, made, CacheState.MISS)
        try:
            made = await self._asked_model(ask, lane, key, deadline)
        except ModelFailed as failed:
            earlier = self._cache.stale(ask)
            if earlier is not None:
                made, inputs = earlier
                answer = self._answer(ask, lane, made, CacheState.STALE)
                return answer._replace(earlier=inputs)
            made = await self._by_baseline(ask, failed.reason, deadline)
            if failed.reason is not FallbackReason.DEADLINE:  # whose time is the caller's own
                made = self._cache.put(key, ask, made)
        return self._answer(ask, lane, made, CacheState.MISS)

    async def _asked_model(
        self, ask: Ask, lane: Lane | None, key: bytes, deadline: Deadline
    ) -> Made:
        if lane is None:
            raise ModelFailed(FallbackReason.BACKEND_UNAVAILABLE)
        seconds = lane.seconds(deadline)
        if seconds <= 0:
            raise ModelFailed(FallbackReason.DEADLINE)
        bands = await self._flights.join(key, seconds, lambda: lane.forecast(ask, deadline))
        return self._cache.put(key, ask, self._made(ask, bands, ask.card))

    async def _by_baseline(self, ask: Ask, why: FallbackReason, deadline: Deadline) -> Made:
        card = CATALOG[self._settings.policy.fallback_model]
        query = dataclasses.replace(ask.query, model=card.name)
        series = shortened(ask.series, card.max_context)
        budget = deadline.for_baseline(self._clock())
        bands = await self._baselines.stand_in(query, series, budget)
        return self._made(ask, bands, card, why)

    def _key(self, ask: Ask) -> bytes:
        state = self._corrections.current
        return input_key(ask, "" if state is None else state.version)

    def _made(
        self, ask: Ask, bands: Bands, card: ModelCard, why: FallbackReason = FallbackReason.NONE
    ) -> Made:
        """The finished forecast.

        Every forecast passes here once, after it was made and before it is remembered: here its
        bands are corrected, by the model that made them and the segment of the market.
        """
        state = self._corrections.current
        if state is None or ask.band is BandKind.RAW:
            return Made(bands, card, why)
        query = ask.query
        key = ModelKey(card.name, card.version, query.freq_seconds)
        factors = state.factors(key, ask.segment.key, query.horizon_steps, query.levels)
        if factors is None:
            return Made(bands, card, why)
        limits = (query.limits.minimum, query.limits.maximum)
        corrected = Corrected(factors.corrected(bands.quantiles, limits), state.version)
        return Made(bands, card, why, corrected)

    def _answer(self, ask: Ask, lane: Lane | None, made: Made, cache: CacheState) -> Answer:
        seen = ask.series if made.card is ask.card else shortened(ask.series, made.card.max_context)
        if lane is None:
            return Answer(made, seen, cache)
        return Answer(made, seen, cache, lane.breaker, lane.degradation)

    def _lane(self, family: str) -> Lane | None:
        always = self._settings.in_process is Where.ALWAYS
        return (self._local if always else self._remote).get(family)

    def _lanes(
        self, backends: Mapping[str, Backend], known: Mapping[str, Lane] = MappingProxyType({})
    ) -> dict[str, Lane]:
        lanes = {}
        for family, backend in backends.items():
            if family in known:
                lanes[family] = known[family]
                lanes[family].ask_through(backend)
            elif family != BASELINE:
                lanes[family] = self._lane_of(backend)
        return lanes

    def _lane_of(self, backend: Backend) -> Lane:
        def pool_of(watch: Callable[[CallReport], None]) -> Pool:
            def look(call: CallReport) -> None:
                self._note(call)
                watch(call)

            return self._pool(backend, look)

        on_ray = backend.served_by.startswith("ray:")
        told = self._ray.ended if on_ray else _nobody
        return Lane(self._settings.policy, self._clock, pool_of, told)

    def _pool(self, backend: Backend, watch: Callable[[CallReport], None]) -> Pool:
        return Pool(
            backend,
            self._clock,
            max_batch=self._settings.max_batch,
            max_queue=self._settings.max_queue,
            parallel_batches=self._settings.parallel_batches,
            watch=watch,
            tracer=self._tracer,
        )

    def _note(self, call: CallReport) -> None:
        for part in call.parts:
            self.statistics.record(
                part.model, series=part.series, failures=part.failures, seconds=call.seconds
            )


def shortened(series: Series, steps: int) -> Series:
    """The end of a series, from its first price on; the whole where the end holds no price.

    Args:
        series: any.
        steps: longest result, ≥ 1.
    """
    if series.values.size <= steps:
        return series
    kept = series.values[-steps:]
    finite = np.flatnonzero(np.isfinite(kept))
    return dataclasses.replace(series, values=kept[finite[0] :]) if finite.size else series


def _nobody(failed: bool) -> None:
    """Takes no note of a call to a backend that is not Ray's."""
