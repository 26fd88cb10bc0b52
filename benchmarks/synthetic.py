"""Tables of any size, drawn from a seed, for the suites that measure stages and reads."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from calibration_service.metrics import build_metrics, build_reliability
from calibration_service.scoreboard import build_scoreboard
from calibration_service.trust import build_trust
from market_data.categories import liquidity_bucket
from market_data.labels import build_labels
from market_data.lake import Lake, conform, polars_schema

AS_OF = datetime(2026, 10, 1, tzinfo=UTC)
CATEGORIES = ("politics", "sports", "crypto", "economics", "science")
PER_MARKET = 100
"""Snapshots of a market."""


def market_ids(n: int) -> list[str]:
    """[n] ids in order."""
    return [f"benchmark:{i:07d}" for i in range(n)]


def registry(n: int) -> pl.DataFrame:
    """``market_registry`` of n markets, two in an event; one in eight is open."""
    rng = np.random.default_rng(1)
    closed = AS_OF - pl.Series(rng.integers(3_600, 80 * 86_400, n) * 1_000_000).cast(
        pl.Duration("us")
    )
    is_open = rng.random(n) < 0.125
    yes = (rng.random(n) < 0.5).astype(float)
    frame = pl.DataFrame(
        {
            "market_id": market_ids(n),
            "event_id": [f"benchmark:event-{i // 2}" for i in range(n)],
            "question": [f"Will number {i} happen?" for i in range(n)],
            "category": np.array(CATEGORIES)[rng.integers(0, 5, n)],
        }
    ).with_columns(
        pl.lit("benchmark").alias("platform"),
        pl.lit(["Yes", "No"]).alias("outcomes"),
        pl.Series("outcome_prices", np.stack([yes, 1 - yes], axis=1)).cast(pl.List(pl.Float64)),
        pl.when(pl.Series(is_open)).then(pl.lit("ACTIVE")).otherwise(pl.lit("RESOLVED"))
        .alias("status"),
        pl.when(~pl.Series(is_open)).then(closed).alias("closed_at"),
        pl.when(~pl.Series(is_open)).then(closed).alias("resolved_at"),
        closed.alias("end_at"),
        pl.lit([], dtype=pl.List(pl.String)).alias("tags"),
        pl.lit(value=True).alias("enable_order_book"),
    )  # fmt: skip
    return completed("market_registry", frame)


def snapshots(rows: int, per_market: int = PER_MARKET) -> pl.DataFrame:
    """``market_snapshot``: hourly prices of rows ÷ per_market markets before their end."""
    rng = np.random.default_rng(2)
    markets = max(1, rows // per_market)
    ends = registry(markets)["end_at"]
    step = pl.Series(np.tile(np.arange(per_market, 0, -1), markets) * 3_600_000_000)
    walk = np.cumsum(rng.normal(0.0, 0.1, (markets, per_market)), axis=1)
    price = np.round(1.0 / (1.0 + np.exp(-walk)), 3).clip(0.001, 0.999).ravel()
    interest = np.exp(rng.uniform(6.0, 14.0, markets)).repeat(per_market)
    frame = pl.DataFrame(
        {
            "market_id": np.array(market_ids(markets)).repeat(per_market),
            "ts": ends.gather(np.arange(markets).repeat(per_market)) - step.cast(pl.Duration("us")),
            "p_yes": price,
            "p_no": 1.0 - price,
            "open_interest": interest,
            "tte_seconds": np.tile(np.arange(per_market, 0, -1), markets) * 3_600.0,
            "data_freshness_sec": np.zeros(price.size),
        }
    ).with_columns(
        liquidity_bucket(pl.lit(None, dtype=pl.Float64), pl.col("open_interest")).alias(
            "liquidity_bucket"
        ),
        pl.lit("benchmark").alias("data_source"),
    )
    return completed("market_snapshot", frame)


def scored(rows: int) -> pl.DataFrame:
    """What `build_metrics` takes: a calibrated venue, four rows of a market, two in an event."""
    rng = np.random.default_rng(3)
    markets = max(2, rows // 4)
    price = np.round(rng.beta(1.2, 1.2, rows), 3).clip(0.001, 0.999)
    market = np.arange(rows) % markets
    return pl.DataFrame(
        {
            "market_id": np.array(market_ids(markets))[market],
            "event_id": (market // 2).astype(str),
            "category": np.array(CATEGORIES)[market // 2 % 5],
            "liquidity_bucket": np.array(["LOW", "MID", "HIGH"])[market // 10 % 3],
            "tte_seconds": rng.uniform(600.0, 400_000.0, rows),
            "p_yes": price,
            "outcome_yes": (rng.random(rows) < price).astype(float),
        }
    )


def dated(scored: pl.DataFrame) -> pl.DataFrame:
    """The rows with a time of resolution for each event, over the 180 days before `AS_OF`."""
    day = scored["event_id"].hash(5) % 180
    ago = pl.duration(days=pl.lit(day.cast(pl.Int64)), hours=1)
    end = pl.lit(AS_OF).cast(pl.Datetime("us", "UTC"))
    return scored.with_columns((end - ago).alias("resolved_at"))


def publish(lake: Lake, markets: int, *, per_market: int = 4) -> None:
    """Fills the tables that reads are answered from."""
    known, prices = registry(markets), snapshots(markets * per_market, per_market)
    key = {"window": "90d", "run_id": "benchmark", "as_of": AS_OF}
    rows = scored(max(400, markets))
    metrics = build_metrics(rows, rng=np.random.default_rng(4), **key)  # type: ignore[arg-type]
    board = build_scoreboard(
        known,
        latest=prices,
        trust=build_trust(prices),
        metrics=metrics,
        window="90d",
        run_id="benchmark",
        as_of=AS_OF,
    )
    lake.replace("market_registry", known)
    lake.replace("label_status", build_labels(known))
    lake.replace("market_snapshot", prices)
    lake.replace("calibration_metrics", metrics)
    lake.replace("reliability_curve", build_reliability(rows, **key))  # type: ignore[arg-type]
    lake.replace("scoreboard", board)


def completed(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame as rows of a table; columns that it lacks are null."""
    named = polars_schema(table)
    lacking = [c for c in named if c not in frame.columns and c not in ("schema_version", "dt")]
    complete = frame.with_columns(pl.lit(None, dtype=named[c]).alias(c) for c in lacking)
    return conform(table, complete.with_columns(created_at=AS_OF - timedelta(days=100))) if (
        "created_at" in named
    ) else conform(table, complete)  # fmt: skip
