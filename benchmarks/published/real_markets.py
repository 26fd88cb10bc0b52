"""Calibration of real Polymarket markets by horizon: daily prices with official resolutions.

A row is the last daily price at least so many days before the resolution and at most a day and a
half older. Markets with neighbouring numbers at the venue that resolved within three days of each
other count as one event. Recalibration is fitted on the markets that resolved first and is judged
on those that resolved last, with a day between them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calibration_service import intervals
from calibration_service.intervals import EventGroups
from calibration_service.metrics import build_metrics, build_reliability
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.state import load, with_calibrated
from calibration_service.segments import segment_key, text_codes

HORIZON_DAYS = (1, 2, 3, 7, 14, 30)
OLDEST = 1.5
"""Days that a price may be older than its horizon asks."""
TRAINING_SHARE = 0.6
EMBARGO = timedelta(days=1)
SEED = 20_260_101
OVERALL = segment_key("*", "*", "*")


@dataclass(frozen=True, slots=True)
class Horizon:
    """What was found at one distance from the resolution.

    Attributes:
        days: the distance.
        scores: row of ``calibration_metrics`` of all markets.
        curve: rows of ``reliability_curve``.
        recalibration: row of ``recalibration_state`` for everything together, fitted on the part
            that resolved first.
        test: market_id, event_id, p_yes, outcome_yes, calibrated_probability of the later part.
        difference: Brier score recalibrated less raw on the later part, with its 95 % interval.
    """

    days: int
    scores: dict[str, Any]
    curve: pl.DataFrame
    recalibration: dict[str, Any]
    test: pl.DataFrame
    difference: tuple[float, float, float]


def horizons(data: Path) -> list[Horizon]:
    """The report's figures, one entry for each of `HORIZON_DAYS`.

    Args:
        data: folder of the recorded data (``dev``).
    """
    markets, candles = _markets(data), _candles(data)
    return [_horizon(days, rows_at(markets, candles, days)) for days in HORIZON_DAYS]


def rows_at(markets: pl.DataFrame, candles: pl.DataFrame, days: int) -> pl.DataFrame:
    """Prices of markets ``days`` before their resolution, as `build_metrics` takes them."""
    asked = markets.with_columns((pl.col("resolved_at") - pl.duration(days=days)).alias("at")).sort(
        "at"
    )
    found = asked.join_asof(
        candles.sort("ts"), left_on="at", right_on="ts", by="market_id",
        tolerance=timedelta(days=OLDEST), check_sortedness=False,
    )  # fmt: skip
    return found.drop_nulls("p_yes").with_columns(
        pl.lit(None, dtype=pl.String).alias("liquidity_bucket"),
        pl.lit(days * 86_400.0).alias("tte_seconds"),
        pl.lit("all").alias("category"),
    )


def _markets(data: Path) -> pl.DataFrame:
    """market_id, event_id, instrument of YES, outcome_yes and resolved_at."""
    table = pl.read_parquet(data / "prices/pancake_markets.parquet").sort(
        pl.col("provider_market_id").cast(pl.Int64)
    )
    number = pl.col("provider_market_id").cast(pl.Int64)
    apart = (number.diff() > 2) | (pl.col("resolved_at").diff().abs() > 3 * 86_400)
    return table.select(
        "market_id",
        apart.fill_null(value=True).cum_sum().cast(pl.String).alias("event_id"),
        pl.col("instruments").list.first().alias("instrument_id"),
        pl.col("payoffs").list.first().alias("outcome_yes"),
        pl.from_epoch("resolved_at").dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC")),
    ).filter(pl.col("outcome_yes").is_in([0.0, 1.0]))


def _candles(data: Path) -> pl.DataFrame:
    """Daily closes of the YES side."""
    table = pl.read_parquet(data / "prices/pancake_candles_1d.parquet")
    own = table.join(_markets(data).select("instrument_id"), on="instrument_id", how="semi")
    return own.select(
        "market_id",
        pl.from_epoch("observed_at").dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
        .alias("ts"),
        pl.col("close").alias("p_yes"),
    ).filter(pl.col("p_yes").is_between(0.0, 1.0))  # fmt: skip


def _horizon(days: int, rows: pl.DataFrame) -> Horizon:
    as_of = datetime(2026, 6, 10, tzinfo=UTC)
    key: dict[str, Any] = {"window": "all", "run_id": "report", "as_of": as_of}
    scores = build_metrics(rows, rng=np.random.default_rng(SEED), **key)
    curve = build_reliability(rows, **key)
    ended = rows["resolved_at"].sort()
    split = ended[int(TRAINING_SHARE * rows.height)]
    first = rows.filter(pl.col("resolved_at") < split - EMBARGO)
    later = rows.filter(pl.col("resolved_at") >= split).join(first, on="event_id", how="anti")
    fitted = build_recalibration(
        first, version="report", run_id="report", as_of=as_of, rng=np.random.default_rng(SEED)
    )
    test = with_calibrated(later, load(fitted)).select(
        "market_id", "event_id", "p_yes", "outcome_yes", "calibrated_probability"
    )
    return Horizon(
        days=days,
        scores=scores.filter(pl.col("segment_key") == OVERALL).row(0, named=True),
        curve=curve.filter(pl.col("segment_key") == OVERALL).sort("bin"),
        recalibration=fitted.filter(pl.col("pool") == "*").row(0, named=True),
        test=test,
        difference=_difference(test),
    )


def _difference(test: pl.DataFrame) -> tuple[float, float, float]:
    p, q, y = (test[c].to_numpy() for c in ("p_yes", "calibrated_probability", "outcome_yes"))
    codes, names = text_codes(test["event_id"])
    terms = (q - y) ** 2 - (p - y) ** 2
    if not terms.any():
        return 0.0, 0.0, 0.0
    total = np.bincount(codes, terms, minlength=len(names)).astype(np.float64)
    size = np.bincount(codes, minlength=len(names)).astype(np.float64)
    groups = EventGroups(np.zeros(len(names), dtype=np.int64), 1)
    found = intervals.signed_ratio(total, size, groups=groups)
    return float(terms.mean()), float(found.lo[0]), float(found.hi[0])
