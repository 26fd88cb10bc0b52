"""Empirical quantiles of h-step increments, added to the last value.

Increments, never levels: quantiles of past levels say where the price has been, not how far it
moves. Steps are measured on a ladder of about seven per three octaves and interpolated between,
so a long horizon costs a few dozen sorts. A step is measured when the context holds at least 30
increments of that length; beyond the longest such step the band grows by √h.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from forecast_service.baselines.context import (
    MIN_SCALE,
    Band,
    BaselineFlag,
    Context,
    steps_ahead,
)
from forecast_service.baselines.random_walk import step_variance
from forecast_service.transform import FloatArray

MIN_INCREMENTS = 30
"""Increments that a step needs before its quantiles are taken from the data."""

OVERLAP_GAIN = 1.5
"""Overlapping increments of a random walk carry 1.5 times the information of disjoint ones (the
variance ratio of Lo and MacKinlay, Rev. Financ. Stud. 1, 1988, doi:10.1093/rfs/1.1.41)."""

_LADDER = np.unique(np.round(np.outer(2.0 ** np.arange(16), [1.0, 1.5])).astype(np.int64).ravel())


def ladder(longest: int) -> NDArray[np.int64]:
    """Steps 1, 2, 3, 4, 6, 8, 12, … up to the first one that is not below ``longest``.

    >>> ladder(12).tolist()
    [1, 2, 3, 4, 6, 8, 12]
    """
    return _LADDER[: int(np.searchsorted(_LADDER, longest)) + 1]


def corrected_levels(levels: FloatArray, independent: FloatArray) -> FloatArray:
    """Levels moved outwards so that a quantile of few independent increments still covers.

    With n independent draws the sample quantile at ``p + (p - 1/2) / n`` is exceeded with
    probability ``1 - p`` (the position ``p (n + 1)`` among the order statistics).

    Args:
        levels: [Q] float64 in (0, 1).
        independent: [B] float64 ≥ 1, independent increments.

    Returns:
        [B, Q] float64 in [0, 1].
    """
    return np.clip(levels + (levels - 0.5) / independent[:, None], 0.0, 1.0)


def sample_quantiles(moves: FloatArray, *, step: int, levels: FloatArray) -> FloatArray:
    """Quantiles of overlapping ``step``-step increments.

    Args:
        moves: [B, M] float64, NaN = missing.
        step: length of an increment; n overlapping ones count as 1.5 n / step independent ones.
        levels: [Q] float64 in (0, 1).

    Returns:
        [B, Q] float64; only rows with at least one increment are meaningful.
    """
    ordered = np.sort(moves, axis=1)
    count = np.maximum(moves.shape[1] - np.isnan(ordered).sum(axis=1), 1)
    independent = count * (OVERLAP_GAIN / step) if step > 1 else count.astype(np.float64)
    independent = np.maximum(independent, 1.0)
    place = np.clip(
        corrected_levels(levels, independent) * count[:, None] - 0.5, 0.0, count[:, None] - 1.0
    )
    lower = place.astype(np.int64)
    upper = np.minimum(lower + 1, count[:, None] - 1)
    low = np.take_along_axis(ordered, lower, axis=1)
    high = np.take_along_axis(ordered, upper, axis=1)
    return np.asarray(low + (place - lower) * (high - low))


def rolling_quantile(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Last value plus empirical quantiles of its increments over the same number of steps."""
    ahead = steps_ahead(context, horizon_steps)
    steps = ladder(int(ahead.max()))
    scaled, usable = _scaled_quantiles(context, steps, levels=levels)
    quantiles = _at_steps(scaled, steps, ahead=ahead) * np.sqrt(ahead)[:, :, None]
    needed = steps <= ahead[:, -1:]
    short = (needed & ~usable).any(axis=1) | (ahead[:, -1] > steps[usable.sum(axis=1) - 1])
    flags = np.where(short, int(BaselineFlag.SHORT_HISTORY), 0)
    return Band(context.last[:, None, None] + quantiles, np.broadcast_to(flags, context.last.shape))


def _scaled_quantiles(
    context: Context, steps: NDArray[np.int64], *, levels: FloatArray
) -> tuple[FloatArray, NDArray[np.bool_]]:
    """[B, K, Q] quantiles of increments divided by √step, and [B, K] which were measured.

    A step without enough increments takes the one below it; below all, the random walk's.
    """
    variance, effective = step_variance(context)
    current = np.sqrt(variance)[:, None] * special.stdtrit(effective[:, None], levels)
    floor = MIN_SCALE * special.ndtri(levels)
    scaled = np.empty((context.last.size, steps.size, levels.size))
    usable = np.zeros((context.last.size, steps.size), dtype=np.bool_)
    for k, step in enumerate(steps.tolist()):
        moves = context.raw[:, step:] - context.raw[:, :-step]
        if moves.shape[1] >= MIN_INCREMENTS:
            usable[:, k] = _enough(moves, context)
            measured = sample_quantiles(moves, step=step, levels=levels) / np.sqrt(step) + floor
            current = np.where(usable[:, k, None], measured, current)
        scaled[:, k] = current
    return scaled, usable


def _enough(moves: FloatArray, context: Context) -> NDArray[np.bool_]:
    """[B] bool: the row has at least 30 increments of this length."""
    if context.gaps is None:
        return np.ones(moves.shape[0], dtype=np.bool_)
    return np.asarray(np.isfinite(moves).sum(axis=1) >= MIN_INCREMENTS)


def _at_steps(scaled: FloatArray, steps: NDArray[np.int64], *, ahead: FloatArray) -> FloatArray:
    """Interpolate the ladder at the steps asked for, linearly in log h.

    Args:
        scaled: [B, K, Q] float64.
        steps: [K] int64, increasing.
        ahead: [B, H] or [1, H] float64 ≥ 1.

    Returns:
        [B, H, Q] float64.
    """
    place = np.interp(np.log(ahead), np.log(steps), np.arange(float(steps.size)))
    lower = np.floor(place).astype(np.int64)
    upper = np.minimum(lower + 1, steps.size - 1)
    share = (place - lower)[:, :, None]
    if ahead.shape[0] == 1:
        low, high = scaled[:, lower[0]], scaled[:, upper[0]]
    else:
        low = np.take_along_axis(scaled, lower[:, :, None], axis=1)
        high = np.take_along_axis(scaled, upper[:, :, None], axis=1)
    return np.asarray(low + share * (high - low))
