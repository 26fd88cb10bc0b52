"""Choosing a method for each series by its one-step likelihood on the context.

Candidates, each with its log-likelihood of the one-step moves (scale profiled out) minus half a
log-count per free parameter (Schwarz, Ann. Statist. 6, 1978, doi:10.1214/aos/1176344136):

- *random walk*: Gaussian increments;
- *local level*: the best signal-to-noise ratio of the Kalman filter;
- *rolling quantile*: heavy-tailed increments, judged by a Student t with three degrees of freedom.

Exponential smoothing is the steady state of the local level, so it is not a fourth candidate.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from forecast_service.baselines import local_level, random_walk, rolling_quantile
from forecast_service.baselines.context import MIN_SCALE, Band, Context
from forecast_service.transform import FloatArray

MIN_MOVES = 30
"""Fewer observed moves than this: the random walk, which has the least to estimate."""

_DOF = 3.0
_PARAMETERS = np.array([1.0, 2.0, 1.0])


class Choice(IntEnum):
    """Position of a candidate."""

    RANDOM_WALK = 0
    LOCAL_LEVEL = 1
    ROLLING_QUANTILE = 2


def one_step_scores(context: Context, fitted: local_level.KalmanFit) -> FloatArray:
    """Penalised log-likelihoods of the three candidates.

    Returns:
        [B, 3] float64, in the order of `Choice`.
    """
    count = np.maximum(context.count - 1.0, 1.0)
    gaussian = -0.5 * count * (1.0 + np.log(2.0 * np.pi))
    walk = gaussian + fitted.log_likelihood[:, 0]
    level = gaussian + fitted.log_likelihood.max(axis=1)
    scores = np.stack([walk, level, _heavy_tailed(context)], axis=1)
    return np.asarray(scores - 0.5 * np.log(count)[:, None] * _PARAMETERS)


def _heavy_tailed(context: Context) -> FloatArray:
    """[B] float64: log-likelihood of the moves under a t(3) whose scale is fitted by EM."""
    gaps = np.ones_like(context.moves) if context.gaps is None else context.gaps
    valid = np.ones_like(gaps) if context.valid is None else context.valid.astype(np.float64)
    squares = context.moves**2 / gaps
    count = np.maximum(valid.sum(axis=1), 1.0)
    scale = np.maximum((squares * valid).sum(axis=1) / count, MIN_SCALE**2)
    for _ in range(8):
        held = squares / (_DOF + squares / scale[:, None])
        scale = np.maximum((_DOF + 1.0) * (held * valid).sum(axis=1) / count, MIN_SCALE**2)
    density = -0.5 * (_DOF + 1.0) * np.log1p(squares / (_DOF * scale[:, None])) - 0.5 * np.log(gaps)
    constant = np.log(2.0 / (np.pi * np.sqrt(_DOF))) - 0.5 * np.log(scale)
    return np.asarray((density * valid).sum(axis=1) + count * constant)


def choose(context: Context, fitted: local_level.KalmanFit) -> NDArray[np.intp]:
    """[B] the candidate of each row, as a `Choice`."""
    best = one_step_scores(context, fitted).argmax(axis=1)
    return np.where(context.count > MIN_MOVES, best, int(Choice.RANDOM_WALK))


def auto(context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
    """Forecast each row by the candidate that explains its one-step moves best."""
    fitted = local_level.fit(context)
    chosen = choose(context, fitted)
    batch = context.last.size
    quantiles = np.empty((batch, horizon_steps, levels.size))
    flags = np.zeros(batch, dtype=np.int64)
    for choice in Choice:
        index = np.flatnonzero(chosen == choice)
        if not index.size:
            continue
        part = context.rows(index)
        if choice is Choice.RANDOM_WALK:
            band = random_walk.random_walk(part, horizon_steps=horizon_steps, levels=levels)
        elif choice is Choice.LOCAL_LEVEL:
            band = local_level.band_of(
                fitted.rows(index), part, horizon_steps=horizon_steps, levels=levels
            )
        else:
            band = rolling_quantile.rolling_quantile(
                part, horizon_steps=horizon_steps, levels=levels
            )
        quantiles[index], flags[index] = band.quantiles, band.flags
    return Band(quantiles, flags)
