"""Scores of quantile bands against what happened, and intervals on them.

Errors of one event are not independent: intervals come from resampling events, never windows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast_service.transform import FloatArray

TIE = 1e-9
"""An actual this near to a bound lies on it, and on it is inside: prices have ticks."""
RESAMPLES = 2000
_CHUNK = 4_000_000
"""Numbers drawn at once, whatever the number of events."""


def pinball(quantiles: FloatArray, levels: FloatArray, actual: FloatArray) -> FloatArray:
    """Pinball (quantile) loss.

    Args:
        quantiles: [..., Q].
        levels: [Q] in (0, 1).
        actual: [...].

    Returns:
        [..., Q], ≥ 0; half the absolute error at the median.

    >>> pinball(np.array([[0.4, 0.6]]), np.array([0.1, 0.9]), np.array([0.5])).round(3).tolist()
    [[0.01, 0.01]]
    """
    above = actual[..., None] - quantiles
    return np.asarray(np.maximum(levels * above, (levels - 1.0) * above))


def covered(low: FloatArray, high: FloatArray, actual: FloatArray) -> NDArray[np.bool_]:
    """Whether ``actual`` lies in [low, high], ties inside; one shape for all."""
    return np.asarray((actual >= low - TIE) & (actual <= high + TIE))


def winkler(low: FloatArray, high: FloatArray, actual: FloatArray, share: float) -> FloatArray:
    """Interval (Winkler) score of a central band that promises ``share`` of the actuals.

    Width plus 2 / (1 - share) times the distance by which the band is missed; lower is better
    (Gneiting and Raftery, JASA 102, 2007, section 6.2).
    """
    missed = np.maximum(low - actual, 0.0) + np.maximum(actual - high, 0.0)
    return np.asarray(high - low + 2.0 / (1.0 - share) * missed)


def weighted_interval_score(
    quantiles: FloatArray, levels: FloatArray, actual: FloatArray
) -> FloatArray:
    """Weighted interval score (Bracher et al., PLoS Comput. Biol. 17, 2021), equation 3.

    Args:
        quantiles: [..., Q] at symmetric levels with the median among them.
        levels: [Q], increasing, symmetric about 1/2.
        actual: [...].

    Returns:
        [...], in the unit of ``actual``.

    Raises:
        ValueError: the levels are not symmetric or lack the median.
    """
    pairs = levels.size // 2
    if levels.size % 2 == 0 or np.abs(levels + levels[::-1] - 1.0).max() > TIE:
        raise ValueError("levels must be symmetric about 1/2 and contain it")
    total = 0.5 * np.abs(actual - quantiles[..., pairs])
    for k in range(pairs):
        alpha = 2.0 * float(levels[k])
        score = winkler(quantiles[..., k], quantiles[..., -1 - k], actual, 1.0 - alpha)
        total = total + alpha / 2.0 * score
    return np.asarray(total / (pairs + 0.5))


def crps(quantiles: FloatArray, levels: FloatArray, actual: FloatArray) -> FloatArray:
    """[...] continuous ranked probability score by the trapezoidal rule over the levels.

    Twice the integral of the pinball loss; the tails beyond the outermost levels take the value
    there, as far as the levels reach.
    """
    loss = pinball(quantiles, levels, actual)
    inner = ((loss[..., 1:] + loss[..., :-1]) * np.diff(levels)).sum(axis=-1) / 2.0
    tails = loss[..., 0] * levels[0] / 2.0 + loss[..., -1] * (1.0 - levels[-1]) / 2.0
    return np.asarray(2.0 * (inner + tails))


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its interval.

    Attributes:
        value: the figure on the whole sample.
        low, high: percentile interval.
        events: independent events behind it.
    """

    value: float
    low: float
    high: float
    events: int


