"""How long to wait before the next connection."""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """Waits ``first · 2^k`` up to ``cap`` seconds, each jittered over [½, 1] of itself."""

    first_seconds: float = 0.5
    cap_seconds: float = 30.0


class Backoff:
    """The waits of one connection, drawn from a generator that is given in."""

    def __init__(self, policy: BackoffPolicy, rng: random.Random) -> None:
        self._policy = policy
        self._rng = rng
        self._failures = 0

    def draw(self) -> float:
        """Seconds to wait now, in [first/2, cap]; the next one is longer until ``reset``."""
        # Above 2^32 the cap has long been reached, and a power would overflow one day.
        longest = self._policy.first_seconds * 2.0 ** min(self._failures, 32)
        self._failures += 1
        return min(self._policy.cap_seconds, longest) * (0.5 + 0.5 * self._rng.random())

    def reset(self) -> None:
        """A connection was useful: the next wait is a short one again."""
        self._failures = 0
