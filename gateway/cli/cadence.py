"""Recorded prices on a regular grid: what a forecast may be asked from.

A model counts steps, so a history must stand on steps of the length that the request names. The
grid ends at the newest price, which is what a forecast goes on from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from market_data.series import MAX_FILL_SECONDS, resample, usual_cadence

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_STEPS = 288


class HistoryTooShort(Exception):
    """Fewer than two steps remain."""


@dataclass(frozen=True, slots=True)
class RegularHistory:
    """Prices on a grid.

    Attributes:
        freq: length of a step, as the contract writes it.
        values: [T] prices in [0, 1], oldest first, NaN where missing; T is 2 to `MOST_STEPS`.
    """

    freq: str
    values: list[float]


def regular_history(points: Iterable[Any], freq: str | None = None) -> RegularHistory:
    """A market's recorded prices on steps of ``freq``, the usual step of the history by default.

    A step carries the last price before it for at most two steps, or for the resampler's own
    limit where that is longer; later it is missing.

    Args:
        points: ``PricePoint`` messages, oldest first.
        freq: "5m", "1h" and the like; None chooses one.

    Raises:
        HistoryTooShort: fewer than two steps have a price.
        InvalidFieldError: ``freq`` is not a cadence.
    """
    from forecast_service.series import parse_freq

    found = [(point.time.seconds, point.p_yes) for point in points]
    t = np.array([at for at, _ in found], dtype=np.int64)
    p = np.array([price for _, price in found], dtype=np.float64)
    chosen = freq or usual_cadence(t)
    seconds = parse_freq(chosen)
    values = _last_steps(t, p, seconds) if len(t) else np.empty(0)
    steps = int(np.isfinite(values).sum())
    if steps < 2:
        raise HistoryTooShort(
            f"{len(t)} recorded prices make {steps} steps of {chosen}; two are needed"
        )
    return RegularHistory(chosen, values.tolist())


def _last_steps(t: NDArray[np.int64], p: NDArray[np.float64], seconds: int) -> NDArray[np.float64]:
    """[T] prices of the last steps, from the first price on."""
    count = min(MOST_STEPS, int(t[-1] - t[0]) // seconds + 1)
    grid = t[-1] - seconds * np.arange(count - 1, -1, -1, dtype=np.int64)
    return resample(t, p, grid, max_fill_seconds=max(MAX_FILL_SECONDS, 2 * seconds))
