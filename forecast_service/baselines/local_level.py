"""The local-level model: a random walk seen through noise, by the Kalman filter.

``z_t = m_t + ε_t``, ``m_t = m_{t-1} + η_t``, Var ε = R, Var η = Q. The forecast variance is
``P + h Q + R`` with P the filtered variance (Durbin and Koopman, Time Series Analysis by State
Space Methods, 2nd ed. 2012, chapter 2; doi:10.1093/acprof:oso/9780199641178.001.0001). The scale
is profiled out of the likelihood, so one number is left, the share ψ = Q / (Q + R); it is taken
from a grid on which forecasts are averaged by likelihood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast_service.baselines.context import (
    MIN_SCALE,
    UNKNOWN_SCALE,
    Band,
    Context,
    location_scale,
    no_flags,
    steps_ahead,
)
from forecast_service.baselines.exponential import likelihood_weights
from forecast_service.transform import FloatArray

SHARES = np.array(
    [1.0, 0.9, 0.75, 0.6, 0.45, 0.32, 0.22, 0.15, 0.1, 0.065, 0.04, 0.025, 0.015, 0.008, 0.003]
)
"""Grid of ψ = Q / (Q + R); 1 is the random walk."""


@dataclass(frozen=True, slots=True)
class KalmanFit:
    """What the filter leaves behind for each row and grid point.

    Attributes:
        log_likelihood: [B, G] float64, scale profiled out.
        variance: [B, G] float64, the scale Q + R.
        level: [B, G] float64, filtered level after the last observation.
        spread: [B, G] or [1, G] float64, filtered variance P in units of the scale.
    """

    log_likelihood: FloatArray
    variance: FloatArray
    level: FloatArray
    spread: FloatArray

    def rows(self, index: NDArray[np.intp]) -> KalmanFit:
        """The fit of some rows."""
        spread = self.spread if self.spread.shape[0] == 1 else self.spread[index]
        return KalmanFit(
            self.log_likelihood[index], self.variance[index], self.level[index], spread
        )


def fit(context: Context) -> KalmanFit:
    """Filter every row for every ψ; one pass over time, vectorised over rows and grid.

    The first observation starts the level with P = R (a diffuse prior met by one observation).
    """
    noise = 1.0 - SHARES
    level = np.repeat(context.packed[:, :1], SHARES.size, axis=1)
    spread = np.broadcast_to(noise, (1 if context.gaps is None else level.shape[0], noise.size))
    squares, log_scale = np.zeros_like(level), np.zeros_like(spread)
    observed = np.ascontiguousarray(context.packed.T)[:, :, None]
    for t in range(1, context.packed.shape[1]):
        predicted = spread + SHARES
        if context.gaps is not None and context.valid is not None:
            valid = context.valid[:, t - 1, None]
            predicted = spread + np.where(valid, context.gaps[:, t - 1, None] * SHARES, 0.0)
        total, error = predicted + noise, observed[t] - level
        if context.valid is not None:
            total = np.where(valid, total, 1.0)
        gain = predicted / total
        spread = predicted * (1.0 - gain)
        if context.valid is not None:
            error, spread = np.where(valid, error, 0.0), np.where(valid, spread, noise)
        level = level + gain * error
        squares += error * error / total
        log_scale = log_scale + np.log(total)
    moves = np.maximum(context.count - 1.0, 0.0)[:, None]
    variance = np.maximum(squares / np.maximum(moves, 1.0), MIN_SCALE**2)
    variance = np.where(moves > 0.0, variance, UNKNOWN_SCALE**2)
    return KalmanFit(-0.5 * (moves * np.log(variance) + log_scale), variance, level, spread)


def local_level(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Local-level Kalman forecast averaged over the signal-to-noise ratio by likelihood."""
    return band_of(fit(context), context, horizon_steps=horizon_steps, levels=levels)


def band_of(fitted: KalmanFit, context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Quantiles of a fitted grid: variance P + hQ + R, averaged, plus that between the levels."""
    weights = likelihood_weights(fitted.log_likelihood)
    level = (weights * fitted.level).sum(axis=1)
    between = (weights * (fitted.level - level[:, None]) ** 2).sum(axis=1)
    held = weights * fitted.variance
    fixed = (held * (fitted.spread + 1.0 - SHARES)).sum(axis=1) + between
    slope = held @ SHARES
    variance = fixed[:, None] + steps_ahead(context, horizon_steps) * slope[:, None]
    dof = np.maximum(context.count - 1.0, 1.0)
    return Band(location_scale(level, variance, dof=dof, levels=levels), no_flags(context))
