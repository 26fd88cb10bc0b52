"""Scores of probability forecasts of a binary outcome.

All kernels take ``p: [N] float64 in [0, 1]`` (the price), ``y: [N] float64, 0 or 1`` (the outcome)
and optional ``weights: [N] float64 > 0``; lower is better unless the docstring says otherwise.
Snapshots of one event share their outcome: for standard errors see ``intervals``, which counts
events.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

LOG_LOSS_EPS = 1e-6
"""Prices are clipped to ``[1e-6, 1 - 1e-6]`` in the log loss: a wrong certainty costs 13.8."""

ECE_BINS = 10


def _mean(values: FloatArray, weights: FloatArray | None) -> float:
    return float(np.average(values, weights=weights))


def event_weights(events: IntArray) -> FloatArray:
    """[N] float64 in (0, 1]: one over the rows of each row's event, so that events count alike.

    Args:
        events: [N] int64 codes ≥ 0, the event of each row.

    >>> event_weights(np.array([0, 0, 1])).tolist()
    [0.5, 0.5, 1.0]
    """
    return np.asarray(1.0 / np.bincount(events)[events])


def brier_terms(p: FloatArray, y: FloatArray) -> FloatArray:
    """[N] float64 in [0, 1]: squared errors ``(p - y)²``."""
    error = p - y
    return error * error


def log_loss_terms(p: FloatArray, y: FloatArray, *, eps: float = LOG_LOSS_EPS) -> FloatArray:
    """[N] float64 ≥ 0, nats: ``-log p`` where y is 1, ``-log (1 - p)`` where it is 0."""
    given = np.where(y > 0.5, p, 1.0 - p)
    return np.asarray(-np.log(np.clip(given, eps, 1.0 - eps)))


def brier(p: FloatArray, y: FloatArray, *, weights: FloatArray | None = None) -> float:
    """Brier score, the mean of ``(p - y)²``, in [0, 1].

    Brier, Mon. Weather Rev. 78, 1950, doi:10.1175/1520-0493(1950)078<0001:VOFEIT>2.0.CO;2.

    >>> brier(np.array([0.8, 0.4]), np.array([1.0, 0.0]))
    0.1
    """
    return _mean(brier_terms(p, y), weights)


def log_loss(
    p: FloatArray,
    y: FloatArray,
    *,
    weights: FloatArray | None = None,
    eps: float = LOG_LOSS_EPS,
) -> float:
    """Logarithmic score in nats, with prices clipped to ``[eps, 1 - eps]``.

    Good, J. R. Stat. Soc. B 14, 1952, doi:10.1111/j.2517-6161.1952.tb00104.x.
    """
    return _mean(log_loss_terms(p, y, eps=eps), weights)


def sharpness(p: FloatArray, *, weights: FloatArray | None = None) -> float:
    """Variance of the prices, in [0, 1/4]; higher says more, and is good only when calibrated."""
    centre = _mean(p, weights)
    return _mean((p - centre) ** 2, weights)


def equal_width_bins(p: FloatArray, *, bins: int = ECE_BINS) -> IntArray:
    """[N] int64 bin of each price: ``[0, 1/B), [1/B, 2/B), …, [1 - 1/B, 1]``."""
    return np.minimum((p * bins).astype(np.int64), bins - 1)


def equal_mass_bins(p: FloatArray, *, bins: int = ECE_BINS) -> IntArray:
    """[N] int64 bin of each price, about N / B prices each; equal prices share a bin.

    A price goes where the middle of its block of ties falls, so the order of rows cannot matter
    and some bins stay empty when ties are many.

    >>> equal_mass_bins(np.array([0.1, 0.1, 0.1, 0.9]), bins=2).tolist()
    [0, 0, 0, 1]
    """
    _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - 0.5 * counts
    return np.asarray((middle * bins / p.size).astype(np.int64)[inverse])


@dataclass(frozen=True, slots=True)
class BinSums:
    """Totals of each occupied bin.

    Attributes:
        weight: [K] float64 > 0.
        price: [K] float64, weighted mean price.
        rate: [K] float64, weighted share of outcomes that are 1.
    """

    weight: FloatArray
    price: FloatArray
    rate: FloatArray


def bin_sums(
    p: FloatArray, y: FloatArray, *, bin_of: IntArray, weights: FloatArray | None = None
) -> BinSums:
    """Weight, mean price and observed rate of each occupied bin."""
    w = np.ones_like(p) if weights is None else weights
    weight, price, rate = (
        np.asarray(np.bincount(bin_of, part), dtype=np.float64) for part in (w, w * p, w * y)
    )
    used = weight > 0.0
    return BinSums(weight[used], price[used] / weight[used], rate[used] / weight[used])


def ece(sums: BinSums) -> float:
    """Expected calibration error, ``Σ w_k |rate_k - price_k| / Σ w_k``, in [0, 1].

    Naeini, Cooper and Hauskrecht, AAAI 2015, doi:10.1609/aaai.v29i1.9602. Biased upwards: a
    calibrated source does not score 0, see `ece_bias_corrected`.
    """
    return float(np.average(np.abs(sums.rate - sums.price), weights=sums.weight))


def max_calibration_error(sums: BinSums) -> float:
    """Largest ``|rate_k - price_k|`` over the bins, in [0, 1]."""
    return float(np.abs(sums.rate - sums.price).max())


def null_ece(
    residuals: FloatArray, total: float, *, signs: FloatArray | None, normals: FloatArray
) -> FloatArray:
    """Expected calibration errors of a calibrated source, by symmetrised resampling of events.

    Under calibration the residual sums of an event are as likely with one sign as with the other;
    each replicate flips whole events (Rademacher multipliers: Liu, Ann. Statist. 16, 1988,
    doi:10.1214/aos/1176351062). With many events the flipped sums are normal with the covariance
    ``residualsᵀ residuals``, which is drawn instead when ``signs`` is None.

    Args:
        residuals: [E, K] float64, ``Σ w (y - p)`` of each event in each bin.
        total: Σ w of all rows.
        signs: [R, E] float64 of -1 and 1, or None.
        normals: [R, K] float64, standard normal.

    Returns:
        [R] float64 ≥ 0.
    """
    if signs is not None:
        flipped = signs @ residuals
    else:
        values, vectors = np.linalg.eigh(residuals.T @ residuals)
        flipped = (normals * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return np.asarray(np.abs(flipped).sum(axis=1) / total)


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Expected calibration error with what chance alone would give.

    Attributes:
        ece: plain value, in [0, 1].
        bias_corrected: ece minus the mean under calibration; around 0 for a calibrated source and
            then negative half of the time, so it is not clipped.
        null_lo, null_hi: 2.5 % and 97.5 % quantiles of the plain value under calibration.
    """

    ece: float
    bias_corrected: float
    null_lo: float
    null_hi: float


