"""Platt's map where outcomes alone give no estimate: its posterior under a weak prior.

All outcomes may be equal, a price may tell them apart, there may be one event or two: then the
likelihood of ``logit q = a + b · logit p`` has no maximum or no curvature. The prior is that of
`PRIOR_EVENTS` that fell as priced at `PRIOR_PRICES` (Clogg, Rubin, Schenker, Schultz and Weidman,
J. Am. Stat. Assoc. 86, 1991, doi:10.1080/01621459.1991.10475015), with ``log b`` normal around 0
with deviation `SLOPE_DEVIATION`: b is between 1/4 and 4 in 95 % of markets. The posterior is wide
where little is known; it is computed on a grid of (a, b) that closes in on where it lies.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from calibration_service.logistic import price_logit

FloatArray = NDArray[np.float64]

PRIOR_EVENTS = 1.0
PRIOR_PRICES = np.array([0.1, 0.5, 0.9])
SLOPE_DEVIATION = 0.7

_CELL_WIDTH = 0.05
_INTERCEPTS, _SLOPES = (-20.0, 20.0), (0.02, 12.0)
_STEPS = (81, 61)
_ZOOMS = 4
_NEGLIGIBLE = 14.0
"""Log-density below the largest at which the grid is cut off."""


def posterior_band(
    p: FloatArray, y: FloatArray, weight: FloatArray, *, at: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Central 95 % interval of the probability at some prices.

    Args:
        p: [N] float64 in [0, 1], prices; y: [N] float64, outcomes.
        weight: [N] float64 > 0, one over the rows of the row's event.
        at: [K] float64 in [0, 1], prices in order.

    Returns:
        (lo, hi), [K] float64 in [0, 1], neither decreasing.
    """
    cells = _cells(p, y, weight)
    intercepts, slopes = _INTERCEPTS, _SLOPES
    for _ in range(_ZOOMS):
        a, b = np.linspace(*intercepts, _STEPS[0]), np.linspace(*slopes, _STEPS[1])
        density = _log_density(a, b, *cells)
        likely = density > density.max() - _NEGLIGIBLE
        intercepts, slopes = _around(a, likely.any(axis=1)), _around(b, likely.any(axis=0))
    mass = np.exp(density - density.max()).reshape(-1)
    eta = (a[:, None, None] + b[:, None] * price_logit(at)).reshape(mass.size, -1)
    order = np.argsort(eta, axis=0)
    below = np.cumsum(mass[order], axis=0) / mass.sum()
    ends = [(below >= level).argmax(axis=0) for level in (0.025, 0.975)]
    column = np.arange(at.size)
    low, high = (special.expit(eta[order[end, column], column]) for end in ends)
    return low, high


def _cells(
    p: FloatArray, y: FloatArray, weight: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """([C] log-odds, [C] weight, [C] positive weight) of the outcomes and of the prior."""
    prior = np.full(PRIOR_PRICES.size, PRIOR_EVENTS / PRIOR_PRICES.size)
    x = np.round(np.concatenate([price_logit(p), price_logit(PRIOR_PRICES)]) / _CELL_WIDTH)
    cell, place = np.unique(x, return_inverse=True)
    parts = np.concatenate([weight, prior]), np.concatenate([weight * y, prior * PRIOR_PRICES])
    size, positive = (np.asarray(np.bincount(place, part), dtype=np.float64) for part in parts)
    return cell * _CELL_WIDTH, size, positive


def _log_density(
    a: FloatArray, b: FloatArray, x: FloatArray, size: FloatArray, positive: FloatArray
) -> FloatArray:
    """[A, B] log-density at each pair of intercept and slope."""
    eta = a[:, None, None] + b[:, None] * x
    prior = -0.5 * (np.log(b) / SLOPE_DEVIATION) ** 2 - np.log(b)
    return np.asarray(eta @ positive - np.logaddexp(0.0, eta) @ size + prior)


def _around(values: FloatArray, kept: NDArray[np.bool_]) -> tuple[float, float]:
    """The range of the kept values and one step more, inside the range of all."""
    used = np.flatnonzero(kept)
    first, last = max(int(used[0]) - 1, 0), min(int(used[-1]) + 1, values.size - 1)
    return float(values[first]), float(values[last])
