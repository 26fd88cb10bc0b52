"""Calibration slope and intercept: logistic regression of the outcome on the log-odds of the price.

``logit P(y = 1) = a + b · logit(p)``; a = 0 and b = 1 for a calibrated price, b < 1 when prices are
too extreme (Cox, Biometrika 45, 1958, doi:10.1093/biomet/45.3-4.562; Miller, Langefeld, Tierney,
Hui and McDonald, Stat. Med. 12, 1993). Many groups are fitted in one vectorised Newton iteration;
a group in which no finite estimate exists says why instead of returning a large number.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICE_EPS = 1e-3
"""Prices are clipped to [0.001, 0.999] before their log-odds are taken: closer to the edge the
log-odds measure the venue's tick, and a few rows would own the slope."""

_MAX_ITERATIONS = 60
_TOLERANCE = 1e-9
_LONGEST_STEP = 2.0
_SUFFICIENT = 0.1
"""Share of the promised gain that a step must bring, else it is halved (Armijo)."""


class FitStatus(IntEnum):
    """Whether a group has a finite maximum-likelihood estimate."""

    OK = 0
    EMPTY = 1
    ONE_OUTCOME = 2
    """All outcomes are equal."""
    ONE_PRICE = 3
    """All prices are equal, so there is no slope."""
    SEPARATED = 4
    """A price threshold tells the outcomes apart; the slope has no finite maximum."""
    NOT_CONVERGED = 5


