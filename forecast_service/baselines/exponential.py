"""Simple exponential smoothing with its own forecast variance.

``z_t = l_{t-1} + e_t``, ``l_t = l_{t-1} + α e_t``, and the variance of ``z_{t+h}`` is
``σ² (1 + (h - 1) α²)`` (Hyndman, Koehler, Ord and Snyder, Forecasting with Exponential Smoothing,
Springer 2008, section 6.1, model ANN; doi:10.1007/978-3-540-71918-2).

The smoothing weight is taken from a grid. Instead of keeping the single best weight, the forecast
averages over the grid by likelihood (a posterior mean under an even prior), which costs nothing
more and repairs the under-coverage that an estimated α causes at long horizons.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft, signal

from forecast_service.baselines.context import (
    MIN_SCALE,
    UNKNOWN_SCALE,
    Band,
    Context,
    location_scale,
    no_flags,
    steps_ahead,
)
from forecast_service.transform import FloatArray

ALPHAS = np.array([1.0, 0.85, 0.7, 0.55, 0.42, 0.32, 0.24, 0.17, 0.12, 0.08, 0.05, 0.03])
"""Grid of smoothing weights; 1 is the random walk."""


@dataclass(frozen=True, slots=True)
class SmoothingFit:
    """What the grid leaves behind for each row.

    Attributes:
        log_likelihood: [B, A] float64, Gaussian, σ² profiled out, up to a constant in A.
        variance: [B, A] float64, σ² of a one-step innovation.
        level: [B, A] float64, smoothed level after the last observation.
    """

    log_likelihood: FloatArray
    variance: FloatArray
    level: FloatArray


def fit(context: Context) -> SmoothingFit:
    """Run the smoother for every weight of the grid."""
    gaps = context.gaps
    if gaps is None:
        squares, residual = _innovations(context.moves)
        log_scale = np.zeros(ALPHAS.size)
    else:
        squares, residual, log_scale = _innovations_over_gaps(context, gaps)
    moves = np.maximum(context.count - 1.0, 0.0)[:, None]
    variance = np.maximum(squares / np.maximum(moves, 1.0), MIN_SCALE**2)
    variance = np.where(moves > 0.0, variance, UNKNOWN_SCALE**2)
    level = context.last[:, None] - (1.0 - ALPHAS) * residual
    return SmoothingFit(-0.5 * (moves * np.log(variance) + log_scale), variance, level)


def _innovations(moves: FloatArray) -> tuple[FloatArray, FloatArray]:
    """([B, A] sum of squared innovations, [B, A] last innovation) of series without gaps.

    With ``d`` the moves, innovations are ``e_t = Σ_k (1 - α)^k d_{t-k}``: a one-pole filter. Their
    energy needs no filtering: by Parseval it is the power spectrum of ``d`` weighted by that of the
    filter, less the energy ``e_T² r² / (1 - r²)``, ``r = 1 - α``, of the filter's ringing after
    the last move. Padding keeps the ringing of the slowest weight from coming round again.
    """
    length = moves.shape[1]
    if length == 0:
        return np.zeros((moves.shape[0], ALPHAS.size)), np.zeros((moves.shape[0], ALPHAS.size))
    kernel = _kernel(length)
    spectrum = fft.rfft(moves, kernel.padded, axis=1)
    last = moves @ kernel.recall
    power = spectrum.real**2 + spectrum.imag**2
    return np.maximum(power @ kernel.energy - last**2 * kernel.ringing, 0.0), last


@dataclass(frozen=True, slots=True)
class _Kernel:
    """What `_innovations` needs for series with a number of moves T.

    Attributes:
        padded: length of the transform.
        energy: [F, A] float64, power of the filters, folded and scaled for a real transform.
        recall: [T, A] float64, weights of the last innovation.
        ringing: [A] float64, energy after the end per squared last innovation.
    """

    padded: int
    energy: FloatArray
    recall: FloatArray
    ringing: FloatArray


_RINGING_STEPS = 760
"""0.97^760 < 1e-10: the slowest weight of the grid has died away."""


@lru_cache(maxsize=64)
def _kernel(length: int) -> _Kernel:
    padded = int(fft.next_fast_len(length + _RINGING_STEPS, real=True))
    poles = 1.0 - ALPHAS
    angles = 2.0 * np.pi * np.arange(padded // 2 + 1) / padded
    folded = np.full(angles.size, 2.0)
    folded[0] = 1.0
    if padded % 2 == 0:
        folded[-1] = 1.0
    response = 1.0 - 2.0 * poles * np.cos(angles)[:, None] + poles**2
    ages = np.arange(length - 1, -1, -1)[:, None]
    return _Kernel(
        padded=padded,
        energy=folded[:, None] / (padded * response),
        recall=poles**ages,
        ringing=poles**2 / (1.0 - poles**2),
    )


def _innovations_over_gaps(
    context: Context, gaps: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """As `_innovations`, and [B, A] log variance factors: a gap of k steps adds (k - 1) α²."""
    shape = (context.last.size, ALPHAS.size)
    squares, residual, log_scale = np.empty(shape), np.empty(shape), np.empty(shape)
    centred = context.packed - context.packed[:, :1]
    for a, alpha in enumerate(ALPHAS):
        errors = signal.lfilter([1.0, -1.0], [1.0, alpha - 1.0], centred)
        residual[:, a] = errors[:, -1]
        factor = 1.0 + (gaps - 1.0) * alpha**2
        squares[:, a] = (errors[:, 1:] ** 2 / factor).sum(axis=1)
        log_scale[:, a] = np.log(factor).sum(axis=1)
    return squares, residual, log_scale


def likelihood_weights(log_likelihood: FloatArray) -> FloatArray:
    """[B, A] float64 non-negative weights that sum to 1 along the grid."""
    weights = np.exp(log_likelihood - log_likelihood.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def ewma(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Exponential smoothing averaged over its weight by likelihood."""
    return band_of(fit(context), context, horizon_steps=horizon_steps, levels=levels)


def band_of(
    fitted: SmoothingFit, context: Context, *, horizon_steps: int, levels: FloatArray
) -> Band:
    """Quantiles of a fitted grid."""
    weights = likelihood_weights(fitted.log_likelihood)
    level = (weights * fitted.level).sum(axis=1)
    between = (weights * (fitted.level - level[:, None]) ** 2).sum(axis=1)
    held = weights * fitted.variance
    first = held.sum(axis=1) + between
    slope = held @ ALPHAS**2
    ahead = steps_ahead(context, horizon_steps)
    variance = first[:, None] + (ahead - 1.0) * slope[:, None]
    dof = np.maximum(context.count - 1.0, 1.0)
    return Band(location_scale(level, variance, dof=dof, levels=levels), no_flags(context))
