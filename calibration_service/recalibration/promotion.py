"""Whether a map may take the place of the price.

A pool's map is promoted only if all of this holds, else the price stays, with every reason:

- there are enough events, in all and in the folds that were scored;
- the paired Brier difference (recalibrated - price) of the maps chosen before each fold has a 95 %
  interval below zero; for the pools that are one category, at a level that holds for all of them
  together (Holm), so that the first pool and the rest err in at most 2.5 % of cases each;
- the difference of the one method that is to be served has a 95 % interval below zero.

The error of a difference is the larger of two: the spread over events, and what outcomes drawn
from the prices themselves would give. In a pool of prices near 0 or 1 where the rare outcome has
not come yet every event looks alike, and the spread over events knows nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from calibration_service import intervals
from calibration_service.recalibration.maps import CANDIDATES, Method
from calibration_service.recalibration.selection import Sample, Validation

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_EVENTS = 200
"""Fewest events of a pool; with fewer it has no map of its own."""
MIN_VALIDATION_EVENTS = 100
LEVEL = 0.025
"""One-sided: of the first pool, and of all other pools together."""


@dataclass(frozen=True, slots=True)
class Differences:
    """Paired Brier differences of each pool, [P] float64 each; below zero the map is better.

    Weighted means, see `Sample.weight`.

    Attributes:
        value, lo, hi: difference with its 95 % interval.
        p: one-sided p-value of "the map is not better"; NaN where nothing can be said.
        events: [P] int64, events behind it.
    """

    value: FloatArray
    lo: FloatArray
    hi: FloatArray
    p: FloatArray
    events: IntArray


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done in one pool.

    Attributes:
        method: the candidate that was best over all folds.
        promoted: whether it takes the place of the price.
        reasons: why not; none where promoted.
        brier_raw, brier_recalibrated: Brier scores over the folds, of the price and the method,
            with the weights of the sample.
        difference, lo, hi, p, p_adjusted: of the maps chosen before each fold; see `Differences`.
        validation_events: events in the folds.
    """

    method: Method
    promoted: bool
    reasons: tuple[str, ...]
    brier_raw: float
    brier_recalibrated: float
    difference: float
    lo: float
    hi: float
    p: float
    p_adjusted: float
    validation_events: int


def differences(sample: Sample, rows: IntArray, recalibrated: FloatArray) -> Differences:
    """Paired Brier differences over the events of each pool, with the weights of the sample.

    Args:
        sample: the rows.
        rows: [V] int64, those that were scored.
        recalibrated: [V] float64 in [0, 1].
    """
    p, y, pool = sample.p[rows], sample.y[rows], sample.pool[rows]
    pair, of_row = np.unique(pool * sample.resolved.size + sample.event[rows], return_inverse=True)
    groups = intervals.EventGroups(pair // sample.resolved.size, sample.pools)
    gain = (recalibrated - y) ** 2 - (p - y) ** 2
    weight = sample.weight[rows]
    size = np.asarray(np.bincount(of_row, weight), dtype=np.float64)
    gains = np.asarray(np.bincount(of_row, weight * gain), dtype=np.float64)
    found = intervals.ratio_of(gains, size, groups=groups)
    total = groups.total(size)
    with np.errstate(divide="ignore", invalid="ignore"):
        model = np.sqrt(_variance_from_prices(sample, rows, recalibrated)) / total
    ratio = replace(found, error=np.fmax(found.error, model))
    ends = intervals.signed_interval(ratio)
    p = intervals.probability_below_zero(ratio)
    return Differences(found.value, ends.lo, ends.hi, p, groups.events())


def _variance_from_prices(sample: Sample, rows: IntArray, recalibrated: FloatArray) -> FloatArray:
    """[P] float64: variance of the summed differences if markets are drawn from their prices.

    ``(q - y)² - (p - y)²`` moves by ``-2 (q - p)`` with the outcome, which all rows of a market
    share.
    """
    p, pool = sample.p[rows], sample.pool[rows]
    markets = int(sample.market.max(initial=0)) + 1
    pair, of_row = np.unique(pool * markets + sample.market[rows], return_inverse=True)
    lever = np.bincount(of_row, 2.0 * sample.weight[rows] * (recalibrated - p))
    mean = np.bincount(of_row, p) / np.bincount(of_row)
    variance = lever * lever * mean * (1.0 - mean)
    return np.asarray(
        np.bincount(pair // markets, variance, minlength=sample.pools), dtype=np.float64
    )


def decide(sample: Sample, found: Validation, *, tested: NDArray[np.bool_]) -> list[Verdict]:
    """The verdict on every pool.

    Args:
        sample: the rows.
        found: what the maps did on events that they were not fitted on.
        tested: [P] whether a pool has enough events to be tested at all.
    """
    pool = sample.pool[found.rows]
    fold = found.plan.fold[sample.event[found.rows]]
    column = np.arange(found.rows.size)
    nested = differences(sample, found.rows, found.recalibrated[found.chosen[pool, fold], column])
    own = found.recalibrated[found.best[pool], column]
    single = differences(sample, found.rows, own)
    enough = tested & (nested.events >= MIN_VALIDATION_EVENTS)
    p = np.where(enough, nested.p, np.nan)
    adjusted = np.concatenate([p[:1], intervals.holm(p[1:])])
    raw = _mean_squares(sample, found.rows, sample.p[found.rows])
    recalibrated = _mean_squares(sample, found.rows, own)
    verdicts = []
    for k in range(sample.pools):
        reasons = _reasons_against(k, tested, nested, single, adjusted)
        verdicts.append(
            Verdict(
                method=CANDIDATES[int(found.best[k])],
                promoted=not reasons,
                reasons=tuple(reasons),
                brier_raw=float(raw[k]),
                brier_recalibrated=float(recalibrated[k]),
                difference=float(nested.value[k]),
                lo=float(nested.lo[k]),
                hi=float(nested.hi[k]),
                p=float(nested.p[k]),
                p_adjusted=float(adjusted[k]),
                validation_events=int(nested.events[k]),
            )
        )
    return verdicts


def _mean_squares(sample: Sample, rows: IntArray, q: FloatArray) -> FloatArray:
    pool, weight = sample.pool[rows], sample.weight[rows]
    squares = weight * (q - sample.y[rows]) ** 2
    with np.errstate(invalid="ignore"):
        return np.asarray(
            np.bincount(pool, squares, minlength=sample.pools)
            / np.bincount(pool, weight, minlength=sample.pools)
        )


def _reasons_against(
    k: int,
    tested: NDArray[np.bool_],
    nested: Differences,
    single: Differences,
    adjusted: FloatArray,
) -> list[str]:
    if not tested[k]:
        return [f"fewer than {MIN_EVENTS} events"]
    if nested.events[k] < MIN_VALIDATION_EVENTS:
        return [f"{nested.events[k]} events were scored, {MIN_VALIDATION_EVENTS} are needed"]
    reasons = []
    if not adjusted[k] < LEVEL:
        reasons.append(
            f"no improvement shown: Brier {nested.value[k]:+.5f} "
            f"({nested.lo[k]:+.5f} to {nested.hi[k]:+.5f}), adjusted p {adjusted[k]:.3f}"
        )
    if not single.hi[k] < 0.0:
        reasons.append(
            f"the chosen map alone is not better: Brier {single.value[k]:+.5f} "
            f"({single.lo[k]:+.5f} to {single.hi[k]:+.5f})"
        )
    return reasons
