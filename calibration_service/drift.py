"""Calibration drift: whether recent prices mean what those before them meant.

Two tests in each segment, on events that resolved before and after an instant:

- REFERENCE: recent events follow the logistic law of the reference period, whatever it is;
- PERFECT: recent events come true as often as they were priced.

Each event weighs one in each of its segments, however often it was priced: with a row a day the few
markets that live long would own both tests (in simulations with Pareto 1.1 rows an event the power
against a slope of 0.6 at 1,000 events falls from 1 to 0 where rows count alike).

Segments are the pool of everything and the single dimensions; p-values are adjusted over the
segments of each test (Holm), so that in a market without drift one of twenty reports, not one of
twenty segments, says that there is one. The changes of slope and intercept carry 95 % intervals
(CR3 over events; Welch, Biometrika 34, 1947, doi:10.1093/biomet/34.1-2.28).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from calibration_service import aggregates, intervals, logistic
from calibration_service.frames import empty_frame, frame_of
from calibration_service.logistic import LogisticFit
from calibration_service.price_cells import CURVE_MARGINS
from calibration_service.score_test import ScoreTest, draw_flips, regular, score_test
from calibration_service.segments import (
    SegmentMap,
    map_segments,
    segment_key,
    text_codes,
    with_segments,
)
from market_data.calibration_tables import CALIBRATION_DRIFT

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MIN_EVENTS = 20
"""Fewest events of a segment in a period; with fewer it is not tested."""
LEVEL = 0.05
TESTS = ("REFERENCE", "PERFECT")


@dataclass(frozen=True, slots=True)
class Law:
    """Logistic law of every segment with its error over events, [G] float64 each.

    Attributes:
        intercept, slope: estimates, NaN without one.
        intercept_variance, slope_variance: CR3.
        size, events: [G] rows and events.
    """

    intercept: FloatArray
    slope: FloatArray
    intercept_variance: FloatArray
    slope_variance: FloatArray
    size: FloatArray
    events: FloatArray


@dataclass(frozen=True, slots=True)
class Periods:
    """Rows of two periods.

    Attributes:
        rows: all of them; segments of `CURVE_MARGINS`, numbered from 0.
        recent: [E] bool, whether an event belongs to the recent period.
        share: [E] float64 in (0, 1], ``Σ n² / (Σ n)²`` over the n rows of each market of an event,
            one over its markets if they are alike: rows of a market share an outcome.
    """

    rows: aggregates.Rows
    recent: NDArray[np.bool_]
    share: FloatArray

    def of(self, recent: bool) -> aggregates.Rows:
        """The rows of one period."""
        return _part(self.rows, self.recent[self.rows.event] == recent)


def build_drift(
    rows: pl.DataFrame,
    *,
    recent_from: datetime,
    run_id: str,
    as_of: datetime,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Test every segment for drift.

    Args:
        rows: ``metrics.ScoredRows.frame`` with ``resolved_at`` (aware UTC), in any order; an event
            is recent when its last row resolves at ``recent_from`` or later.
        recent_from: begin of the recent period, aware UTC.
        run_id: run that writes the rows.
        as_of: end of the recent period, aware UTC.
        rng: source of the signs that events are flipped with.

    Returns:
        Rows of ``calibration_drift``, two for each segment with 20 events in both periods.
    """
    dated = rows.filter(pl.col("resolved_at").is_not_null())
    if dated.is_empty():
        return empty_frame(CALIBRATION_DRIFT)
    periods = _periods_of(dated, recent_from)
    before, after = (law_of(periods.of(recent)) for recent in (False, True))
    tested = np.flatnonzero(np.minimum(before.events, after.events) >= MIN_EVENTS)
    flips = draw_flips(rng)
    found = zip(TESTS, (against_reference, against_perfection), strict=True)
    parts = [
        _columns(name, periods, tested, before, after, test=test(periods, tested, flips=flips))
        for name, test in found
    ]
    columns = {
        name: np.concatenate([np.asarray(part[name]) for part in parts]) for name in parts[0]
    }
    fixed = {"run_id": run_id, "recent_from": recent_from, "as_of": as_of}
    if not tested.size:
        return empty_frame(CALIBRATION_DRIFT)
    return frame_of({**columns, **fixed}, CALIBRATION_DRIFT)


