"""The bootstrap over events: whole events are drawn, never single snapshots.

Rows are reduced to sums per event, and events are put in the order of their ids, so that a seed
gives the same result for any row order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_CHUNK = 4_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """An estimate between its ends."""

    estimate: float
    lo: float
    hi: float


def event_codes(event_ids: Sequence[str] | NDArray[np.object_]) -> IntArray:
    """[N] int64 codes in [0, E): the rank of each row's event id among the distinct ids.

    >>> event_codes(["b", "a", "b"]).tolist()
    [1, 0, 1]
    """
    return np.unique(np.asarray(event_ids), return_inverse=True)[1].astype(np.int64)


def event_sums(values: FloatArray, events: IntArray) -> FloatArray:
    """[E, K] float64: sums of row values [N, K] over each event."""
    count = int(events.max()) + 1
    columns = [np.bincount(events, column, minlength=count) for column in values.T]
    return np.stack(columns, axis=1)


def resampled_totals(sums: FloatArray, *, replicates: int, rng: np.random.Generator) -> FloatArray:
    """Totals of bootstrap samples of events.

    Args:
        sums: [E, K] float64, sums per event.
        replicates: R ≥ 1.
        rng: source of the samples.

    Returns:
        [R, K] float64; memory is bounded, whatever E and R are.
    """
    events = sums.shape[0]
    share = np.full(events, 1.0 / events)
    rows = max(1, _CHUNK // events)
    parts = [
        rng.multinomial(events, share, size=min(rows, replicates - start)) @ sums
        for start in range(0, replicates, rows)
    ]
    return np.concatenate(parts)


def ratio_interval(
    numerator: FloatArray,
    size: FloatArray,
    *,
    rng: np.random.Generator,
    replicates: int = 1_000,
    confidence: float = 0.95,
) -> Interval:
    """Studentised bootstrap interval of a ratio of sums over events.

    Serves the Brier score, the log loss and differences between two sources on the same rows
    (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, section 12.5).

    Args:
        numerator: [E] float64, sum of a score (or of a difference of scores) over each event.
        size: [E] float64 > 0, rows of each event.
        rng: source of the samples.
        replicates: bootstrap samples.
        confidence: nominal coverage.

    Returns:
        The ratio and its interval; NaN ends below two events.
    """
    events = numerator.size
    estimate = float(numerator.sum() / size.sum())
    if events < 2:
        return Interval(estimate, np.nan, np.nan)
    sums = np.stack([numerator, size, numerator**2, numerator * size, size**2], axis=1)
    error = float(_standard_error(sums.sum(axis=0, keepdims=True), events)[0])
    if error <= 1e-15 * max(abs(estimate), 1.0):
        return Interval(estimate, estimate, estimate)
    totals = resampled_totals(sums, replicates=replicates, rng=rng)
    errors = np.maximum(_standard_error(totals, events), 1e-3 * error)
    studentised = (totals[:, 0] / totals[:, 1] - estimate) / errors
    low, high = np.quantile(studentised, [0.5 - 0.5 * confidence, 0.5 + 0.5 * confidence])
    return Interval(estimate, float(estimate - high * error), float(estimate - low * error))


def _standard_error(totals: FloatArray, events: int) -> FloatArray:
    """[R] float64 from [R, 5] totals of s, n, s², s·n, n²."""
    s, n, ss, sn, nn = totals.T
    ratio = s / n
    squares = np.maximum(ss - 2.0 * ratio * sn + ratio * ratio * nn, 0.0)
    return np.asarray(np.sqrt(squares * events / (events - 1.0)) / n)
