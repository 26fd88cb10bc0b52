"""The metrics stage: resolved cutoff rows in, scores of every segment with intervals out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calibration_service import aggregates, intervals, logistic, price_cells
from calibration_service.frames import empty_frame, frame_of
from calibration_service.reliability import consistency_band
from calibration_service.scores import ECE_BINS, NullDraws, calibration_error, draw_null
from calibration_service.segments import map_segments, segment_key, text_codes, with_segments
from market_data.calibration_tables import RELIABILITY_CURVE, RELIABILITY_ISOTONIC
from market_data.schemas import CALIBRATION_METRICS

LOW_CONFIDENCE_EVENTS = 50
"""A segment whose rows say no more than fewer events of one size is marked ``low_confidence``: its
effective events ``(Σ n)² / Σ n²``, n rows each, and not the plain count. A market that was priced
every day for a year may own the rows of a segment whose other events were priced once."""

SCORED_LABELS = ("RESOLVED_TRUE", "RESOLVED_FALSE")


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Cutoff rows that can be scored, and how many could not.

    Attributes:
        frame: event_id, market_id, category, liquidity_bucket, tte_seconds, p_yes, outcome_yes.
        without_truth: rows whose market has no label of true or false.
        without_price: rows with a truth but no price in [0, 1].
    """

    frame: pl.DataFrame
    without_truth: int
    without_price: int


def scored_rows(
    cutoffs: pl.DataFrame, *, labels: pl.DataFrame, registry: pl.DataFrame
) -> ScoredRows:
    """Join cutoff snapshots with what happened.

    Args:
        cutoffs: rows of ``cutoff_snapshot``.
        labels: rows of ``label_status``; only RESOLVED_TRUE and RESOLVED_FALSE are truths.
        registry: rows of ``market_registry``; an unknown market is its own event.
    """
    truth = labels.filter(pl.col("label").is_in(SCORED_LABELS)).select(
        "market_id", (pl.col("label") == "RESOLVED_TRUE").cast(pl.Float64).alias("outcome_yes")
    )
    known = cutoffs.select("market_id", "liquidity_bucket", "tte_seconds", "p_yes").join(
        truth, on="market_id", how="inner"
    )
    priced = known.filter(pl.col("p_yes").is_between(0.0, 1.0))
    frame = priced.join(
        registry.select("market_id", "event_id", "category"), on="market_id", how="left"
    ).with_columns(pl.col("event_id").fill_null(pl.col("market_id")))
    return ScoredRows(frame, cutoffs.height - known.height, known.height - priced.height)


def _rows_of(frame: pl.DataFrame) -> aggregates.Rows:
    placed = with_segments(frame)
    return aggregates.Rows(
        p=placed["p_yes"].to_numpy(),
        y=placed["outcome_yes"].to_numpy(),
        event=text_codes(placed["event_id"])[0],
        segments=map_segments(placed),
    )


