"""A lane: the backend of one model family, and what stands before it."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

from forecast_service.batch import Bands
from forecast_service.models.errors import ModelError
from forecast_service.policy.attempt import attempt
from forecast_service.policy.breaker import Breaker, BreakerState
from forecast_service.policy.deadline import Deadline
from forecast_service.policy.decision import Ask, FallbackReason, ModelFailed
from forecast_service.policy.degradation import Degradation, DegradationState
from forecast_service.policy.settings import PolicySettings
from forecast_service.pool import Backend, CallReport, Pool
from marketcal.errors import MarketcalError

_LOG = logging.getLogger("forecast_service")
_NEARLY_WHOLE = 0.9
"""A call with less of its backend's wait that ends without an answer was its callers' haste."""


class Lane:
    """Degradation, breaker and pool of one backend.

    Args:
        settings: of the policy.
        clock: monotonic seconds.
        pool_of: makes the pool of the lane's backend, given who looks at its calls.
        ended: told after each call that says something of the way to the backend: whether the
            way was lost.
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

    @property
    def left_in(self) -> tuple[BreakerState, DegradationState]:
        """Both states as the last request left them: to look from another thread moves nothing."""
        breaker = self._breaker.left_in
        if breaker is not BreakerState.CLOSED:
            return breaker, DegradationState.BASELINE_ONLY
        return breaker, self._degradation.left_in

    @property
    def entered(self) -> Counter[BreakerState]:
        """How often the breaker has moved into each state."""
        return self._breaker.entered

    @property
    def queued(self) -> int:
        """Series that wait for the backend."""
        return self._pool.queued

    def ask_through(self, backend: Backend) -> None:
        """Puts another way to the same backend in place of the one until now."""
        self._pool.backend = backend

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
            if not (
                _lost(failed.__cause__) and retries and self.degradation is DegradationState.NORMAL
            ):
                raise
        return await self._try(ask, until, retries - 1)

    def _seen(self, call: CallReport) -> None:
        """Tells the breaker of a call, unless it says nothing of the backend."""
        error = call.error
        if isinstance(error, MarketcalError) or (
            isinstance(error, TimeoutError) and call.budget < self._patience
        ):
            return
        before = self._breaker.state
        self._breaker.record(call.began, failed=error is not None)
        after = self._breaker.state
        if before is not after:
            _LOG.warning("%s: breaker %s", self._pool.backend.served_by, after.name)
        if error is None or _lost(error):  # whatever else it is, the way may be well
            self._ended(error is not None)

    @property
    def _patience(self) -> float:
        """Seconds that a call must have had for its end without an answer to count."""
        return _NEARLY_WHOLE * self._degradation.behaviour(self.degradation).seconds


def _lost(error: BaseException | None) -> bool:
    """Whether the way to the backend was lost; a model that is away says so over a good one."""
    return isinstance(error, ConnectionError) and not isinstance(error, ModelError)