def refit_due(drift: pl.DataFrame) -> bool:
    """Whether recalibration and the correction of bands should be fitted again.

    They are due when recent prices differ from the reference period in any segment. That recent
    prices are merely not perfect is what recalibration is there for.

    Args:
        drift: rows of ``calibration_drift`` of one run.
    """
    return bool(drift.filter(pl.col("test") == "REFERENCE")["drifted"].any())


def _periods_of(rows: pl.DataFrame, recent_from: datetime) -> Periods:
    placed = with_segments(rows)
    event, names = text_codes(placed["event_id"])
    times = placed["resolved_at"].dt.epoch("us").to_numpy()
    resolved = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(resolved, event, times)
    begin = pl.Series([recent_from]).dt.epoch("us").item()
    whole = map_segments(placed)
    of_fine = whole.of_fine[list(CURVE_MARGINS)]
    first = int(of_fine.min())
    segments = SegmentMap(whole.fine, of_fine - first, whole.labels[first:])
    market = text_codes(placed["market_id"])[0]
    pairs, rows_of = np.unique(market * len(names) + event, return_counts=True)
    size = np.bincount(event, minlength=len(names))
    squares = np.bincount(pairs % len(names), rows_of.astype(np.float64) ** 2, len(names))
    scored = aggregates.Rows(
        placed["p_yes"].to_numpy(), placed["outcome_yes"].to_numpy(), event, segments
    )
    return Periods(scored, resolved >= begin, squares / size.astype(np.float64) ** 2)


def _part(rows: aggregates.Rows, kept: NDArray[np.bool_]) -> aggregates.Rows:
    segments = SegmentMap(rows.segments.fine[kept], rows.segments.of_fine, rows.segments.labels)
    return aggregates.Rows(rows.p[kept], rows.y[kept], rows.event[kept], segments)


def law_of(rows: aggregates.Rows) -> Law:
    """The logistic law of every segment; NaN where it has no rows or no finite estimate."""
    x, count = aggregates.rows_logit(rows), len(rows.segments.labels)
    fitted = logistic.fit(aggregates.even_cells(rows, x))
    moments = np.zeros((4, count))
    for pairs in aggregates.event_sums(rows, x, fitted=fitted) if rows.p.size else ():
        groups, kept = pairs.groups, slice(pairs.first, pairs.first + pairs.groups.segments)
        influence = intervals.logistic_influence(pairs.even_parts(), groups=groups)
        events = groups.events()
        shrink = np.maximum(events - 1.0, 0.0) / np.maximum(events, 1)
        squares = [shrink * groups.total(part * part) for part in influence]
        moments[:, kept] = *squares, groups.total(pairs.size), events
    return Law(fitted.intercept, fitted.slope, *moments)


def against_reference(periods: Periods, tested: IntArray, *, flips: FloatArray) -> list[ScoreTest]:
    """Test of each tested segment that both periods follow one law.

    The score of the recent period is taken at the law of both together; what estimating that law
    takes away is taken from every event's score, so that their sum is the score of the recent.
    """
    rows = periods.rows
    x = aggregates.rows_logit(rows)
    fitted = logistic.fit(aggregates.even_cells(rows, x))
    return _tests(periods, rows, x, fitted, tested=tested, flips=flips)


def against_perfection(periods: Periods, tested: IntArray, *, flips: FloatArray) -> list[ScoreTest]:
    """Test of each tested segment that recent prices are probabilities."""
    rows, count = periods.of(True), len(periods.rows.segments.labels)
    zero = np.zeros(count)
    calibrated = LogisticFit(zero, zero + 1.0, zero.astype(np.int64), np.zeros((count, 3)))
    x = aggregates.rows_logit(rows)
    return _tests(periods, rows, x, calibrated, tested=tested, flips=flips)