def ratio_of_means(
    numerator: FloatArray,
    denominator: FloatArray,
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> Interval:
    """Σ numerator / Σ denominator with an interval by resampling whole events.

    A mean is the ratio to ones, a paired difference of scores the mean of the differences.

    Args:
        numerator, denominator: [N] per window.
        event: [N] which event a window belongs to.
    """
    return ratios_of_means(
        numerator[:, None],
        denominator[:, None],
        event,
        rng=rng,
        confidence=confidence,
        resamples=resamples,
    )[0]


def ratios_of_means(
    numerators: FloatArray,
    denominators: FloatArray,
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """`ratio_of_means` of each column, all of them on the same samples of events.

    Args:
        numerators, denominators: [N, K] per window.
        event: [N] which event a window belongs to.

    Returns:
        [K]; NaN where a column's denominators are all zero.
    """
    _, of = np.unique(event, return_inverse=True)
    events = int(of.max()) + 1
    above, below = _sums(numerators, of, events), _sums(denominators, of, events)
    rows = max(1, _CHUNK // events)
    parts = []
    for start in range(0, resamples, rows):
        drawn = _resampled(rng, events, min(rows, resamples - start))
        parts.append(_ratio(drawn @ above, drawn @ below))
    ends = [(1.0 - confidence) / 2.0, (1.0 + confidence) / 2.0]
    ratios = np.concatenate(parts)
    values = _ratio(above.sum(axis=0), below.sum(axis=0))
    found = []
    for value, column in zip(values.tolist(), ratios.T, strict=True):
        kept = column[np.isfinite(column)]
        low, high = np.quantile(kept, ends) if kept.size else (np.nan, np.nan)
        found.append(Interval(value, float(low), float(high), events))
    return found


def _resampled(rng: np.random.Generator, events: int, rows: int) -> FloatArray:
    """[rows, E] how often each event is in each sample of as many."""
    drawn = rng.integers(events, size=(rows, events)) + np.arange(rows)[:, None] * events
    counts = np.bincount(drawn.reshape(-1), minlength=rows * events)
    return counts.reshape(rows, events).astype(np.float64)


def _sums(values: FloatArray, of: NDArray[np.intp], events: int) -> FloatArray:
    """[E, K] sums of [N, K] over each event."""
    return np.stack([np.bincount(of, column, minlength=events) for column in values.T], axis=1)


def _ratio(above: FloatArray, below: FloatArray) -> FloatArray:
    """Their ratio, NaN where the denominator is zero."""
    known = below > 0
    return np.where(known, above / np.where(known, below, 1.0), np.nan)


def mean(values: FloatArray, event: NDArray[np.str_], *, rng: np.random.Generator) -> Interval:
    """The mean of ``values`` [N] with an interval by resampling events."""
    return ratio_of_means(values, np.ones_like(values), event, rng=rng)


def breach(low: FloatArray, high: FloatArray, actual: FloatArray) -> NDArray[np.int64]:
    """Side on which ``actual`` left [low, high]: -1 below, 1 above, 0 inside (ties inside).

    What is not finite left nothing and is 0 too: `breach_rate` leaves it out.

    >>> breach(np.array([0.4, 0.4]), np.array([0.6, 0.6]), np.array([0.39, 0.6])).tolist()
    [-1, 0]
    """
    above, below = actual > high + TIE, actual < low - TIE
    return above.astype(np.int64) - below.astype(np.int64)


def breach_rate(
    low: FloatArray,
    high: FloatArray,
    actual: FloatArray,
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
) -> Interval:
    """Share of the known actuals outside their band; 1 - coverage.

    Args:
        low, high, actual: [N] in [0, 1]; a window where one is not finite is left out.
        event: [N] which event each belongs to.
        rng: source of the resampling.

    Returns:
        The share over the events with something known; NaN where nothing is.
    """
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(actual)
    if not known.any():
        return Interval(np.nan, np.nan, np.nan, 0)
    outside = breach(low, high, actual)[known] != 0
    return mean(outside.astype(np.float64), event[known], rng=rng)


FOLLOW_MOVE = 0.05
"""A breach is followed through when the price goes on at least as far."""


def followed(
    side: NDArray[np.int64], actual: FloatArray, later: FloatArray, *, move: float = FOLLOW_MOVE
) -> FloatArray:
    """Whether the price went on in the direction of its breach.

    Args:
        side: [N] from `breach`.
        actual: [N] price at the breach.
        later: [N, S] prices in the time that a follow-through is given, NaN where missing.
        move: least further move, in units of price; a tie counts.

    Returns:
        [N] 1 or 0; NaN where there was no breach or nothing is known of what came after.
    """
    further = side[:, None] * (later - actual[:, None])
    known = (side != 0) & ~np.isnan(further).all(axis=1)
    best = np.where(np.isnan(further), -np.inf, further).max(axis=1, initial=-np.inf)
    return np.where(known, (best >= move - TIE).astype(np.float64), np.nan)


def follow_through(
    side: NDArray[np.int64],
    actual: FloatArray,
    later: FloatArray,
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
    move: float = FOLLOW_MOVE,
) -> Interval:
    """Share of the breaches that were followed through; NaN where there was none.

    Arguments as in `followed`; event: [N] which event each belongs to.
    """
    found = followed(side, actual, later, move=move)
    known = ~np.isnan(found)
    return ratio_of_means(np.where(known, found, 0.0), known.astype(np.float64), event, rng=rng)
