"""The three methods of the system before this one, as they were: what the new ones must beat."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import special

from forecast_service.transform import FloatArray, expit, logit

CLIP = 0.0005
Method = Callable[[FloatArray, int, FloatArray], FloatArray]


def ewma_root(values: FloatArray, horizon: int, levels: FloatArray) -> FloatArray:
    """Exponential smoothing of log-odds (α = 0.3), its residual deviation grown by √h.

    Args:
        values: [B, T] prices, NaN = missing.
        horizon: H.
        levels: [Q].

    Returns:
        [B, H, Q] prices.
    """
    odds = _odds(values)
    level = odds[:, 0]
    squares = np.zeros(len(odds))
    for step in range(1, odds.shape[1]):
        error = odds[:, step] - level
        squares += error**2
        level = level + 0.3 * error
    return _normal(level, np.sqrt(squares / max(odds.shape[1] - 1, 1)), horizon, levels)


def kalman_of_levels(values: FloatArray, horizon: int, levels: FloatArray) -> FloatArray:
    """Local level filter whose noise R is the variance of the levels and Q a hundredth of it."""
    odds = _odds(values)
    noise = np.maximum(odds.var(axis=1), 1e-8)
    drift = noise / 100.0
    level, variance = odds[:, 0], noise.copy()
    for step in range(1, odds.shape[1]):
        variance = variance + drift
        gain = variance / (variance + noise)
        level = level + gain * (odds[:, step] - level)
        variance = (1.0 - gain) * variance
    steps = np.arange(1, horizon + 1)
    spread = np.sqrt(variance[:, None] + steps * drift[:, None] + noise[:, None])
    return expit(level[:, None, None] + spread[:, :, None] * special.ndtri(levels))


def quantiles_of_levels(values: FloatArray, horizon: int, levels: FloatArray) -> FloatArray:
    """Quantiles of the prices seen, the same for every step."""
    found = np.nanquantile(values, levels, axis=1).T
    return np.repeat(found[:, None, :], horizon, axis=1)


EARLIER: dict[str, Method] = {
    "earlier_ewma": ewma_root,
    "earlier_kalman": kalman_of_levels,
    "earlier_quantile": quantiles_of_levels,
}
"""By name."""


def _odds(values: FloatArray) -> FloatArray:
    """[B, T] log-odds, missing values filled with the one before (the first at the start)."""
    seen = np.isfinite(values)
    places = np.maximum.accumulate(np.where(seen, np.arange(values.shape[1]), -1), axis=1)
    places = np.where(places < 0, seen.argmax(axis=1)[:, None], places)
    return logit(np.clip(np.take_along_axis(values, places, axis=1), CLIP, 1.0 - CLIP))


def _normal(
    level: FloatArray, deviation: FloatArray, horizon: int, levels: FloatArray
) -> FloatArray:
    root = np.sqrt(np.arange(1.0, horizon + 1.0))
    spread = deviation[:, None] * root
    return expit(level[:, None, None] + spread[:, :, None] * special.ndtri(levels))
