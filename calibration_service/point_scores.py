"""Scores of every segment without intervals: for rows that come too fast for events to be counted.

Rows are read once, in parallel; the eight margins are added up from the finest cells.
"""

from __future__ import annotations

import polars as pl

from calibration_service.scores import ECE_BINS, LOG_LOSS_EPS
from calibration_service.segments import (
    ANY,
    DIMENSIONS,
    MARGINS,
    UNSPECIFIED,
    segment_key_expr,
)
from market_data.categories import tte_bucket

_SUMS = ("sample_size", "price", "positive", "squares", "logs")


def point_scores(rows: pl.DataFrame) -> pl.DataFrame:
    """Brier score, log loss and calibration error of every segment and pooled margin.

    The figures of ``metrics.build_metrics`` (formulas and sources at `scores`), without counting
    events: they say how large a score is, not how sure it is.

    Args:
        rows: category, liquidity_bucket (text), tte_seconds (float64), p_yes (float64 in [0, 1])
            and outcome_yes (float64, 0 or 1), in any order.

    Returns:
        segment_key, the three ``DIMENSIONS``, sample_size, base_rate, mean_price, brier, log_loss
        (nats) and ece, ordered by margin (finest first) and key.
    """
    fine = _fine_bins(rows)
    margins = [
        _scores_of(
            fine.with_columns(
                pl.lit(ANY).alias(column)
                for column, is_kept in zip(DIMENSIONS, kept, strict=True)
                if not is_kept
            )
        )
        for kept in MARGINS
    ]
    return pl.concat(margins)


def _fine_bins(rows: pl.DataFrame) -> pl.DataFrame:
    """Sums of each finest segment and equal-width bin."""
    p, y = pl.col("p_yes"), pl.col("outcome_yes")
    given = 1.0 - (p - y).abs()
    return (
        rows.lazy()
        .group_by(
            pl.col("category").fill_null(UNSPECIFIED),
            pl.col("liquidity_bucket").fill_null(UNSPECIFIED),
            tte_bucket(pl.col("tte_seconds")).alias("tte_bucket"),
            (p * ECE_BINS).cast(pl.Int8).clip(0, ECE_BINS - 1).alias("bin"),
        )
        .agg(
            pl.len().cast(pl.Int64).alias("sample_size"),
            p.sum().alias("price"),
            y.sum().alias("positive"),
            ((p - y) ** 2).sum().alias("squares"),
            -given.clip(LOG_LOSS_EPS, 1.0 - LOG_LOSS_EPS).log().sum().alias("logs"),
        )
        .collect()
    )


def _scores_of(bins: pl.DataFrame) -> pl.DataFrame:
    """Scores of the segments that the bins name."""
    size = pl.col("sample_size")
    return (
        bins.group_by(*DIMENSIONS, "bin")
        .agg(pl.col(_SUMS).sum())
        .group_by(DIMENSIONS)
        .agg(
            pl.col(_SUMS).sum(),
            (pl.col("positive") - pl.col("price")).abs().sum().alias("gaps"),
        )
        .select(
            segment_key_expr(),
            *DIMENSIONS,
            "sample_size",
            (pl.col("positive") / size).alias("base_rate"),
            (pl.col("price") / size).alias("mean_price"),
            (pl.col("squares") / size).alias("brier"),
            (pl.col("logs") / size).alias("log_loss"),
            (pl.col("gaps") / size).alias("ece"),
        )
        .sort("segment_key")
    )
