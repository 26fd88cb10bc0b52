"""Where a baseline is computed: on Ray while it is there, else in this process.

A baseline needs no breaker: this process computes the same one, so Ray is left alone for a moment
after each failure, and nobody is told more than who served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from forecast_service.batch import Bands, Query
from forecast_service.policy.attempt import attempt
from forecast_service.policy.deadline import BASELINE_SECONDS, HASTE_SECONDS
from forecast_service.policy.decision import FallbackReason, ModelFailed
from forecast_service.pool import Pool
from forecast_service.series import Series
from forecast_service.settings import ForecastSettings, InProcess
from marketcal.errors import NotReady, OutOfTime

_LOG = logging.getLogger("forecast_service")

AWAY_SECONDS = 5.0
"""How long Ray is left alone after it failed."""


class Failures:
    """How often Ray failed since it last answered; failures within one pause count once."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._paused_until = 0.0
        self.count = 0

    def ended(self, failed: bool) -> None:
        """Notes a call to Ray."""
        now = self._clock()
        if not failed:
            self.count = 0
        elif now >= self._paused_until:
            self._paused_until = now + AWAY_SECONDS
            self.count += 1

    def clear(self) -> None:
        """Forgets all of them: Ray was joined anew."""
        self.count, self._paused_until = 0, 0.0


class Baselines:
    """The baselines, wherever they are computed.

    Args:
        settings: of the forecast service.
        clock: monotonic seconds.
        local: pool of the baselines in this process.
        ray: told of each call to Ray.
    """

    def __init__(
        self, settings: ForecastSettings, clock: Callable[[], float], local: Pool, ray: Failures
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._local = local
        self._ray = ray
        self._remote: Pool | None = None
        self._away_until = 0.0

    def connect(self, remote: Pool | None) -> None:
        """Says through which pool Ray computes baselines; None while it is away."""
        self._remote = remote
        self._away_until = 0.0

    @property
    def queued(self) -> int:
        """Series that wait to be computed, here and on Ray."""
        return self._local.queued + (self._remote.queued if self._remote is not None else 0)

    async def forecast(self, query: Query, series: Series, budget: float) -> Bands:
        """The bands of one series within ``budget`` seconds.

        Raises:
            Overloaded: queues are full.
            NotReady: Ray is away and may not be replaced.
            OutOfTime: the budget is spent.
        """
        remote = self._chosen()
        alone = (
            self._settings.in_process is InProcess.NEVER
        )  # then nothing is kept for this process
        wait = min(budget - (0.0 if alone else BASELINE_SECONDS), self._settings.ray_seconds)
        if alone and wait <= 0:
            raise OutOfTime("no time is left to ask for a forecast")
        if remote is not None and wait > 0:
            try:
                bands = await attempt(remote, query, series, wait)
            except ModelFailed as failed:
                self._judge(failed, wait)
            else:
                self._ray.ended(failed=False)
                return bands
            if alone:
                raise NotReady("the forecast deployment does not answer", retry_after=AWAY_SECONDS)
        return await self._here(query, series, budget)

    async def stand_in(self, query: Query, series: Series, budget: float) -> Bands:
        """The same without asking Ray first where this process may compute."""
        if self._settings.in_process is InProcess.NEVER:
            return await self.forecast(query, series, budget)
        return await self._here(query, series, budget)

    async def _here(self, query: Query, series: Series, budget: float) -> Bands:
        try:
            return await self._local.submit(query, series, max(budget, BASELINE_SECONDS))
        except TimeoutError:
            raise OutOfTime("no forecast within the deadline") from None

    def _chosen(self) -> Pool | None:
        where = self._settings.in_process
        if where is InProcess.ALWAYS:
            return None
        if self._remote is not None and self._clock() >= self._away_until:
            return self._remote
        if where is InProcess.NEVER:
            raise NotReady("Ray is away", retry_after=AWAY_SECONDS)
        return None

    def _judge(self, failed: ModelFailed, wait: float) -> None:
        hasty = wait < min(HASTE_SECONDS, self._settings.ray_seconds)
        if hasty and failed.reason is FallbackReason.DEADLINE:
            return
        now = self._clock()
        if now >= self._away_until:  # else others of the same batch have said so already
            self._away_until = now + AWAY_SECONDS
            _LOG.warning("forecasting in process for %g s: Ray: %s", AWAY_SECONDS, failed)
        self._ray.ended(failed=True)
