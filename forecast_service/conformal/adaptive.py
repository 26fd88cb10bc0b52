"""Adaptive conformal inference: a share of misses that follows what is being missed.

Gibbs and Candès (NeurIPS 2021): after each outcome ``α ← α + γ · (target - missed)``, so that over
any stretch the mean of the misses goes to the target whatever the data do. Outcomes count in the
order of their settlement; a state remembers the last one that it counted, so that the same outcome
fed twice, or an earlier one fed late, changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

LEAST, MOST = 0.1, 5.0
"""A tail is never made smaller or larger than these times its nominal share: at the most the
10-90 % band has no width, at the least it is a 98 % band."""


class Settled(NamedTuple):
    """An outcome: what identifies it, in the order in which outcomes count, and whether it missed.

    Attributes:
        settled_at: seconds since the epoch at which the outcome was known.
        market_id: of which market.
        origin: seconds since the epoch at which the forecast was made.
        step: of which step.
        missed: whether the corrected band missed it.
    """

    settled_at: int
    market_id: str
    origin: int
    step: int
    missed: bool


Key = tuple[int, str, int, int]


@dataclass(frozen=True, slots=True)
class Adaptive:
    """The share of misses that is aimed at.

    Attributes:
        target: share that the band promises to miss, in (0, 1).
        alpha: share aimed at now, in [0, 1].
        outcomes: how many were counted.
        last: the last one that was counted; None before the first.
    """

    target: float
    alpha: float
    outcomes: int = 0
    last: Key | None = None

    @property
    def tail(self) -> float:
        """By which factor tails are to be smaller or larger, `LEAST` to `MOST`."""
        return min(max(self.alpha / self.target, LEAST), MOST)

    def after(self, settled: Iterable[Settled], *, gamma: float) -> Adaptive:
        """The state after further outcomes, in any order; those it has counted already count not.

        Args:
            settled: outcomes.
            gamma: size of a step, > 0; 0.005 to 0.05 is usual.
        """
        alpha, count, last = self.alpha, self.outcomes, self.last
        for one in sorted(set(settled)):
            key = one[:4]
            if last is not None and key <= last:
                continue
            aimed = alpha + gamma * (self.target - float(one.missed))
            alpha = min(max(aimed, 0.0), 1.0)
            count, last = count + 1, key
        return Adaptive(self.target, alpha, count, last)


def fresh(target: float) -> Adaptive:
    """The state before the first outcome.

    >>> fresh(0.2).after([Settled(9, "a", 0, 1, True)], gamma=0.01).alpha
    0.192
    """
    return Adaptive(target, target)
