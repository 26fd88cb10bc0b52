"""A price series on a regular grid, from irregular snapshots.

The value of a step is the last price at or before it; it is carried forward for at most
``max_fill_seconds`` (60 minutes by default). Longer gaps are missing values (NaN), not invented
ones. No step knows a price that came after it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_FILL_SECONDS = 3600
CADENCES = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86_400}
"""Usual lengths of a step, in seconds."""


def resample(
    t: NDArray[np.int64],
    p: NDArray[np.float64],
    grid: NDArray[np.int64],
    *,
    max_fill_seconds: int = MAX_FILL_SECONDS,
) -> NDArray[np.float64]:
    """Values of one series at the instants of ``grid``.

    Args:
        t: [N] int64 UTC seconds, ascending; p: [N] float64 in [0, 1].
        grid: [T] int64 UTC seconds.

    Returns:
        [T] float64, NaN where the last price is older than ``max_fill_seconds`` or absent.

    >>> resample(np.array([0, 600]), np.array([0.4, 0.5]), np.array([0, 300, 600, 9999]))
    array([0.4, 0.4, 0.5, nan])
    """
    if len(t) == 0:
        return np.full(len(grid), np.nan)
    at = np.searchsorted(t, grid, side="right") - 1
    safe = np.maximum(at, 0)
    is_known = (at >= 0) & (grid - t[safe] <= max_fill_seconds)
    return np.where(is_known, p[safe], np.nan)


def usual_cadence(t: NDArray[np.int64]) -> str:
    """The cadence whose ratio to the median step is nearest to one; 1h without a step.

    Args:
        t: [N] int64 UTC seconds, ascending.

    >>> usual_cadence(np.array([0, 3500, 7300, 10_800])), usual_cadence(np.array([0]))
    ('1h', '1h')
    """
    steps = np.diff(t)
    steps = steps[steps > 0]
    if len(steps) == 0:
        return "1h"
    median = float(np.median(steps))
    return min(CADENCES, key=lambda name: abs(np.log(median / CADENCES[name])))
