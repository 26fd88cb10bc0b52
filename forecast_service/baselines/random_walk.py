"""Last value, and the random walk with an exponentially weighted variance of its increments."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from forecast_service.baselines.context import (
    MIN_SCALE,
    UNKNOWN_SCALE,
    Band,
    BaselineFlag,
    Context,
    location_scale,
    no_flags,
    steps_ahead,
)
from forecast_service.transform import FloatArray

DECAY = 0.97
"""Weight of an increment relative to the next newer one; about 65 effective increments."""


@lru_cache(maxsize=64)
def _weights(length: int) -> tuple[FloatArray, float, float]:
    """([M] weights, oldest first; their sum; effective number of increments)."""
    weights = DECAY ** np.arange(length - 1, -1, -1, dtype=np.float64)
    weights.setflags(write=False)
    total = float(weights.sum())
    effective = total**2 / float(weights @ weights) if length else 1.0
    return weights, total, effective


def step_variance(context: Context) -> tuple[FloatArray, FloatArray]:
    """Exponentially weighted variance of a one-step increment, and its effective sample size.

    ``σ² = Σ w d² / k ÷ Σ w`` over increments d across gaps of k steps (J.P. Morgan, RiskMetrics
    Technical Document, 4th ed. 1996, section 5.2, with a decay of 0.97).

    Returns:
        [B] float64 variance, floored at ``MIN_SCALE²``; [B] float64 effective increments ≥ 1.
    """
    batch = context.moves.shape[0]
    weights, total, effective = _weights(context.moves.shape[1])
    if context.gaps is None or context.valid is None:
        if not total:
            return np.full(batch, UNKNOWN_SCALE**2), np.ones(batch)
        variance = (context.moves * context.moves) @ weights / total
        return np.maximum(variance, MIN_SCALE**2), np.full(batch, effective)
    held = context.valid * weights
    sums = held.sum(axis=1)
    known = sums > 0.0
    safe = np.where(known, sums, 1.0)
    variance = (context.moves**2 / context.gaps * held).sum(axis=1) / safe
    variance = np.where(known, np.maximum(variance, MIN_SCALE**2), UNKNOWN_SCALE**2)
    squares = np.where(known, (held * held).sum(axis=1), 1.0)
    return variance, np.maximum(safe**2 / squares, 1.0)


def random_walk(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Normal random walk: the last value, with a variance that grows by σ² a step."""
    variance, effective = step_variance(context)
    ahead = steps_ahead(context, horizon_steps)
    quantiles = location_scale(
        context.last, variance[:, None] * ahead, dof=effective, levels=levels
    )
    return Band(quantiles, no_flags(context))


def last_value(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """The naive point: every quantile of every step is the last observation.

    A point has no spread to be honest about, so the band is degenerate and the rows say
    POINT_FORECAST; the minimum width of post-processing opens it.
    """
    shape = (context.last.size, horizon_steps, levels.size)
    quantiles = np.broadcast_to(context.last[:, None, None], shape).copy()
    return Band(quantiles, no_flags(context) | int(BaselineFlag.POINT_FORECAST))
