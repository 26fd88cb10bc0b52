"""Rate limits by the generic cell rate algorithm (ITU-T I.371, virtual scheduling form).

One number per identity: the theoretical arrival time ``tat``, at which the bucket would be full
again. With an emission interval ``T = 60 / rate`` and a tolerance ``burst · T``, a call of cost
``c`` is allowed when ``max(tat, now) + c·T − now ≤ burst·T``, and then moves ``tat`` there. Limits
are exact, need no timer, and a refused call costs the caller nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the limiter says.

    Attributes:
        allowed: whether the call may pass.
        retry_after: seconds until it could; 0 when allowed, infinite when it never can.
        remaining: whole tokens left after the call.
        reset_after: seconds until the bucket is full again.
    """

    allowed: bool
    retry_after: float
    remaining: int
    reset_after: float


class Limiter:
    """GCRA limits in this process, for at most ``capacity`` identities; the idlest leave first."""

    def __init__(self, clock: Callable[[], float], *, capacity: int = 100_000) -> None:
        self._clock = clock
        self._capacity = capacity
        self._arrival: OrderedDict[object, float] = OrderedDict()

    def __len__(self) -> int:
        """Identities that are remembered."""
        return len(self._arrival)

    def check(self, key: object, cost: int, *, rate_per_minute: float, burst: int) -> Verdict:
        """Takes ``cost`` tokens from ``key``'s bucket if they are there."""
        interval = 60.0 / rate_per_minute
        tolerance = interval * burst
        now = self._clock()
        arrival = max(self._arrival.get(key, now), now)
        moved = arrival + cost * interval
        excess = moved - now - tolerance
        if excess > 1e-9:
            never = cost > burst
            left = int((tolerance - (arrival - now)) / interval + 1e-9)
            return Verdict(False, float("inf") if never else excess, left, arrival - now)
        self._arrival[key] = moved
        self._arrival.move_to_end(key)
        if len(self._arrival) > self._capacity:
            self._arrival.popitem(last=False)
        return Verdict(True, 0.0, int(-excess / interval + 1e-9), moved - now)
