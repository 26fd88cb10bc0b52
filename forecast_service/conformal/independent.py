"""Which windows may be counted: none that overlaps another of its market, none across the split.

A forecast at ``origin`` for h steps is settled h steps later. Two windows of one market that
overlap share most of what happened between, so of each market only windows are kept that begin
when the one before is settled. Windows of several markets of one event share their news: their
number is kept beside that of the events, and the finite-sample margin allows for it (see `fit`).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]


def thinned(
    market: NDArray[np.int64],
    origin: NDArray[np.int64],
    *,
    spacing: int,
    preferred: BoolArray | None = None,
) -> BoolArray:
    """Which windows remain when each market keeps the earliest one, then the next settled one.

    Args:
        market: [N] int64 codes.
        origin: [N] int64 seconds since the epoch.
        spacing: seconds from an origin to its settlement, ≥ 1.
        preferred: [N] bool, windows that are chosen first; the others fill the gaps between them.
            None where all are alike.

    Returns:
        [N] bool. Windows at one origin of one market count once.

    >>> thinned(np.array([0, 0, 0, 1]), np.array([0, 5, 10, 7]), spacing=10).tolist()
    [True, False, True, True]
    """
    if preferred is None or preferred.all() or not preferred.any():
        return _earliest(market, origin, spacing)
    result = np.zeros(market.size, dtype=bool)
    first = np.flatnonzero(preferred)
    result[first] = _earliest(market[first], origin[first], spacing)
    since = origin - origin.min()
    line = market * (int(since.max()) + 2 * spacing) + since  # of all markets, far from each other
    taken = np.sort(line[result])
    after = np.searchsorted(taken, line - spacing, side="right")
    overlaps = taken[np.minimum(after, taken.size - 1)] < line + spacing
    free = np.flatnonzero(~preferred & ~(overlaps & (after < taken.size)))
    result[free] = _earliest(market[free], origin[free], spacing)
    return result


def _earliest(market: NDArray[np.int64], origin: NDArray[np.int64], spacing: int) -> BoolArray:
    order = np.lexsort((origin, market))
    of, at = market[order].tolist(), origin[order].tolist()
    keep = np.zeros(len(of), dtype=bool)
    last, settled = None, 0
    for place in range(len(of)):
        if of[place] != last or at[place] >= settled:
            keep[place] = True
            last, settled = of[place], at[place] + spacing
    result = np.zeros(len(of), dtype=bool)
    result[order] = keep
    return result


def split(
    origin: NDArray[np.int64], *, at: int, horizon_seconds: int
) -> tuple[BoolArray, BoolArray]:
    """Windows to fit on and windows to measure on, with an embargo of one horizon between.

    Args:
        origin: [N] int64 seconds since the epoch.
        at: instant of the split, seconds since the epoch.
        horizon_seconds: seconds from an origin to its settlement.

    Returns:
        ([N] settled at or before the split, [N] made a horizon after it or later).

    >>> [part.tolist() for part in split(np.array([0, 5, 6, 20]), at=10, horizon_seconds=5)]
    [[True, True, False, False], [False, False, False, True]]
    """
    return origin + horizon_seconds <= at, origin >= at + horizon_seconds
