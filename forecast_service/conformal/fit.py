"""From what happened to corrections: one order statistic per segment, step, level and width class.

For a level that promises a share p of the actuals on its side (1 - τ below the median, τ above it)
the correction is the score of rank ⌈(n + 1) · p⌉ of n. On exchangeable windows that covers at least
p, for any law and any n (Vovk; Romano et al. 2019, theorem 1). Windows of one event are not
exchangeable one by one: they carry what m ≤ n independent ones would, and the rank is
⌈n · (m + 1) · p / m⌉. m is n over the design effect (Kish, Survey Sampling, 1965, chapter 8.2), the
variance of the share inside as its sums over events tell it, over that of independent windows.
Where the rank would be above n there is no correction, and the band stays as it is.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from forecast_service.conformal.independent import BoolArray, thinned
from forecast_service.conformal.scores import Geometry, Levels, geometry, is_quiet, scores
from forecast_service.conformal.segments import ALL, chain
from forecast_service.transform import FloatArray

KNOTS = (1, 2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 108, 144, 192, 288, 432, 576, 864, 1152, 2016)
"""Steps that are fitted; the others lie between them."""
FIT_LEVELS = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.995)
"""Levels that are fitted; the others lie between them."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Rules:
    """When there is enough to count.

    Attributes:
        min_samples: fewest independent windows behind a correction.
        min_events: fewest events behind a correction.
    """

    min_samples: int = 100
    min_events: int = 30


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Forecasts for one step of the horizon, and what happened.

    Attributes:
        quantiles: [N, Q] float64 in [0, 1], raw; NaN at levels that a forecast did not have.
        actual: [N] float64 in [0, 1], NaN = missing.
        market, event: [N] int64 codes.
        origin: [N] int64 seconds since the epoch.
        segment: [N] int64 places in ``segments``.
        segments: keys of the finest segments.
        preferred: [N] bool, windows that count before others of their market that overlap them.
    """

    quantiles: FloatArray
    actual: FloatArray
    market: NDArray[np.int64]
    event: NDArray[np.int64]
    origin: NDArray[np.int64]
    segment: NDArray[np.int64]
    segments: tuple[str, ...] = (ALL,)
    preferred: BoolArray | None = None

    def where(self, keep: BoolArray) -> Outcomes:
        """The windows for which ``keep`` [N] holds."""
        arrays = {
            field.name: getattr(self, field.name)[keep]
            for field in dataclasses.fields(self)
            if field.name != "segments" and getattr(self, field.name) is not None
        }
        return dataclasses.replace(self, **arrays)

    def known(self) -> Outcomes:
        """The windows whose outcome is known."""
        return self.where(np.isfinite(self.actual))

    def settled(self, spacing: int) -> Outcomes:
        """The independent windows whose outcome is known; ``spacing`` as in `thinned`."""
        known = self.known()
        return known.where(known.independent(spacing))

    def independent(self, spacing: int) -> BoolArray:
        """[N] which of the windows remain; see `thinned`."""
        return thinned(self.market, self.origin, spacing=spacing, preferred=self.preferred)

    def level_wise(self, has: BoolArray, spacing: int) -> BoolArray:
        """[N, Q] which remain for each level, among those that have it by ``has`` [N, Q]."""
        kinds, kind = np.unique(has, axis=1, return_inverse=True)
        result = np.zeros_like(kinds)
        for place in range(kinds.shape[1]):
            rows = kinds[:, place]
            result[rows, place] = self.where(rows).independent(spacing)
        return np.asarray(result[:, kind.reshape(-1)])


@dataclass(frozen=True, slots=True)
class Correction:
    """The correction of one level.

    Attributes:
        segment: whose; a key with ``*`` for a pooled dimension.
        quiet: whether of quiet bands or of the others.
        horizon_step: of which step.
        level: of which level.
        correction: in units of the level's distance from the median, see `scores`.
        samples: independent windows behind it.
        events: events behind those.
    """

    segment: str
    quiet: bool
    horizon_step: int
    level: float
    correction: float
    samples: int
    events: int


def rank(samples: int, effective: float, share: float) -> int | None:
    """Rank of the order statistic that covers ``share``; None when there are too few windows.

    Args:
        samples: windows.
        effective: independent windows that carry as much, in (0, samples].
        share: in (0, 1).

    >>> rank(99, 99, 0.9), rank(9, 9, 0.9), rank(8, 8, 0.9), rank(100, 10, 0.9)
    (90, 9, None, 99)
    """
    found = math.ceil(samples * (effective + 1.0) * share / effective - _ROUNDING)
    return found if found <= samples else None


def effective_size(inside: BoolArray, event: NDArray[np.int64]) -> float:
    """How many independent windows carry what these do, at most as many as there are.

    Args:
        inside: [N] whether a window is inside.
        event: [N] codes of events.

    >>> effective_size(np.array([True, False] * 50), np.arange(100))
    100.0
    >>> effective_size(np.repeat([True, False] * 5, 10), np.repeat(np.arange(10), 10))
    9.0
    """
    samples, share = inside.size, float(inside.mean())
    codes, of = np.unique(event, return_inverse=True)
    if codes.size == samples or share in (0.0, 1.0):
        return float(codes.size)
    sums = np.bincount(of, weights=inside - share)
    variance = float(np.square(sums).sum()) * codes.size / (codes.size - 1.0) / samples**2
    wanted = share * (1.0 - share) / variance if variance > 0.0 else samples
    return float(min(max(wanted, 1.0), samples))


def fit_step(
    outcomes: Outcomes,
    levels: Levels,
    *,
    step: int,
    freq_seconds: int,
    rules: Rules,
    tails: Mapping[str, float] | None = None,
) -> list[Correction]:
    """The corrections of one step, for every segment that has enough windows.

    Args:
        outcomes: forecasts of ``step`` steps.
        levels: of the quantiles; the median must be among or between them.
        step: horizon step, ≥ 1.
        freq_seconds: length of a step.
        rules: when there is enough.
        tails: for a segment the factor by which its tails are to be smaller or larger (see
            `adaptive`); 1 where it is not named.

    Raises:
        ValueError: the levels do not reach both sides of the median.
    """
    shape = geometry(levels)
    if shape is None:
        raise ValueError("levels must lie on both sides of the median")
    kept = outcomes.known()
    score = scores(kept.quantiles, shape, kept.actual)
    counts = kept.level_wise(np.isfinite(score), step * freq_seconds)
    score = np.where(counts, score, np.nan)
    quiet = is_quiet(kept.quantiles, shape)
    found: list[Correction] = []
    for segment, members in groups(kept):
        tail = 1.0 if tails is None else tails.get(segment, 1.0)
        for is_one in (False, True):
            chosen = members[quiet[members] == is_one]
            if chosen.size >= rules.min_samples:
                lines = _order_statistics(score[chosen], kept.event[chosen], shape, rules, tail)
                found.extend(Correction(segment, is_one, step, *line) for line in lines)
    return found


def groups(outcomes: Outcomes) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """(key, places) of every segment of the chains of these windows, the coarsest first."""
    for depth in (3, 2, 1, 0):
        keys = [chain(segment)[depth] for segment in outcomes.segments]
        names = sorted(set(keys))
        code = np.array([names.index(key) for key in keys], dtype=np.int64)[outcomes.segment]
        order = np.argsort(code, kind="stable")
        ends = np.searchsorted(code[order], np.arange(len(names) + 1))
        for place, name in enumerate(names):
            if ends[place] < ends[place + 1]:
                yield name, order[ends[place] : ends[place + 1]]


def _order_statistics(
    score: FloatArray, event: NDArray[np.int64], shape: Geometry, rules: Rules, tail: float
) -> Iterator[tuple[float, float, int, int]]:
    """(level, correction, samples, events) of each level that has enough."""
    known = np.isfinite(score)
    ordered = np.sort(np.where(known, score, np.inf), axis=0)
    for place in np.flatnonzero(shape.side):
        level = float(shape.levels[place])
        samples = int(known[:, place].sum())
        events = int(np.unique(event[known[:, place]]).size)
        share = 1.0 - min(min(level, 1.0 - level) * tail, 0.5)
        if samples < rules.min_samples or events < rules.min_events:
            continue
        near = ordered[math.ceil(samples * share - _ROUNDING) - 1, place]
        inside = score[known[:, place], place] <= near
        at = rank(samples, effective_size(inside, event[known[:, place]]), share)
        if at is not None:
            yield level, float(ordered[at - 1, place]), samples, events


def knots_within(steps: int) -> Iterable[int]:
    """The knots up to ``steps``."""
    return [knot for knot in KNOTS if knot <= steps]
