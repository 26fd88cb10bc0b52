"""How much may be under way at once; above it callers are told to come back, before they wait.

Work is counted in the cost that the contract gives a call: a batch of 500 counts 500. What is under
way may be as much as is done in ``max_wait`` seconds, so that whoever is let in is answered soon
after, and whoever is not hears so at once: a queue would only make all of them wait. How much that
is follows from what was done lately while anything was under way.

Nobody takes all of it: a caller alone may hold three quarters, a huge call counts no more than
that, and reads and forecasts have limits of their own. A call that was refused before comes first,
by half of the limit, so that callers who wait as long as they are told get through.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial

from gateway.call import Call
from marketcal.errors import Overloaded

RETRY_AFTER = 0.1
"""Seconds after which a stream may be opened elsewhere, or a call tried again at the earliest."""
LONGEST_RETRY = 1.0
SHARE = 0.75
"""Of the limit, what one caller may hold."""
BEFORE = "grpc-previous-rpc-attempts"
"""Metadata that gRPC adds to a call that it repeats."""
RETRIED = 1.5
"""How far above the limit such a call is let in."""
ALWAYS = 2
"""Calls that may be under way whatever they cost: while one is computed the next is read."""
_LOOK_SECONDS = 0.1
"""Busy time over which a rate is taken."""


class Work:
    """What is under way, each scope of the contract by itself.

    Args:
        least, most, max_wait, clock: those of `InFlight`.
    """

    def __init__(
        self, *, least: int, most: int, max_wait: float, clock: Callable[[], float]
    ) -> None:
        self._new = partial(InFlight, least=least, most=most, max_wait=max_wait, clock=clock)
        self.by_scope: dict[str, InFlight] = {}

    def check(self, call: Call) -> None:
        """Refuses a call that has no place now, before its request is read.

        Raises:
            Overloaded: there is too much under way.
        """
        place = self.hold(call)
        place.in_flight.check(place, 1)

    def hold(self, call: Call) -> Place:
        """A place for ``call``, taken on entering a ``with``; refused there with Overloaded."""
        scope = call.method.scope or ""
        in_flight = self.by_scope.get(scope)
        if in_flight is None:
            in_flight = self.by_scope[scope] = self._new()
        return Place(in_flight, call)


class InFlight:
    """The work of one scope that is under way, and how much there may be.

    Args:
        least: cost that may always be under way.
        most: cost that never may, unless by one call alone.
        max_wait: seconds that admitted work may take to be done.
        clock: monotonic seconds.

    Attributes:
        refused: calls that were told to come back.
    """

    def __init__(
        self, *, least: int, most: int, max_wait: float, clock: Callable[[], float]
    ) -> None:
        self._least = least
        self._most = most
        self._max_wait = max_wait
        self._clock = clock
        self._callers: Counter[str] = Counter()
        self._cost = 0
        self._calls = 0
        self._rate = 0.0
        self._done, self._busy, self._looked_at = 0, 0.0, 0.0
        self.refused = 0

    @property
    def cost(self) -> int:
        """Cost of what is under way."""
        return self._cost

    @property
    def limit(self) -> int:
        """Cost that may be under way now."""
        return min(self._most, max(self._least, int(self._rate * self._max_wait)))

    def check(self, place: Place, cost: int) -> int:
        """How much of ``cost`` the call of ``place`` may take: a huge call counts as a share.

        Raises:
            Overloaded: there is too much under way.
        """
        share = max(1, int(SHARE * self.limit))
        cost = min(cost, share - place.cost)
        others = self._calls - bool(place.cost)
        if others < ALWAYS:
            return cost
        limit = self.limit * (RETRIED if BEFORE in place.call.metadata else 1.0)
        if self._cost + cost > limit or self._callers[place.caller] + cost > share:
            self.refused += 1
            raise Overloaded(
                "more is under way than can be answered soon", retry_after=self._retry_after()
            )
        return cost

    def take(self, place: Place, cost: int) -> None:
        """Takes ``cost`` more for the call of ``place``.

        Raises:
            Overloaded: there is too much under way.
        """
        cost = self.check(place, cost)
        self._tick()
        self._calls += not place.cost
        self._cost += cost
        self._callers[place.caller] += cost
        place.cost += cost

    def give_back(self, place: Place) -> None:
        """Ends what ``place`` has taken."""
        if not place.cost:
            return  # it was refused
        self._tick()
        self._calls -= 1
        self._done += place.cost
        self._cost -= place.cost
        left = self._callers[place.caller] - place.cost
        if left:
            self._callers[place.caller] = left
        else:
            del self._callers[place.caller]

    def _retry_after(self) -> float:
        """About twice as long as what is under way will take."""
        wait = 2 * self._cost / self._rate if self._rate else RETRY_AFTER
        return min(max(wait, RETRY_AFTER), LONGEST_RETRY)

    def _tick(self) -> None:
        """Counts the time since the last change as busy where something was under way."""
        now = self._clock()
        if self._cost:
            self._busy += now - self._looked_at
        self._looked_at = now
        if self._busy >= _LOOK_SECONDS:
            rate = self._done / self._busy
            self._rate = (self._rate + rate) / 2 if self._rate else rate
            self._done, self._busy = 0, 0.0


class Place:
    """What one call holds of the work under way.

    Attributes:
        in_flight: of which it is a part.
        call: the call.
        caller: who is counted.
        cost: what it holds; 0 before and after.
    """

    __slots__ = ("call", "caller", "cost", "in_flight")

    def __init__(self, in_flight: InFlight, call: Call) -> None:
        self.in_flight = in_flight
        self.call = call
        self.caller = call.caller
        self.cost = 0

    def grow(self, cost: int) -> None:
        """Holds ``cost`` in all.

        Raises:
            Overloaded: that is too much now.
        """
        if cost > self.cost:
            self.in_flight.take(self, cost - self.cost)

    def __enter__(self) -> Place:
        self.in_flight.take(self, 1)
        return self

    def __exit__(self, *_ending: object) -> None:
        self.in_flight.give_back(self)