@dataclass(frozen=True, slots=True)
class Cells:
    """Binomial data of many groups.

    Attributes:
        x: [C] float64, log-odds of the price.
        weight: [C] float64 > 0, total weight of the cell.
        positive: [C] float64 in [0, weight], weight of the outcomes that are 1.
        group: [C] int64 in [0, groups), the group of the cell.
        groups: G, number of groups.
    """

    x: FloatArray
    weight: FloatArray
    positive: FloatArray
    group: IntArray
    groups: int

    def total(self, values: FloatArray) -> FloatArray:
        """[G] float64: sum of [C] values over each group."""
        return np.asarray(np.bincount(self.group, values, minlength=self.groups), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class LogisticFit:
    """Estimates of each group; NaN where the status is not OK.

    Attributes:
        intercept: [G] float64, a.
        slope: [G] float64, b.
        status: [G] int64, a `FitStatus` each.
        inverse: [G, 3] float64, upper triangle (aa, ab, bb) of the inverse Fisher information,
            the covariance when weights are counts of independent outcomes.
    """

    intercept: FloatArray
    slope: FloatArray
    status: IntArray
    inverse: FloatArray

    def part(self, first: int, count: int) -> LogisticFit:
        """The fit of ``count`` groups from ``first`` on."""
        kept = slice(first, first + count)
        return LogisticFit(
            self.intercept[kept], self.slope[kept], self.status[kept], self.inverse[kept]
        )

    @property
    def intercept_se(self) -> FloatArray:
        """[G] float64: standard error of the intercept for independent outcomes."""
        return np.sqrt(self.inverse[:, 0])

    @property
    def slope_se(self) -> FloatArray:
        """[G] float64: standard error of the slope for independent outcomes."""
        return np.sqrt(self.inverse[:, 2])


def price_logit(p: FloatArray) -> FloatArray:
    """[...] float64 log-odds of prices clipped to ``[PRICE_EPS, 1 - PRICE_EPS]``."""
    return np.asarray(special.logit(np.clip(p, PRICE_EPS, 1.0 - PRICE_EPS)))


def fit_one(p: FloatArray, y: FloatArray, *, weights: FloatArray | None = None) -> LogisticFit:
    """Fit a single group, without grouping rows into cells.

    Args:
        p: [N] float64 in [0, 1], prices.
        y: [N] float64, outcomes 0 or 1.
        weights: [N] float64 > 0, or None for 1 each.

    >>> p = np.repeat([0.2, 0.5, 0.8], 10)
    >>> y = np.concatenate([np.arange(10) < k for k in (2, 5, 8)]).astype(float)
    >>> fit = fit_one(p, y)
    >>> round(float(fit.slope[0]), 6), abs(round(float(fit.intercept[0]), 6))
    (1.0, 0.0)
    """
    w = np.ones_like(p) if weights is None else weights
    return fit(Cells(price_logit(p), w, w * y, np.zeros(p.size, dtype=np.int64), 1))


def fit(cells: Cells) -> LogisticFit:
    """Maximum likelihood for every group at once, by Newton steps halved until they gain."""
    status = _feasible(cells)
    theta = np.stack([np.zeros(cells.groups), np.ones(cells.groups)])
    anchor, step = theta, np.zeros_like(theta)
    best, promised = np.full(cells.groups, -np.inf), np.zeros(cells.groups)
    open_ = status == FitStatus.OK
    for _ in range(_MAX_ITERATIONS):
        likelihood, gradient, information = _derivatives(cells, theta)
        rounding = 1e-13 * (1.0 + np.abs(best))
        worse = open_ & (likelihood < best + _SUFFICIENT * promised - rounding)
        best, anchor = np.where(worse, best, likelihood), np.where(worse, anchor, theta)
        newton = _solve(information, gradient)
        newton = newton / np.maximum(np.abs(newton).max(axis=0) / _LONGEST_STEP, 1.0)
        promised = np.where(worse, 0.5 * promised, (gradient * newton).sum(axis=0))
        step = np.where(worse, 0.5 * step, newton)
        theta = np.where(open_, anchor + step, theta)
        open_ = open_ & (np.abs(step).max(axis=0) > _TOLERANCE)
        if not open_.any():
            break
    status = np.where(open_, int(FitStatus.NOT_CONVERGED), status)
    failed = status != FitStatus.OK
    _, _, information = _derivatives(cells, theta)
    aa, ab, bb = information
    determinant = np.where(failed, np.nan, aa * bb - ab * ab)
    inverse = np.stack([bb, -ab, aa], axis=1) / determinant[:, None]
    theta[:, failed] = np.nan
    return LogisticFit(theta[0], theta[1], status, inverse)


def _derivatives(
    cells: Cells, theta: FloatArray
) -> tuple[FloatArray, FloatArray, tuple[FloatArray, FloatArray, FloatArray]]:
    """([G] log-likelihood, [2, G] gradient, [G] × 3 information)."""
    eta = theta[0][cells.group] + theta[1][cells.group] * cells.x
    mean = special.expit(eta)
    likelihood = cells.total(cells.positive * eta - cells.weight * np.logaddexp(0.0, eta))
    score = cells.positive - cells.weight * mean
    curvature = cells.weight * mean * (1.0 - mean)
    gradient = np.stack([cells.total(score), cells.total(score * cells.x)])
    by_x = curvature * cells.x
    return (
        likelihood,
        gradient,
        (cells.total(curvature), cells.total(by_x), cells.total(by_x * cells.x)),
    )


def _solve(
    information: tuple[FloatArray, FloatArray, FloatArray], gradient: FloatArray
) -> FloatArray:
    """[2, G] Newton steps; zero where the information is singular."""
    aa, ab, bb = information
    determinant = aa * bb - ab * ab
    regular = determinant > 1e-12 * np.maximum(aa * bb, 1e-300)
    safe = np.where(regular, determinant, 1.0)
    step = np.stack([bb * gradient[0] - ab * gradient[1], aa * gradient[1] - ab * gradient[0]])
    return np.where(regular, step / safe, 0.0)


def _feasible(cells: Cells) -> IntArray:
    """[G] int64: OK, or why no finite estimate exists (exact for one regressor)."""
    ones, zeros = cells.positive > 0.0, cells.positive < cells.weight
    low_one, high_one = _extremes(cells, ones)
    low_zero, high_zero = _extremes(cells, zeros)
    has_one, has_zero = np.isfinite(low_one), np.isfinite(low_zero)
    status = np.full(cells.groups, int(FitStatus.OK))
    status[(high_zero <= low_one) | (high_one <= low_zero)] = FitStatus.SEPARATED
    one_price = np.maximum(high_one, high_zero) <= np.minimum(low_one, low_zero)
    status[one_price] = FitStatus.ONE_PRICE
    status[~(has_one & has_zero)] = FitStatus.ONE_OUTCOME
    status[~(has_one | has_zero)] = FitStatus.EMPTY
    return status


def _extremes(cells: Cells, where: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
    """([G] lowest, [G] highest) x of the chosen cells; +inf and -inf without any."""
    low, high = np.full(cells.groups, np.inf), np.full(cells.groups, -np.inf)
    np.minimum.at(low, cells.group[where], cells.x[where])
    np.maximum.at(high, cells.group[where], cells.x[where])
    return low, high
