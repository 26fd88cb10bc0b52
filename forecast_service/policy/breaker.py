"""The circuit breaker before a backend: pure, its clock is an argument.

It counts calls, not requests: what travelled in one batch failed once. A call that began before
the present state did says nothing any more, so a late failure cannot open a breaker that is being
tried. A permit is given to a request; whoever holds it gives it back, whatever became of it, and
one that nobody gave back expires.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from forecast_service.policy.settings import PolicySettings


class BreakerState(IntEnum):
    """States of a breaker; the numbers are the contract's."""

    CLOSED = 1
    OPEN = 2
    HALF_OPEN = 3


class Event(IntEnum):
    """What moves a breaker."""

    TRIPPED = 1
    """Too many calls in the window failed or were slow."""
    RESTED = 2
    """The backend was left alone long enough."""
    PROBE_FAILED = 3
    """A call on trial failed or was slow."""
    PROVEN = 4
    """Enough calls on trial were good."""


TRANSITIONS = {
    (BreakerState.CLOSED, Event.TRIPPED): BreakerState.OPEN,
    (BreakerState.OPEN, Event.RESTED): BreakerState.HALF_OPEN,
    (BreakerState.HALF_OPEN, Event.PROBE_FAILED): BreakerState.OPEN,
    (BreakerState.HALF_OPEN, Event.PROVEN): BreakerState.CLOSED,
}
"""Every move there is."""


@dataclass(frozen=True, slots=True)
class Rates:
    """What a window holds.

    Attributes:
        calls: finished calls.
        failed: share of them that failed, in [0, 1]; 0 without calls.
        slow: share of them that were slow, in [0, 1]; 0 without calls.
    """

    calls: int
    failed: float
    slow: float


class Window:
    """The last finished calls, bounded in number and in age."""

    def __init__(self, calls: int, seconds: float) -> None:
        self._calls = calls
        self._seconds = seconds
        self._outcomes: deque[tuple[float, bool, bool]] = deque()
        self._failed = self._slow = 0

    @property
    def failures(self) -> int:
        """Calls that failed among all that are remembered."""
        return self._failed

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Notes a call that finished now."""
        self._outcomes.append((now, failed, slow))
        self._failed += failed
        self._slow += slow
        if len(self._outcomes) > self._calls:
            self._forget_one()

    def clear(self) -> None:
        """Forgets all calls."""
        self._outcomes.clear()
        self._failed = self._slow = 0

    def rates(self, now: float) -> Rates:
        """The shares among the calls that are not too old."""
        while self._outcomes and self._outcomes[0][0] <= now - self._seconds:
            self._forget_one()
        calls = len(self._outcomes)
        of = max(calls, 1)
        return Rates(calls, self._failed / of, self._slow / of)

    def _forget_one(self) -> None:
        _, failed, slow = self._outcomes.popleft()
        self._failed -= failed
        self._slow -= slow


class Permit:
    """Leave to try the backend once; `release` may be called any number of times."""

    __slots__ = ("_held", "expires_at")

    def __init__(self, held: set[Permit] | None, expires_at: float) -> None:
        self._held = held
        self.expires_at = expires_at

    def release(self) -> None:
        """Gives the permit back."""
        if self._held is not None:
            self._held.discard(self)


_FREE = Permit(None, 0.0)
"""The permit of a closed breaker, which counts nobody."""


class Breaker:
    """One backend's breaker.

    Attributes:
        entered: how often it has moved into each state.
    """

    def __init__(self, settings: PolicySettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._state = BreakerState.CLOSED
        self._since = clock()
        self._held: set[Permit] = set()
        self._successes = 0
        self.entered: Counter[BreakerState] = Counter()
        self._window = Window(settings.breaker_window_calls, settings.breaker_window_seconds)

    @property
    def state(self) -> BreakerState:
        """The state now."""
        rested = self._clock() - self._since >= self._settings.breaker_open_seconds
        if self._state is BreakerState.OPEN and rested:
            self._move(Event.RESTED)
        return self._state

    @property
    def left_in(self) -> BreakerState:
        """The state that it was left in; an open one that has rested still reads OPEN."""
        return self._state

    @property
    def untroubled(self) -> bool:
        """Whether it is closed and no call in its window failed, however old."""
        return self._state is BreakerState.CLOSED and not self._window.failures

    @property
    def rates(self) -> Rates:
        """What the window of the present state holds."""
        return self._window.rates(self._clock())

    def admit(self) -> Permit | None:
        """A permit to try the backend, or None."""
        state = self.state
        if state is BreakerState.CLOSED:
            return _FREE
        if state is BreakerState.OPEN:
            return None
        now = self._clock()
        for permit in [permit for permit in self._held if permit.expires_at <= now]:
            permit.release()
        if len(self._held) >= self._settings.breaker_permits:
            return None
        permit = Permit(self._held, now + self._settings.breaker_permit_seconds)
        self._held.add(permit)
        return permit

    def record(self, began: float, *, failed: bool) -> None:
        """Notes that a call which began then has just ended."""
        now = self._clock()
        state = self.state
        if began < self._since or state is BreakerState.OPEN:
            return
        slow = now - began > self._settings.breaker_slow_share * self._settings.model_seconds
        self._window.add(now, failed=failed, slow=slow)
        if state is BreakerState.CLOSED:
            if self._is_too_bad():
                self._move(Event.TRIPPED)
        elif failed or slow:
            self._move(Event.PROBE_FAILED)
        else:
            self._successes += 1
            if self._successes >= self._settings.breaker_successes:
                self._move(Event.PROVEN)

    def _is_too_bad(self) -> bool:
        settings, rates = self._settings, self.rates
        if rates.calls < settings.breaker_min_calls:
            return False
        failing = rates.failed >= settings.breaker_failure_rate
        return failing or rates.slow >= settings.breaker_slow_rate

    def _move(self, event: Event) -> None:
        self._state = TRANSITIONS[self._state, event]
        self.entered[self._state] += 1
        self._since = self._clock()
        self._successes = 0
        self._held = set()
        self._window.clear()
