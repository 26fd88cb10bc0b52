"""Reliability curves: how often what was priced at p came true.

Equal prices always share a bin, so a curve is the same for any order of rows. Market prices sit on
ticks and tie all the time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from calibration_service.scores import ECE_BINS, equal_mass_bins, equal_width_bins

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ReliabilityCurve:
    """One point per occupied bin, in the order of prices.

    Attributes:
        bin: [K] int64, number of the bin.
        lower, upper: [K] float64, smallest and largest price in the bin.
        price: [K] float64, mean price.
        rate: [K] float64, share of outcomes that are 1.
        size, events: [K] int64, rows and distinct events.
        consistency_lo, consistency_hi: [K] float64, where the rate lies 95 % of the time if the
            prices are calibrated.
    """

    bin: IntArray
    lower: FloatArray
    upper: FloatArray
    price: FloatArray
    rate: FloatArray
    size: IntArray
    events: IntArray
    consistency_lo: FloatArray
    consistency_hi: FloatArray


def consistency_band(
    price: FloatArray, independent: FloatArray, *, confidence: float = 0.95
) -> tuple[FloatArray, FloatArray]:
    """Binomial band of an observed rate if the price is calibrated.

    Bröcker and Smith, Weather Forecast. 22, 2007, doi:10.1175/WAF993.1, with the exact binomial in
    place of resampling.

    Args:
        price: [...] float64 in [0, 1], mean price of a bin.
        independent: [...] float64 > 0, independent outcomes in the bin.
        confidence: probability that the rate lies inside; discreteness makes it a little more.

    Returns:
        (lower, upper), [...] float64 in [0, 1].
    """
    trials = np.maximum(np.round(independent), 1.0)
    tail = 0.5 - 0.5 * confidence
    low = stats.binom.ppf(tail, trials, price) / trials
    high = stats.binom.ppf(1.0 - tail, trials, price) / trials
    return np.clip(low, 0.0, 1.0), np.clip(high, 0.0, 1.0)


def independent_outcomes(cell: IntArray, cluster: IntArray, *, cells: int) -> FloatArray:
    """Independent outcomes in each cell when rows of a cluster share theirs.

    ``(Σ n_c)² / Σ n_c²`` over the clusters of the cell: the number of equally large clusters that
    would make the mean outcome as uncertain.

    Args:
        cell: [N] int64 in [0, cells).
        cluster: [N] int64, rows of one market (one outcome).
        cells: number of cells.
    """
    pairs, sizes = np.unique(np.stack([cell, cluster]), axis=1, return_counts=True)
    total = np.bincount(pairs[0], sizes, minlength=cells)
    squares = np.bincount(pairs[0], sizes.astype(np.float64) ** 2, minlength=cells)
    return np.asarray(total**2 / np.maximum(squares, 1.0), dtype=np.float64)


def reliability_curve(
    p: FloatArray, y: FloatArray, *, events: IntArray, bin_of: IntArray
) -> ReliabilityCurve:
    """Reliability curve over given bins.

    Args:
        p: [N] float64 in [0, 1], prices.
        y: [N] float64, outcomes 0 or 1.
        events: [N] int64, event of each row; its rows count as one outcome in the band.
        bin_of: [N] int64, from `equal_width_bins` or `equal_mass_bins`.
    """
    used, index = np.unique(bin_of, return_inverse=True)
    size = np.bincount(index, minlength=used.size)
    lower, upper = np.full(used.size, np.inf), np.full(used.size, -np.inf)
    np.minimum.at(lower, index, p)
    np.maximum.at(upper, index, p)
    price = np.bincount(index, p) / size
    pairs = np.unique(np.stack([index, events]), axis=1)
    low, high = consistency_band(price, independent_outcomes(index, events, cells=used.size))
    return ReliabilityCurve(
        bin=used,
        lower=lower,
        upper=upper,
        price=price,
        rate=np.bincount(index, y) / size,
        size=size,
        events=np.bincount(pairs[0], minlength=used.size),
        consistency_lo=low,
        consistency_hi=high,
    )


def equal_width_curve(
    p: FloatArray, y: FloatArray, *, events: IntArray, bins: int = ECE_BINS
) -> ReliabilityCurve:
    """Curve over bins of equal width; arguments as in `reliability_curve`."""
    return reliability_curve(p, y, events=events, bin_of=equal_width_bins(p, bins=bins))


def equal_mass_curve(
    p: FloatArray, y: FloatArray, *, events: IntArray, bins: int = ECE_BINS
) -> ReliabilityCurve:
    """Curve over bins of about equal size; arguments as in `reliability_curve`."""
    return reliability_curve(p, y, events=events, bin_of=equal_mass_bins(p, bins=bins))


@dataclass(frozen=True, slots=True)
class Corp:
    """Isotonic recalibration of the distinct prices.

    Attributes:
        price: [K] float64, distinct prices in order.
        rate: [K] float64, not decreasing: recalibrated probability of each price.
        size: [K] float64, weight of each price.
    """

    price: FloatArray
    rate: FloatArray
    size: FloatArray

    def at(self, p: FloatArray) -> FloatArray:
        """[N] float64: recalibrated probabilities of seen prices, interpolated between them."""
        return np.interp(p, self.price, self.rate)


def corp(p: FloatArray, y: FloatArray, *, weights: FloatArray | None = None) -> Corp:
    """CORP reliability by pool-adjacent-violators, ties pooled first.

    Dimitriadis, Gneiting and Jordan, PNAS 118, 2021, doi:10.1073/pnas.2016191118.

    >>> curve = corp(np.array([0.2, 0.2, 0.8]), np.array([1.0, 0.0, 1.0]))
    >>> curve.price.tolist(), curve.rate.tolist()
    ([0.2, 0.8], [0.5, 1.0])
    """
    w = np.ones_like(p) if weights is None else weights
    price, index = np.unique(p, return_inverse=True)
    size = np.bincount(index, w)
    rate = optimize.isotonic_regression(np.bincount(index, w * y) / size, weights=size).x
    return Corp(price, np.asarray(rate), np.asarray(size))


@dataclass(frozen=True, slots=True)
class CorpDecomposition:
    """``mean score = miscalibration - discrimination + uncertainty`` of the Brier score."""

    miscalibration: float
    discrimination: float
    uncertainty: float


def corp_decomposition(
    p: FloatArray, y: FloatArray, *, weights: FloatArray | None = None
) -> CorpDecomposition:
    """Parts of the Brier score without any choice of bins (same source as `corp`)."""
    recalibrated = corp(p, y, weights=weights).at(p)
    base = np.average(y, weights=weights)
    given = float(np.average((p - y) ** 2, weights=weights))
    best = float(np.average((recalibrated - y) ** 2, weights=weights))
    uncertainty = float(base * (1.0 - base))
    return CorpDecomposition(given - best, uncertainty - best, uncertainty)
