"""The scoreboard: each market with its price, its trust and the record of its segment."""

from __future__ import annotations

from datetime import datetime

import polars as pl

from calibration_service.frames import conform
from calibration_service.recalibration.state import (
    IDENTITY_VERSION,
    Recalibration,
    pools_of,
    with_calibrated,
)
from calibration_service.segments import (
    ANY,
    DIMENSIONS,
    MARGINS,
    segment_key,
    segment_key_expr,
    with_segments,
)
from market_data.schemas import CALIBRATION_METRICS, SCOREBOARD

_SCORES = [
    name
    for name in CALIBRATION_METRICS.schema.names
    if name in SCOREBOARD.schema.names
    and name not in (*DIMENSIONS, "window", "segment_key", "as_of", "schema_version")
]

_TRUST = (
    "liquidity_depth",
    "stability",
    "question_quality",
    "manipulation_suspect",
    "unknown_components",
)


def build_scoreboard(
    registry: pl.DataFrame,
    *,
    latest: pl.DataFrame,
    trust: pl.DataFrame,
    metrics: pl.DataFrame,
    window: str,
    run_id: str,
    as_of: datetime,
    recalibration: Recalibration | None = None,
) -> pl.DataFrame:
    """One row per market.

    A row carries the scores of its finest segment that is not of low confidence; coarser segments
    are tried in the order of ``segments.MARGINS``, and the pool of everything serves at last,
    however small. ``segment_key`` says which one it was; without any metrics it is null.

    Args:
        registry: rows of ``market_registry``.
        latest: rows of ``market_snapshot``; the last one of each market counts.
        trust: rows of ``trust_score``; the last one of each market counts.
        metrics: rows of ``calibration_metrics`` of one run and window.
        window: the time window of the metrics.
        run_id: the run that made the metrics.
        as_of: instant of the scoreboard, aware UTC.
        recalibration: what makes calibrated probabilities; without one there are none.

    Returns:
        Rows of ``scoreboard``, ordered by market.
    """
    prices = _last(latest).select(
        "market_id", "p_yes", "liquidity_bucket", "tte_seconds", pl.col("ts").alias("price_ts")
    )
    scores = _last(trust).select("market_id", pl.col("score").alias("trust"), *_TRUST)
    markets = (
        registry.select(
            "market_id", "event_id", "platform", "question", "category", "tags", "status"
        )
        .join(prices, on="market_id", how="left")
        .join(scores, on="market_id", how="left")
        .sort("market_id")
    )
    placed = with_segments(markets)
    chosen = _segment_scores(placed.select(DIMENSIONS).unique(), metrics)
    scored = placed.join(chosen, on=list(DIMENSIONS), how="left", maintain_order="left")
    rows = _calibrated(scored, recalibration).with_columns(
        pl.lit(window).alias("window"),
        pl.lit(as_of).alias("as_of"),
        pl.lit(run_id).alias("run_id"),
    )
    names = [name for name in SCOREBOARD.schema.names if name != "schema_version"]
    return conform(rows.select(names), SCOREBOARD)


def _calibrated(rows: pl.DataFrame, recalibration: Recalibration | None) -> pl.DataFrame:
    """Calibrated probabilities, and what made them; all null without a fit."""
    if recalibration is None or recalibration.version == IDENTITY_VERSION:
        real = ("calibrated_probability", "calibrated_lo", "calibrated_hi")
        text = ("recalibration_method", "recalibration_version")
        return rows.with_columns(
            *(pl.lit(None, dtype=pl.Float64).alias(name) for name in real),
            *(pl.lit(None, dtype=pl.String).alias(name) for name in text),
        )
    method = pl.Series(recalibration.methods).gather(pools_of(recalibration, rows["category"]))
    known = pl.col("calibrated_probability").is_not_null()
    return with_calibrated(rows, recalibration).with_columns(
        pl.when(known).then(method).alias("recalibration_method"),
        pl.when(known).then(pl.lit(recalibration.version)).alias("recalibration_version"),
    )


def _last(rows: pl.DataFrame) -> pl.DataFrame:
    """The row of each market with the largest ts."""
    return rows.filter(pl.col("ts") == pl.col("ts").max().over("market_id"))


def _segment_scores(places: pl.DataFrame, metrics: pl.DataFrame) -> pl.DataFrame:
    """Scores for each combination of the dimensions, from the finest segment that has enough.

    Args:
        places: distinct values of ``DIMENSIONS``.
        metrics: rows of ``calibration_metrics``.
    """
    usable = metrics.filter(
        ~pl.col("low_confidence") | (pl.col("segment_key") == segment_key(ANY, ANY, ANY))
    ).select("segment_key", *_SCORES)
    candidates = pl.concat(
        [
            places.with_columns(segment_key_expr(margin), pl.lit(rank).alias("rank"))
            for rank, margin in enumerate(MARGINS)
        ]
    )
    return (
        candidates.join(usable, on="segment_key", how="inner")
        .sort("rank")
        .unique(subset=list(DIMENSIONS), keep="first", maintain_order=True)
        .drop("rank")
    )