def _tests(
    periods: Periods,
    rows: aggregates.Rows,
    x: FloatArray,
    fitted: LogisticFit,
    *,
    tested: IntArray,
    flips: FloatArray,
) -> list[ScoreTest]:
    found: dict[int, ScoreTest] = {}
    for pairs in aggregates.event_sums(rows, x, fitted=fitted):
        parts = pairs.even_parts()
        scores = np.stack([parts.score, parts.score_x], axis=1)
        information = np.stack([parts.aa, parts.ab, parts.ab, parts.bb], axis=1)
        ends = np.cumsum(np.bincount(pairs.groups.segment, minlength=pairs.groups.segments))
        for segment in tested[
            (tested >= pairs.first) & (tested < pairs.first + ends.size)
        ].tolist():
            stop = int(ends[segment - pairs.first])
            start = stop - int(np.diff(ends, prepend=0)[segment - pairs.first])
            events, held = pairs.event[start:stop], information[start:stop].reshape(-1, 2, 2)
            found[segment] = score_test(
                *_free_of_nuisance(
                    scores[start:stop], held, periods.share[events], periods.recent[events]
                ),
                flips=flips,
            )
    return [found[segment] for segment in tested.tolist()]


def _free_of_nuisance(
    scores: FloatArray, information: FloatArray, share: FloatArray, recent: NDArray[np.bool_]
) -> tuple[FloatArray, FloatArray]:
    """Scores of the recent period's own law, and the variance of their sum.

    Args:
        scores: [E, 2]; information: [E, 2, 2], of each event.
        share: [E] of `Periods`; recent: [E]. Where all events are recent the law is given and
            nothing is taken away.
    """
    inflated = information * share[:, None, None]
    if recent.all():
        return scores, inflated.sum(axis=0)
    whole = information.sum(axis=0)
    if not regular(whole):
        return np.full_like(scores, np.nan), whole
    taken = np.linalg.solve(whole, information[recent].sum(axis=0)).T
    kept = np.eye(2) - taken
    adjusted = np.where(recent[:, None], scores @ kept.T, -scores @ taken.T)
    implied = kept @ inflated[recent].sum(axis=0) @ kept.T
    return adjusted, implied + taken @ inflated[~recent].sum(axis=0) @ taken.T


def _columns(
    name: str,
    periods: Periods,
    tested: IntArray,
    before: Law,
    after: Law,
    *,
    test: list[ScoreTest],
) -> dict[str, object]:
    """Columns of one test."""
    adjusted = intervals.holm(np.array([one.p for one in test], dtype=np.float64))
    labels = [periods.rows.segments.labels[k] for k in tested.tolist()]
    columns: dict[str, object] = {
        "segment_key": [segment_key(*label) for label in labels],
        "test": [name] * tested.size,
        "category": [label[0] for label in labels],
        "liquidity_bucket": [label[1] for label in labels],
        "tte_bucket": [label[2] for label in labels],
        "sample_size": after.size[tested].astype(np.int64),
        "event_count": after.events[tested].astype(np.int64),
        "reference_sample_size": before.size[tested].astype(np.int64),
        "reference_event_count": before.events[tested].astype(np.int64),
        "slope": after.slope[tested],
        "intercept": after.intercept[tested],
        "statistic": np.array([one.statistic for one in test], dtype=np.float64),
        "p_value": np.array([one.p for one in test], dtype=np.float64),
        "p_adjusted": adjusted,
        "drifted": adjusted < LEVEL,
    }
    for parameter, ideal in (("slope", 1.0), ("intercept", 0.0)):
        change = _change(parameter, before, after, ideal if name == "PERFECT" else None)
        for suffix, values in zip(("", "_lo", "_hi"), change, strict=True):
            columns[f"{parameter}_change{suffix}"] = values[tested]
    return columns


def _change(
    parameter: str, before: Law, after: Law, ideal: float | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """(change, lo, hi), [G] float64 each: from the reference period, or from an ideal value."""
    value, variance = getattr(after, parameter), getattr(after, f"{parameter}_variance")
    with np.errstate(divide="ignore", invalid="ignore"):
        if ideal is None:
            value = value - getattr(before, parameter)
            other = getattr(before, f"{parameter}_variance")
            weights = variance**2 / (after.events - 1.0) + other**2 / (before.events - 1.0)
            variance = variance + other
            freedom = variance**2 / weights
        else:
            value, freedom = value - ideal, after.events - 1.0
        width = special.stdtrit(freedom, 0.975) * np.sqrt(variance)
    return value, value - width, value + width
