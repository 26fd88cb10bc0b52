"""A lane: the backend of one model family, and what stands before it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from forecast_service.batch import Bands, InvalidAnswerError
from forecast_service.models.errors import ModelError
from forecast_service.policy.attempt import attempt
from forecast_service.policy.breaker import Breaker, BreakerState
from forecast_service.policy.deadline import HASTE_SECONDS, Deadline
from forecast_service.policy.decision import Ask, FallbackReason, ModelFailed
from forecast_service.policy.degradation import Degradation, DegradationState
from forecast_service.policy.settings import PolicySettings
from forecast_service.pool import CallReport, Pool
from marketcal.errors import MarketcalError

_LOG = logging.getLogger("forecast_service")


class Lane:
    """Degradation, breaker and pool of one backend.

    Args:
        settings: of the policy.
        clock: monotonic seconds.
        pool_of: makes the pool of the lane's backend, given who looks at its calls.
        ended: told after each call that says something of the way to the backend: whether it
            failed.
    """

    def __init__(
        self,
        settings: PolicySettings,
        clock: Callable[[], float],
        pool_of: Callable[[Callable[[CallReport], None]], Pool],
        ended: Callable[[bool], None],
    ) -> None:
        self._clock = clock
        self._breaker = Breaker(settings, clock)
        self._degradation = Degradation(settings)
        self._pool = pool_of(self._seen)
        self._ended = ended
        hurried = min(settings.model_seconds, settings.degraded_seconds)
        self._haste = min(HASTE_SECONDS, 0.8 * hurried)

    @property
    def breaker(self) -> BreakerState:
        """State of the breaker."""
        return self._breaker.state

    @property
    def degradation(self) -> DegradationState:
        """State of the backend."""
        if self._breaker.untroubled:
            return self._degradation.recovered()
        return self._degradation.state(self._breaker.state, self._breaker.rates)

    def seconds(self, deadline: Deadline) -> float:
        """How long the backend may be waited for in its present state."""
        most = self._degradation.behaviour(self.degradation).seconds
        return deadline.for_model(self._clock(), most)

    async def forecast(self, ask: Ask, deadline: Deadline) -> Bands:
        """The asked model's bands.

        Raises:
            MarketcalError: the queue is full, or the input is refused.
            ModelFailed: the backend may not be tried now, or it gave no answer.
        """
        behaviour = self._degradation.behaviour(self.degradation)
        closed = self.breaker is BreakerState.CLOSED
        if closed and not self._degradation.lets_through(behaviour):
            raise ModelFailed(FallbackReason.DEGRADED)
        permit = self._breaker.admit()
        if permit is None:
            raise ModelFailed(FallbackReason.BREAKER_OPEN)
        until = self._clock() + deadline.for_model(self._clock(), behaviour.seconds)
        try:
            return await self._try(ask, until, behaviour.retries)
        finally:
            permit.release()

    async def _try(self, ask: Ask, until: float, retries: int) -> Bands:
        seconds = until - self._clock()
        if seconds <= 0:
            raise ModelFailed(FallbackReason.DEADLINE)
        try:
            return await attempt(self._pool, ask.query, ask.series, seconds)
        except ModelFailed as failed:
            lost = failed.reason is FallbackReason.BACKEND_UNAVAILABLE
            if not (lost and retries and self.degradation is DegradationState.NORMAL):
                raise
        return await self._try(ask, until, retries - 1)

    def _seen(self, call: CallReport) -> None:
        """Tells the breaker of a call, unless it says nothing of the backend."""
        error = call.error
        callers_fault = isinstance(error, MarketcalError)
        if callers_fault or (isinstance(error, TimeoutError) and call.budget < self._haste):
            return
        before = self._breaker.state
        self._breaker.record(call.began, failed=error is not None)
        after = self._breaker.state
        if before is not after:
            _LOG.warning("%s: breaker %s", self._pool.backend.served_by, after.name)
        if not isinstance(error, InvalidAnswerError | ModelError):  # then Ray itself is well
            self._ended(error is not None)
