"""How sure a map is: 95 % intervals of the probability at the grid of prices, over events.

- Platt: the leave-one-event-out sandwich CR3 in log-odds (source at ``intervals``);
- shift and beta: the delete-a-group jackknife in log-odds (Kott, J. Off. Stat. 17, 2001);
- isotonic: a bootstrap over groups of events, widened to the exact binomial interval (Clopper and
  Pearson, Biometrika 26, 1934, doi:10.1093/biomet/26.4.404) where all outcomes of a block are
  equal, for that looks certain to a bootstrap. How often it covers is measured, not promised.

Each event weighs one, whatever the number of its rows. Intervals are those of fits to the outcomes
alone, without `maps.PRICE_EVENTS`. Where outcomes alone give none (all are equal, a price tells
them apart, there are one or two events), they are those of Platt's map under a weak prior that
prices mean what they say (``weak_prior``): there is an interval as soon as there is an event.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from calibration_service import intervals
from calibration_service.logistic import price_logit
from calibration_service.price_cells import PRICE_CELLS, price_codes
from calibration_service.recalibration.maps import (
    Method,
    TrainingCells,
    fit_isotonic,
    fit_maps,
    fit_platt,
)
from calibration_service.recalibration.weak_prior import posterior_band
from calibration_service.scores import event_weights

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

GRID: FloatArray = np.concatenate(
    [[0.0, 0.001, 0.002, 0.005], np.arange(1, 100) / 100.0, [0.995, 0.998, 0.999, 1.0]]
)
"""Prices at which a map is kept."""

_OCCUPIED = 1e-9
"""Less weight than this is what rounding left of none."""

_GROUPS = 100
_RESAMPLES = 400

Band = tuple[FloatArray, FloatArray]


def band_of(
    method: Method, p: FloatArray, y: FloatArray, event: IntArray, *, rng: np.random.Generator
) -> Band:
    """Interval of one method at `GRID`.

    Args:
        method: the map; for the identity the interval of Platt's map is given.
        p: [N] float64 in [0, 1]; y: [N] float64, 0 or 1.
        event: [N] int64 in [0, E), every code used.
        rng: puts events into groups and draws the bootstrap.

    Returns:
        (lo, hi), [K] float64 in [0, 1], neither decreasing, finite.
    """
    if method in (Method.IDENTITY, Method.PLATT):
        low, high = _platt_band(p, y, event)
    elif method == Method.ISOTONIC:
        low, high = _isotonic_band(p, y, event, rng=rng)
    else:
        low, high = _jackknife_band(method, p, y, event, rng=rng)
    if not np.isfinite(low + high).all():
        low, high = posterior_band(p, y, event_weights(event), at=GRID)
    return np.minimum.accumulate(low[::-1])[::-1], np.maximum.accumulate(high)


def _cells_of(
    p: FloatArray, y: FloatArray, event: IntArray, *, part: IntArray, count: int
) -> TrainingCells:
    """Cells of rows in ``count`` parts, at every price that occurs anywhere; size may be 0.

    Args:
        p, y, event: [N] as in `band_of`.
        part: [E] int64 in [0, count), the part of each event.
        count: number of parts.
    """
    codes, place = np.unique(price_codes(p), return_inverse=True)
    weight = event_weights(event)
    index, length = part[event] * codes.size + place, count * codes.size
    return TrainingCells(
        group=np.repeat(np.arange(count), codes.size),
        price=np.tile(codes / PRICE_CELLS, count),
        size=np.asarray(np.bincount(index, weight, minlength=length), dtype=np.float64),
        positive=np.asarray(np.bincount(index, weight * y, minlength=length), dtype=np.float64),
        events=np.ones(count, dtype=np.int64),
    )


def _platt_band(p: FloatArray, y: FloatArray, event: IntArray) -> Band:
    weight = event_weights(event)
    one = np.zeros(int(event.max()) + 1, dtype=np.int64)
    intercept, slope, _ = fit_platt(_cells_of(p, y, event, part=one, count=1))[:, 0]
    x = price_logit(p)
    mean = special.expit(intercept + slope * x)
    score, curvature = y - mean, mean * (1.0 - mean)
    terms = (score, score * x, curvature, curvature * x, curvature * x * x)
    sums = (np.asarray(np.bincount(event, weight * term), dtype=np.float64) for term in terms)
    parts = intervals.EventScores(*sums)
    events = parts.score.size
    groups = intervals.EventGroups(np.zeros(events, dtype=np.int64), 1)
    on_intercept, on_slope = intervals.logistic_influence(parts, groups=groups)
    at = price_logit(GRID)
    moved = np.stack([on_intercept @ on_intercept, on_intercept @ on_slope, on_slope @ on_slope])
    variance = (moved[0] + 2.0 * at * moved[1] + at * at * moved[2]) * (events - 1.0) / events
    width = intervals.t_quantile(np.array([events - 1.0])) * np.sqrt(variance)
    centre = intercept + slope * at
    return special.expit(centre - width), special.expit(centre + width)


def _jackknife_band(
    method: Method, p: FloatArray, y: FloatArray, event: IntArray, *, rng: np.random.Generator
) -> Band:
    parts = _event_groups(p, y, event, rng=rng)
    count = parts.groups
    size, positive = parts.size.reshape(count, -1), parts.positive.reshape(count, -1)
    whole = _estimates(method, parts, size.sum(axis=0)[None], positive.sum(axis=0)[None])[0]
    left = _estimates(method, parts, size.sum(axis=0) - size, positive.sum(axis=0) - positive)
    spread = ((left - left.mean(axis=0)) ** 2).sum(axis=0) * (count - 1.0) / count
    width = intervals.t_quantile(np.array([count - 1.0])) * np.sqrt(spread)
    return special.expit(whole - width), special.expit(whole + width)


def _event_groups(
    p: FloatArray, y: FloatArray, event: IntArray, *, rng: np.random.Generator
) -> TrainingCells:
    events = int(event.max()) + 1
    count = min(events, _GROUPS)
    return _cells_of(p, y, event, part=rng.permutation(events) % count, count=count)


def _estimates(
    method: Method, parts: TrainingCells, size: FloatArray, positive: FloatArray
) -> FloatArray:
    """[R, K] log-odds at the grid of fits to [R, C] sums."""
    cells = _occupied(parts, size, positive)
    count = size.shape[0]
    at = fit_maps(method, cells).at(np.tile(GRID, count), np.repeat(np.arange(count), GRID.size))
    return np.asarray(special.logit(at)).reshape(count, GRID.size)


def _occupied(parts: TrainingCells, size: FloatArray, positive: FloatArray) -> TrainingCells:
    """Occupied cells of [R, C] sums at the prices of ``parts``."""
    count, prices = size.shape
    used = np.flatnonzero(size > _OCCUPIED)
    return TrainingCells(
        used // prices,
        parts.price[:prices][used % prices],
        size.reshape(-1)[used],
        np.clip(positive.reshape(-1)[used], 0.0, size.reshape(-1)[used]),
        np.ones(count, dtype=np.int64),
    )


def _isotonic_band(
    p: FloatArray, y: FloatArray, event: IntArray, *, rng: np.random.Generator
) -> Band:
    parts = _event_groups(p, y, event, rng=rng)
    count = parts.groups
    size, positive = parts.size.reshape(count, -1), parts.positive.reshape(count, -1)
    drawn = rng.multinomial(count, np.full(count, 1.0 / count), size=_RESAMPLES).astype(np.float64)
    cells = _occupied(parts, drawn @ size, drawn @ positive)
    group = np.repeat(np.arange(_RESAMPLES), GRID.size)
    at = fit_isotonic(cells).at(np.tile(GRID, _RESAMPLES), group).reshape(_RESAMPLES, -1)
    low, high = np.quantile(at, [0.025, 0.975], axis=0)
    whole = _occupied(parts, size.sum(axis=0)[None], positive.sum(axis=0)[None])
    exact = _exact(whole, events=int(event.max()) + 1)
    upper = _widened(high, exact[1])
    lower = 1.0 - _widened((1.0 - low)[::-1], (1.0 - exact[0])[::-1])[::-1]
    return lower, upper


def _widened(high: FloatArray, exact: FloatArray) -> FloatArray:
    """[K] upper ends, raised to the exact ones where there are any, -inf elsewhere.

    Exact ends stand at the low prices alone. A handful of outcomes would put them near 1; but
    what happens more often at higher prices bounds them too.
    """
    at_block = np.isfinite(exact)
    beyond = np.where(at_block, np.inf, high)
    bound = np.minimum.accumulate(beyond[::-1])[::-1]
    raised = np.minimum(np.maximum(high, exact), np.maximum(bound, high))
    return np.where(at_block, raised, high)


def _exact(whole: TrainingCells, *, events: int) -> Band:
    """Binomial interval at the grid of blocks in which all outcomes are equal; none elsewhere."""
    maps = fit_isotonic(whole)
    block = np.cumsum(np.diff(maps.rate, prepend=-1.0) > 1e-12) - 1
    size = np.bincount(block, whole.size) * events / whole.size.sum()
    rate = maps.rate[np.flatnonzero(np.diff(block, prepend=-1))]
    low = np.where(rate > 1.0 - 1e-9, 0.025 ** (1.0 / size), np.inf)
    high = np.where(rate < 1e-9, 1.0 - 0.025 ** (1.0 / size), -np.inf)
    place = block[np.clip(np.searchsorted(whole.price, GRID), 0, block.size - 1)]
    return low[place], high[place]