def build_metrics(
    rows: pl.DataFrame,
    *,
    window: str,
    run_id: str,
    as_of: datetime,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Scores of every segment and pooled margin.

    Every row counts one: the Brier score is that of the prices that were scored. ``event_count``
    is the plain count of events, ``low_confidence`` looks at how many they are worth.
    Brier, log loss, slope and intercept carry 95 % intervals over events; the calibration error
    carries its bias-corrected value and the 95 % range of a calibrated source. A slope without a
    finite estimate is null.

    Args:
        rows: ``ScoredRows.frame``, in any order.
        window: label of the time window, e.g. "90d".
        run_id: run that writes the rows.
        as_of: end of the window, aware UTC.
        rng: source of the null replicates of the calibration error.

    Returns:
        Rows of ``calibration_metrics``, finest segments first; none for no rows.
    """
    if rows.is_empty():
        return empty_frame(CALIBRATION_METRICS)
    scored = _rows_of(rows)
    sums = aggregates.segment_sums(scored)
    x = aggregates.rows_logit(scored)
    fitted = logistic.fit(aggregates.logit_cells(scored, x))
    draws = draw_null(rng)
    margins = [
        _event_columns(pairs, fitted, draws=draws)
        for pairs in aggregates.event_sums(scored, x, fitted=fitted)
    ]
    by_events = {name: np.concatenate([margin[name] for margin in margins]) for name in margins[0]}
    columns = {
        **_label_columns(scored),
        **_point_columns(sums, fitted),
        **_price_columns(scored, sums),
        **by_events,
    }
    return frame_of(
        {**columns, "window": window, "run_id": run_id, "as_of": as_of}, CALIBRATION_METRICS
    )


def _label_columns(scored: aggregates.Rows) -> dict[str, list[str]]:
    labels = scored.segments.labels
    return {
        "segment_key": [segment_key(*label) for label in labels],
        "category": [label[0] for label in labels],
        "liquidity_bucket": [label[1] for label in labels],
        "tte_bucket": [label[2] for label in labels],
    }


def _point_columns(
    sums: aggregates.SegmentSums, fitted: logistic.LogisticFit
) -> dict[str, NDArray[np.generic]]:
    return {
        "sample_size": sums.size.astype(np.int64),
        "base_rate": sums.positive / sums.size,
        "mean_price": sums.price / sums.size,
        "brier": sums.brier / sums.size,
        "log_loss": sums.log_loss / sums.size,
        "slope": fitted.slope,
        "intercept": fitted.intercept,
    }


def _price_columns(
    scored: aggregates.Rows, sums: aggregates.SegmentSums
) -> dict[str, NDArray[np.generic]]:
    """Columns that rest on bins and on prices in order."""
    found = price_cells.cell_scores(price_cells.segment_cells(scored))
    gaps = np.abs(sums.bin_positive - sums.bin_price) / np.maximum(sums.bin_size, 1.0)
    return {
        "max_calibration_error": gaps.max(axis=1),
        "ece_equal_mass": found.ece_equal_mass,
        "sharpness": found.sharpness,
        "miscalibration": found.miscalibration,
        "discrimination": found.discrimination,
        "uncertainty": found.uncertainty,
    }


def _event_columns(
    pairs: aggregates.EventSums, fitted: logistic.LogisticFit, *, draws: NullDraws
) -> dict[str, NDArray[np.generic]]:
    """Columns of one margin that rest on events."""
    groups, events = pairs.groups, pairs.groups.events()
    freedom = intervals.degrees_of_freedom(pairs.size, groups=groups)
    brier, log_loss = (
        intervals.positive_ratio(part, pairs.size, groups=groups, freedom=freedom)
        for part in (pairs.brier, pairs.log_loss)
    )
    intercept, slope = intervals.logistic_intervals(
        fitted.part(pairs.first, groups.segments), pairs.parts, freedom=freedom, groups=groups
    )
    effective = intervals.effective_events(pairs.size, groups=groups)
    parts = np.split(pairs.residuals, np.cumsum(events)[:-1])
    totals = groups.total(pairs.size).tolist()
    errors = [
        calibration_error(part, total, draws=draws)
        for part, total in zip(parts, totals, strict=True)
    ]
    return {
        "event_count": events,
        "low_confidence": effective < LOW_CONFIDENCE_EVENTS,
        "brier_lo": brier.lo,
        "brier_hi": np.minimum(brier.hi, 1.0),
        "log_loss_lo": log_loss.lo,
        "log_loss_hi": log_loss.hi,
        "slope_lo": slope.lo,
        "slope_hi": slope.hi,
        "intercept_lo": intercept.lo,
        "intercept_hi": intercept.hi,
        "ece": np.array([error.ece for error in errors]),
        "ece_bias_corrected": np.array([error.bias_corrected for error in errors]),
        "ece_null_lo": np.array([error.null_lo for error in errors]),
        "ece_null_hi": np.array([error.null_hi for error in errors]),
    }


def build_reliability(
    rows: pl.DataFrame, *, window: str, run_id: str, as_of: datetime
) -> pl.DataFrame:
    """Reliability curve of every segment over ten bins of equal width.

    Args:
        rows: ``ScoredRows.frame``, in any order.
        window: label of the time window.
        run_id: run that writes the rows.
        as_of: end of the window, aware UTC.

    Returns:
        Rows of ``reliability_curve``; bins without a price are left out.
    """
    if rows.is_empty():
        return empty_frame(RELIABILITY_CURVE)
    scored = _rows_of(rows)
    sums = aggregates.segment_sums(scored)
    events, independent = aggregates.bin_events(scored)
    segment, number = np.nonzero(sums.bin_size)
    size = sums.bin_size[segment, number]
    price = sums.bin_price[segment, number] / size
    low, high = consistency_band(price, independent[segment, number])
    keys = np.array([segment_key(*label) for label in scored.segments.labels])
    columns = {
        "window": window,
        "segment_key": keys[segment],
        "run_id": run_id,
        "bin": number,
        "bin_lower": number / ECE_BINS,
        "bin_upper": (number + 1) / ECE_BINS,
        "mean_price": price,
        "observed_rate": sums.bin_positive[segment, number] / size,
        "sample_size": size.astype(np.int64),
        "event_count": events[segment, number],
        "consistency_lo": low,
        "consistency_hi": high,
        "as_of": as_of,
    }
    return frame_of(columns, RELIABILITY_CURVE)


def build_isotonic(
    rows: pl.DataFrame, *, window: str, run_id: str, as_of: datetime
) -> pl.DataFrame:
    """Isotonic (CORP) reliability of the pool of everything and of each single dimension.

    Arguments as in `build_reliability`. A bin is a block of the curve: prices between its bounds
    came true equally often; prices within 1e-4 are tied.

    Returns:
        Rows of ``reliability_isotonic``, ``observed_rate`` not decreasing in a segment.
    """
    if rows.is_empty():
        return empty_frame(RELIABILITY_ISOTONIC)
    scored = _rows_of(rows)
    blocks = price_cells.isotonic_blocks(scored)
    keys = np.array([segment_key(*label) for label in scored.segments.labels])
    columns = {
        "window": window,
        "segment_key": keys[blocks.segment],
        "run_id": run_id,
        "bin": blocks.number,
        "bin_lower": blocks.lower,
        "bin_upper": blocks.upper,
        "mean_price": blocks.price,
        "observed_rate": blocks.rate,
        "sample_size": blocks.size,
        "event_count": blocks.events,
        "consistency_lo": blocks.consistency_lo,
        "consistency_hi": blocks.consistency_hi,
        "as_of": as_of,
    }
    return frame_of(columns, RELIABILITY_ISOTONIC)
