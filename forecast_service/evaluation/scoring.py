"""Scores of bands by family and by part of the horizon, each with an interval.

==================  =============================================================================
metric              meaning
==================  =============================================================================
coverage_80, _95    share of steps whose price lies in the band, its ends included
width_80, _95       width of the band
pinball             mean pinball loss at .1, .5 and .9
winkler_80, _95     interval score
wis                 weighted interval score over all levels
crps                continuous ranked probability score from all levels
breach_rate         share of windows in which the price leaves the 95 % band within the steps
follow_through      share of windows that leave it first within the steps, not at the last one, in
                    which the price then goes `FOLLOW_THROUGH` further the same way
==================  =============================================================================

Intervals (95 %) come from resampling events: all markets and windows of an event are one block.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast_service import interval_scores as scores
from forecast_service.evaluation.bands import LEVELS
from forecast_service.interval_scores import Interval
from forecast_service.transform import FloatArray

FOLLOW_THROUGH = 0.05
"""How much further a price must go after a breach."""
ALL = "all"
"""All families, or all steps."""
RAW, CONFORMAL = "raw", "conformal"
_PROTOCOL = np.array([1, 3, 5])
"""Places of .1, .5 and .9 among `LEVELS`."""
METRICS = (
    "coverage_80", "coverage_95", "width_80", "width_95", "pinball", "winkler_80", "winkler_95",
    "wis", "crps", "breach_rate", "follow_through",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figure:
    """One score.

    Attributes:
        model: whose; band: "raw" or "conformal".
        family: of which windows, `ALL` for all of them.
        steps: of which steps, such as "1-4", `ALL` for all of them.
        metric: one of `METRICS`.
        interval: its value.
        windows: windows behind it.
    """

    model: str
    band: str
    family: str
    steps: str
    metric: str
    interval: Interval
    windows: int


Bands = Mapping[tuple[str, str], FloatArray]
"""[N, H, Q] by (model, band)."""


def score(
    bands: Bands,
    target: FloatArray,
    family: NDArray[np.str_],
    event: NDArray[np.str_],
    *,
    rng: np.random.Generator,
) -> list[Figure]:
    """Every metric of every model, by family and third of the horizon.

    Args:
        bands: of all models, for the same windows.
        target: [N, H].
        family, event: [N].
        rng: source of the samples of events.
    """
    places = [(key, part) for key in bands for part in parts(target.shape[1])]
    columns = [_columns(bands[key], target, steps) for key, (_, steps) in places]
    above = np.concatenate([column[0] for column in columns], axis=1)
    below = np.concatenate([column[1] for column in columns], axis=1)
    found: list[Figure] = []
    families = np.unique(family).tolist()
    for name in [ALL, *families] if len(families) > 1 else families:
        rows = np.flatnonzero((family == name) | (name == ALL))
        intervals = scores.ratios_of_means(above[rows], below[rows], event[rows], rng=rng)
        labels = [(*key, name, steps, metric) for key, (steps, _) in places for metric in METRICS]
        found += [
            Figure(*label, interval, rows.size)
            for label, interval in zip(labels, intervals, strict=True)
        ]
    return found


def parts(horizon: int) -> Iterator[tuple[str, slice]]:
    """The whole horizon and its thirds, with the names of their steps.

    >>> [name for name, _ in parts(12)]
    ['all', '1-4', '5-8', '9-12']
    """
    yield ALL, slice(0, horizon)
    if horizon < 3:
        return
    ends = [round(horizon * third / 3) for third in range(4)]
    for low, high in itertools.pairwise(ends):
        yield f"{low + 1}-{high}" if high > low + 1 else str(high), slice(low, high)


def loss(bands: FloatArray, target: FloatArray) -> FloatArray:
    """[N] mean pinball loss of each window at .1, .5 and .9."""
    chosen = bands[..., _PROTOCOL]
    return np.asarray(scores.pinball(chosen, LEVELS[_PROTOCOL], target).mean(axis=(1, 2)))


def breaches(low: FloatArray, high: FloatArray, target: FloatArray) -> NDArray[np.int64]:
    """[N, H] 1 above the band, -1 below it, 0 inside."""
    above = target > high + scores.TIE
    below = target < low - scores.TIE
    return above.astype(np.int64) - below.astype(np.int64)


def followed(sides: NDArray[np.int64], target: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Whether the first breach of a window was followed, and at which step it was.

    Args:
        sides: [N, H] as `breaches` gives them.
        target: [N, H].

    Returns:
        [N] float64: 1 or 0, NaN without a breach or with one at the last step;
        [N] int64: place of the first breach, H without one.
    """
    rows, horizon = sides.shape
    broken = sides != 0
    first = np.where(broken.any(axis=1), broken.argmax(axis=1), horizon)
    at = np.minimum(first, horizon - 1)
    every = np.arange(rows)
    beyond = (target - target[every, at][:, None]) * sides[every, at][:, None]
    later = np.arange(horizon) > first[:, None]
    moved = (later & (beyond >= FOLLOW_THROUGH - scores.TIE)).any(axis=1)
    return np.where(first < horizon - 1, moved, np.nan), first


def _columns(bands: FloatArray, target: FloatArray, steps: slice) -> tuple[FloatArray, FloatArray]:
    """Numerators and denominators of all metrics over the steps: [N, len(METRICS)] each."""
    part, actual = bands[:, steps], target[:, steps]
    inner, outer = (part[..., 1], part[..., 5]), (part[..., 0], part[..., 6])
    follows, first = followed(breaches(bands[..., 0], bands[..., 6], target), target)
    counted = np.isfinite(follows) & (first >= steps.start) & (first < steps.stop)
    means = [
        scores.covered(*inner, actual),
        scores.covered(*outer, actual),
        inner[1] - inner[0],
        outer[1] - outer[0],
        scores.pinball(part[..., _PROTOCOL], LEVELS[_PROTOCOL], actual).mean(axis=2),
        scores.winkler(*inner, actual, 0.8),
        scores.winkler(*outer, actual, 0.95),
        scores.weighted_interval_score(part, LEVELS, actual),
        scores.crps(part, LEVELS, actual),
    ]
    broken = (breaches(*outer, actual) != 0).any(axis=1)
    above = [*(each.mean(axis=1) for each in means), broken, np.where(counted, follows, 0.0)]
    ones = np.ones(len(target))
    below = [*([ones] * (len(means) + 1)), counted]
    return np.stack(above, axis=1).astype(float), np.stack(below, axis=1).astype(float)
