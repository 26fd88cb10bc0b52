"""How far a backend has fallen, and what that changes: pure, read off the breaker's window.

| state | from a failure rate of | retries | wait | who is let through |
|---|---|---|---|---|
| NORMAL | 0 | one, after the way there was lost | `model_seconds` | all |
| DEGRADED | `degraded_rate` | none | `degraded_seconds` | all |
| BASELINE_ONLY | `baseline_only_rate` | none | `model_seconds` | one request in `probe_every` |

A request that probes has the whole wait, or a model that needs it would never come back.
A state is left when the rate is `recovery_margin` below the one that led to it, so that a rate at
the edge does not flap. While the breaker is not closed, it alone lets through: the state reads
BASELINE_ONLY and adds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from forecast_service.policy.breaker import BreakerState, Rates
from forecast_service.policy.settings import PolicySettings

_EXACT = 1e-9
"""Differences of rates are not exact; this much below a bound is at it."""


class DegradationState(IntEnum):
    """States of a backend; the numbers are the contract's, a larger one is worse."""

    NORMAL = 1
    DEGRADED = 2
    BASELINE_ONLY = 3


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a state means for a request.

    Attributes:
        retries: further tries after a lost connection.
        seconds: longest wait for the backend.
        one_in: of so many requests one is let through.
    """

    retries: int
    seconds: float
    one_in: int


class Degradation:
    """The state of one backend; it remembers the last one, which is where hysteresis comes from."""

    def __init__(self, settings: PolicySettings) -> None:
        self._settings = settings
        self._entered_at = (
            (DegradationState.BASELINE_ONLY, settings.baseline_only_rate),
            (DegradationState.DEGRADED, settings.degraded_rate),
        )
        whole = settings.model_seconds
        hurried = min(settings.degraded_seconds, whole)
        self._table = {
            DegradationState.NORMAL: Behaviour(1, whole, 1),
            DegradationState.DEGRADED: Behaviour(0, hurried, 1),
            DegradationState.BASELINE_ONLY: Behaviour(0, whole, settings.probe_every),
        }
        self._state = DegradationState.NORMAL
        self._held_back = 0

    @property
    def left_in(self) -> DegradationState:
        """The state that was found last."""
        return self._state

    def state(self, breaker: BreakerState, rates: Rates) -> DegradationState:
        """The state for what the breaker and its window show now."""
        if breaker is not BreakerState.CLOSED:
            self._state = DegradationState.NORMAL  # of the window that begins when it closes
            return DegradationState.BASELINE_ONLY
        if rates.failed == 0.0:
            return self.recovered()
        if rates.calls >= self._settings.breaker_min_calls:
            self._state = self._by_rate(rates.failed)
        return self._state

    def recovered(self) -> DegradationState:
        """The state of a backend without failures."""
        self._state = DegradationState.NORMAL
        return self._state

    def behaviour(self, state: DegradationState) -> Behaviour:
        """What ``state`` means for a request."""
        return self._table[state]

    def lets_through(self, behaviour: Behaviour) -> bool:
        """Whether the next request may try the backend; each `one_in`-th may."""
        if behaviour.one_in == 1:
            return True
        self._held_back += 1
        return self._held_back % behaviour.one_in == 0

    def _by_rate(self, failed: float) -> DegradationState:
        for state, rate in self._entered_at:
            held = self._settings.recovery_margin if state <= self._state else 0.0
            if failed >= rate or (held and failed > rate - held + _EXACT):
                return state
        return DegradationState.NORMAL
