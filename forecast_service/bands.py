"""From a model's native quantile grid and horizon to the levels and steps asked for."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import special

from forecast_service.transform import LOGIT, FloatArray, Transform

_SAME_LEVEL = 1e-9


class QuantileSource(IntEnum):
    """Where a quantile comes from; a larger code rests on less."""

    NATIVE = 1
    INTERPOLATED = 2
    CLAMPED = 3
    EXTRAPOLATED = 4


@dataclass(frozen=True, slots=True)
class LevelledBand:
    """Quantiles at the levels asked for.

    Attributes:
        quantiles: [B, H, Q] float64 in [0, 1].
        sources: [Q] int64, a `QuantileSource` each.
    """

    quantiles: FloatArray
    sources: NDArray[np.int64]


def quantile_sources(native_levels: FloatArray, levels: FloatArray) -> NDArray[np.int64]:
    """[Q] int64: NATIVE on the grid, INTERPOLATED inside it, CLAMPED outside.

    >>> quantile_sources(np.array([0.1, 0.5, 0.9]), np.array([0.05, 0.2, 0.5])).tolist()
    [3, 2, 1]
    """
    native = (np.abs(levels[:, None] - native_levels) < _SAME_LEVEL).any(axis=1)
    inside = (levels > native_levels[0]) & (levels < native_levels[-1])
    other = np.where(inside, int(QuantileSource.INTERPOLATED), int(QuantileSource.CLAMPED))
    return np.where(native, int(QuantileSource.NATIVE), other)


def at_levels(
    native: FloatArray,
    native_levels: FloatArray,
    *,
    levels: FloatArray,
    transform: Transform = LOGIT,
) -> LevelledBand:
    """Any quantile by monotone interpolation between a model's own.

    Linear in log-odds against the normal score of the level, so that a logit-normal band is
    reproduced exactly; beyond the outermost level the outermost quantile is repeated (CLAMPED).

    Args:
        native: [B, H, K] float64 in [0, 1], not decreasing along K.
        native_levels: [K] float64 in (0, 1), strictly increasing.
        levels: [Q] float64 in (0, 1).
        transform: space of the interpolation.
    """
    if native_levels.size == 1:
        shape = (*native.shape[:2], levels.size)
        return LevelledBand(
            np.broadcast_to(native, shape).copy(), quantile_sources(native_levels, levels)
        )
    scores, wanted = special.ndtri(native_levels), special.ndtri(levels)
    lower = np.clip(np.searchsorted(scores, wanted, side="right") - 1, 0, scores.size - 2)
    share = np.clip((wanted - scores[lower]) / (scores[lower + 1] - scores[lower]), 0.0, 1.0)
    z = transform.forward(native)
    between = transform.inverse(z[..., lower] * (1.0 - share) + z[..., lower + 1] * share)
    low, high = native[..., lower], native[..., lower + 1]
    quantiles = np.clip(between, low, high)
    quantiles = np.where(share < _SAME_LEVEL, low, quantiles)
    quantiles = np.where(share > 1.0 - _SAME_LEVEL, high, quantiles)
    return LevelledBand(quantiles, quantile_sources(native_levels, levels))


def extend_horizon(
    quantiles: FloatArray,
    levels: FloatArray,
    *,
    horizon_steps: int,
    transform: Transform = LOGIT,
) -> FloatArray:
    """Continue a band beyond its last native step by the random-walk scale of that step.

    With n native steps, the distance of each quantile from the median at step n grows by
    √(h / n) in the working space. The new steps are EXTRAPOLATED, the effective horizon is n.

    Args:
        quantiles: [B, n, Q] float64 in [0, 1], not decreasing along Q.
        levels: [Q] float64 in (0, 1), strictly increasing; the median is interpolated.
        horizon_steps: H; when it is not above n the first H steps are returned.
        transform: working space.

    Returns:
        [B, H, Q] float64 in [0, 1].
    """
    native = quantiles.shape[1]
    if horizon_steps <= native:
        return quantiles[:, :horizon_steps]
    last = quantiles[:, -1:, :]
    median = at_levels(last, levels, levels=np.array([0.5]), transform=transform).quantiles
    centre = transform.forward(median)
    growth = np.sqrt(np.arange(native + 1.0, horizon_steps + 1.0) / native)
    beyond = centre + (transform.forward(last) - centre) * growth[None, :, None]
    return np.concatenate([quantiles, transform.inverse(beyond)], axis=1)
