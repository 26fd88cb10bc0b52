"""The one who decides where a forecast is made.

Ray first, while it is there; the same baselines in this process when it is away, slow or wrong.
``forecast.in_process`` bends that rule. Every answer says who made it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from forecast_service.batch import Bands, InvalidAnswerError, Query
from forecast_service.pool import Backend, InProcess, Pool
from forecast_service.series import Series
from forecast_service.settings import ForecastSettings
from forecast_service.settings import InProcess as Where
from marketcal.errors import MarketcalError, NotReady, OutOfTime

_LOG = logging.getLogger("forecast_service")

LOCAL_RESERVE = 0.05
"""Seconds of every budget that are kept for a baseline in this process."""
HASTE = 0.25
"""A shorter wait for Ray says nothing about Ray when it ends without an answer."""
AWAY_SECONDS = 5.0
"""How long Ray is left alone after it failed."""


class Forecaster:
    """Forecasts series through the pools.

    ``remote`` is set and unset by the process that watches Ray; None means that Ray is away.
    """

    def __init__(self, settings: ForecastSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._local = self._pool(InProcess())
        self._remote: Pool | None = None
        self._away_until = 0.0
        self.failures = 0
        """Calls to Ray that failed since one succeeded."""

    def connect(self, backend: Backend | None) -> None:
        """Says through which backend Ray answers; None when it is away."""
        self._remote = None if backend is None else self._pool(backend)
        self._away_until = 0.0
        self.failures = 0

    @property
    def connected(self) -> bool:
        """Whether Ray is there."""
        return self._remote is not None

    async def forecast(self, query: Query, series: Series, budget: float) -> Bands:
        """The bands of one series within ``budget`` seconds.

        Raises:
            Overloaded: queues are full.
            NotReady: Ray is away and may not be replaced.
            OutOfTime: the budget is spent.
        """
        remote = self._chosen()
        wait = min(budget - LOCAL_RESERVE, self._settings.ray_seconds)
        if remote is not None and wait > 0:
            try:
                bands = await remote.submit(query, series, wait)
                self.failures = 0
                return bands
            except MarketcalError:
                raise
            except TimeoutError:
                if wait >= min(HASTE, self._settings.ray_seconds):
                    self._leave_alone("timed out")
            except InvalidAnswerError as error:
                self._leave_alone(str(error))
            except Exception as error:  # noqa: BLE001 - Ray raises what user code or its actors raise
                self._leave_alone(repr(error))
            if self._settings.in_process is Where.NEVER:
                raise NotReady("the forecast deployment does not answer", retry_after=AWAY_SECONDS)
        try:
            return await self._local.submit(query, series, max(budget, LOCAL_RESERVE))
        except TimeoutError:
            raise OutOfTime("no forecast within the deadline") from None

    def _chosen(self) -> Pool | None:
        where = self._settings.in_process
        if where is Where.ALWAYS:
            return None
        if self._remote is not None and self._clock() >= self._away_until:
            return self._remote
        if where is Where.NEVER:
            raise NotReady("Ray is away", retry_after=AWAY_SECONDS)
        return None

    def _leave_alone(self, why: str) -> None:
        now = self._clock()
        if now < self._away_until:
            return  # others of the same batch have said so already
        self._away_until = now + AWAY_SECONDS
        self.failures += 1
        _LOG.warning("forecasting in process for %g s: Ray %s", AWAY_SECONDS, why)

    def _pool(self, backend: Backend) -> Pool:
        return Pool(
            backend,
            self._clock,
            max_batch=self._settings.max_batch,
            max_queue=self._settings.max_queue,
            parallel_batches=self._settings.parallel_batches,
        )
