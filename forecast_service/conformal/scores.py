"""How far a band is from what happened, in units of its own width, and how a correction moves it.

The scores are those of conformalised quantile regression (Romano, Patterson and Candès, NeurIPS
2019), one for each level, divided by the distance of the level from the median: markets differ in
scale by orders of magnitude, so an offset in price that is right for one is absurd for the next.
With m the median, d = |q - m| + `SLACK` and y what happened::

    score of a lower level = (q - y) / d        score of an upper level = (y - q) / d

A correction c moves a lower level to q - c · d and an upper one to q + c · d, and never across the
median. The median itself stays: it is no bound. Everything is in price, where ticks are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from forecast_service.postprocess import reference_width
from forecast_service.transform import FloatArray

SLACK = 0.005
"""Price that is added to the unit, so that a band without width can be opened: half a cent."""
QUIET_WIDTH = 0.0201
"""A 10-90 % band up to this wide is quiet: it stands at the usual minimum, and says little of the
market's own scale. Quiet bands are corrected apart from the others."""
_ROUNDING = 1e-9

Levels = tuple[float, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Geometry:
    """What follows from the levels of a band alone.

    Attributes:
        levels: [Q] float64 in (0, 1), strictly increasing.
        side: [Q] float64: +1 below the median, -1 above it, 0 at it.
        centre: [Q] weights that give the median, linear in the normal score of the level.
        width: [Q] weights that give the width of `WidthLimits`; None where none is defined.
        spread: [Q] weights that give the width by which a band is quiet; None like ``width``.
        lower, upper: how many levels are below the median, and the first place above it.
    """

    levels: FloatArray
    side: FloatArray
    centre: FloatArray
    width: FloatArray | None
    spread: FloatArray | None
    lower: int
    upper: int


@lru_cache(maxsize=256)
def geometry(levels: Levels) -> Geometry | None:
    """The geometry of a set of levels; None when the median is neither among nor between them.

    >>> geometry((0.1, 0.5, 0.9)).side.tolist(), geometry((0.7, 0.9)) is None
    ([1.0, 0.0, -1.0], True)
    """
    array = np.asarray(levels)
    side = np.where(np.abs(array - 0.5) < 1e-9, 0.0, np.sign(0.5 - array))
    if side[0] < 0.0 or side[-1] > 0.0:
        return None
    normal = special.ndtri(array)
    centre = np.array([np.interp(0.0, normal, row) for row in np.eye(array.size)])
    lower, upper = int((side > 0).sum()), int((side >= 0).sum())
    width = reference_width(levels)
    spread = width if width is None or not _spans(array) else _ten_to_ninety(normal)
    return Geometry(array, side, centre, width, spread, lower, upper)


def _spans(levels: FloatArray) -> bool:
    return bool(levels[0] <= 0.1 + _ROUNDING and levels[-1] >= 0.9 - _ROUNDING)


def _ten_to_ninety(normal: FloatArray) -> FloatArray:
    """[Q] weights of the 10-90 % width, linear in the normal scores [Q] of the levels.

    Whether a market is quiet must not hang on the levels that somebody asks for: between those of
    a normal band this finds the same width from any of them.
    """
    rows, outer = np.eye(normal.size), special.ndtri(0.9)
    return np.array(
        [np.interp(outer, normal, row) - np.interp(-outer, normal, row) for row in rows]
    )


def scores(quantiles: FloatArray, shape: Geometry, actual: FloatArray) -> FloatArray:
    """The score of each level; above 0 the level was missed.

    Args:
        quantiles: [N, Q] float64 in [0, 1]; a NaN level has no score.
        shape: of the levels.
        actual: [N] float64 in [0, 1]; NaN is missing and has no score, 0 is a price like others.

    Returns:
        [N, Q] float64, NaN at the median.
    """
    centre = _weighted(quantiles, shape.centre)[:, None]
    unit = np.abs(quantiles - centre) + SLACK
    side = np.where(shape.side == 0.0, np.nan, shape.side)
    return np.asarray(side * (quantiles - actual[:, None]) / unit)


def is_quiet(quantiles: FloatArray, shape: Geometry) -> NDArray[np.bool_]:
    """[N] whether each band of [N, Q] is quiet, by the levels that it has; none is where they
    define no width."""
    result = np.zeros(quantiles.shape[0], dtype=bool)
    kinds, kind = np.unique(np.isfinite(quantiles), axis=0, return_inverse=True)
    for place, has in enumerate(kinds):
        own = geometry(tuple(shape.levels[has].tolist())) if has.any() else None
        if own is not None and own.spread is not None:
            rows = np.flatnonzero(kind.reshape(-1) == place)
            result[rows] = quantiles[np.ix_(rows, has)] @ own.spread <= QUIET_WIDTH
    return result


def _weighted(quantiles: FloatArray, weights: FloatArray) -> FloatArray:
    """[N] weighted sums; a level that has no weight may be NaN."""
    used = weights != 0.0
    return np.asarray(quantiles[:, used] @ weights[used])


def moved(
    quantiles: FloatArray,
    shape: Geometry,
    corrections: FloatArray,
    limits: tuple[float, float] | None = None,
) -> FloatArray:
    """Bands with their corrections applied.

    Where the corrected band would leave the width limits, the correction goes as far as they allow:
    the mean of two ordered bands in [0, 1], weighted so that the width is the limit, is one too.

    Args:
        quantiles: [N, Q] float64 in [0, 1], not decreasing along Q, within the limits.
        shape: of the levels.
        corrections: [N, Q] or [1, Q] float64, ``side`` times the correction of each level.
        limits: smallest and largest width; None for none.

    Returns:
        [N, Q] float64 in [0, 1], not decreasing along Q.
    """
    centre = (quantiles @ shape.centre)[:, None]
    unit = np.abs(quantiles - centre)
    unit += SLACK
    unit *= corrections
    found = quantiles - unit
    low, high = found[:, : shape.lower], found[:, shape.upper :]
    np.minimum(low, centre, out=low)
    np.maximum(high, centre, out=high)
    np.maximum(found, 0.0, out=found)
    np.minimum(found, 1.0, out=found)
    if quantiles.shape[1] > 1:
        found.sort(axis=1)
    if limits is None or shape.width is None:
        return found
    return _within(quantiles, found, shape.width, limits)


def _within(
    given: FloatArray, found: FloatArray, weights: FloatArray, limits: tuple[float, float]
) -> FloatArray:
    width = found @ weights
    if width.min() >= limits[0] - _ROUNDING and width.max() <= limits[1] + _ROUNDING:
        return found
    excess = np.maximum(np.minimum(width, limits[1]), limits[0]) - width
    way = given @ weights - width
    share = np.where(excess == 0.0, 0.0, excess / np.where(np.abs(way) < _ROUNDING, 1.0, way))
    back = np.minimum(np.maximum(share, 0.0), 1.0)[:, None]
    between = np.asarray(found + back * (given - found))
    between.sort(axis=1)  # rounding may cross levels that are nearly equal
    return between