NULL_REPLICATES = 400
SIGNED_EVENTS = 300
"""Up to this many events signs are flipped one by one; above, their normal limit is drawn."""


@dataclass(frozen=True, slots=True)
class NullDraws:
    """Random numbers shared by all segments, so that a segment's result depends on itself alone.

    Attributes:
        signs: [R, SIGNED_EVENTS] float64 of -1 and 1.
        normals: [R, K] float64, standard normal.
    """

    signs: FloatArray
    normals: FloatArray


def draw_null(rng: np.random.Generator, *, bins: int = ECE_BINS) -> NullDraws:
    """Draw the random numbers of `calibration_error` once."""
    signs = np.where(rng.random((NULL_REPLICATES, SIGNED_EVENTS)) < 0.5, -1.0, 1.0)
    return NullDraws(signs, rng.standard_normal((NULL_REPLICATES, bins)))


def calibration_error(residuals: FloatArray, total: float, *, draws: NullDraws) -> CalibrationError:
    """Expected calibration error from the residual sums of each event in each bin.

    Args:
        residuals: [E, K] float64, ``Σ w (y - p)``; events in a fixed order.
        total: Σ w of all rows.
        draws: see `draw_null`.
    """
    plain = float(np.abs(residuals.sum(axis=0)).sum() / total)
    events = residuals.shape[0]
    signs = draws.signs[:, :events] if events <= SIGNED_EVENTS else None
    null = null_ece(residuals, total, signs=signs, normals=draws.normals)
    low, high = np.quantile(null, [0.025, 0.975])
    return CalibrationError(plain, plain - float(null.mean()), float(low), float(high))


def ece_bias_corrected(
    p: FloatArray,
    y: FloatArray,
    *,
    events: IntArray,
    rng: np.random.Generator,
    bins: int = ECE_BINS,
) -> CalibrationError:
    """Equal-width calibration error of rows grouped into events.

    Args:
        p: [N] float64 in [0, 1].
        y: [N] float64, 0 or 1.
        events: [N] int64 codes in [0, E), the event of each row.
        rng: source of the null replicates.
        bins: number of equal-width bins.
    """
    cell = events * bins + equal_width_bins(p, bins=bins)
    count = int(events.max()) + 1
    flat = np.asarray(np.bincount(cell, y - p, minlength=count * bins), dtype=np.float64)
    residuals = flat.reshape(count, bins)
    return calibration_error(residuals, float(p.size), draws=draw_null(rng, bins=bins))


@dataclass(frozen=True, slots=True)
class Murphy:
    """The parts of the Brier score; ``brier = reliability - resolution + uncertainty + within``.

    Attributes:
        reliability: ``Σ w_k (price_k - rate_k)²``, lower is better.
        resolution: ``Σ w_k (rate_k - base)²``, higher is better.
        uncertainty: ``base (1 - base)``.
        within: what prices differ inside a bin (Stephenson, Coelho and Jolliffe, Weather
            Forecast. 23, 2008, doi:10.1175/2007WAF2006116.1); 0 when a bin is one price.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def murphy(
    p: FloatArray, y: FloatArray, *, bin_of: IntArray, weights: FloatArray | None = None
) -> Murphy:
    """Decompose the Brier score over bins.

    Murphy, J. Appl. Meteorol. 12, 1973, doi:10.1175/1520-0450(1973)012<0595:ANVPOT>2.0.CO;2.
    """
    sums = bin_sums(p, y, bin_of=bin_of, weights=weights)
    base = _mean(y, weights)
    reliability = float(np.average((sums.price - sums.rate) ** 2, weights=sums.weight))
    resolution = float(np.average((sums.rate - base) ** 2, weights=sums.weight))
    uncertainty = base * (1.0 - base)
    within = brier(p, y, weights=weights) - reliability + resolution - uncertainty
    return Murphy(reliability, resolution, uncertainty, within)


def binary_entropy(p: FloatArray) -> FloatArray:
    """[N] float64 nats: the log loss that a calibrated price p expects."""
    return np.asarray(special.entr(p) + special.entr(1.0 - p))
