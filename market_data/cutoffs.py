"""The instants at which prices are scored, and the snapshot that stands for each of them.

===========  =====================================================================================
T-24h, T-1h  24 h and 1 h before T, where T is the resolution, else the close, else the announced
             end. Closed markets alone: while a market is open its T is not known.
DAILY        every midnight UTC that lies strictly before T and after the market's first snapshot;
             open markets too, up to their last snapshot.
===========  =====================================================================================

Chosen is the latest snapshot at or before the cutoff and strictly before T, at most the lookback
of its type old (``CutoffPolicy``; rule NEAREST_EARLIER). Where the policy allows a wider lookback,
a snapshot that only the wider one reaches is marked WIDE_FALLBACK. There is no other fallback: a
market without such a snapshot has no row. Rows keep every snapshot column.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from market_data.lake import conform, empty, polars_schema
from market_data.schemas import SCHEMA_VERSION

T_MINUS = {"T-24h": 86_400, "T-1h": 3_600}
"""Cutoff types relative to T, in seconds before it."""

DAILY = "DAILY"

_CARRIED = (
    "p_yes", "p_no", "bid", "ask", "spread", "volume_24h", "open_interest", "num_traders_proxy",
    "tte_seconds", "liquidity_bucket", "data_source", "data_freshness_sec",
)  # fmt: skip

INPUTS = ("ts", "market_id", *_CARRIED)
"""Columns of a snapshot that a cutoff is made of."""


@dataclass(frozen=True, slots=True)
class CutoffPolicy:
    """How old a snapshot may be at its cutoff, in seconds.

    Attributes:
        lookback_t_minus_24h: default 6 h.
        lookback_t_minus_1h: default 1 h.
        lookback_daily: default 24 h.
        wide_lookback: wider bound for all types, rows marked WIDE_FALLBACK; None allows none.
    """

    lookback_t_minus_24h: int = 6 * 3600
    lookback_t_minus_1h: int = 3600
    lookback_daily: int = 86_400
    wide_lookback: int | None = None


def build_cutoffs(
    snapshots: pl.DataFrame,
    registry: pl.DataFrame,
    labels: pl.DataFrame | None = None,
    policy: CutoffPolicy | None = None,
) -> pl.DataFrame:
    """``cutoff_snapshot`` rows; the order of the inputs' rows does not matter.

    A million snapshots take less than two seconds.

    Args:
        snapshots: ``market_snapshot`` rows, any number per market.
        registry: ``market_registry`` rows; a snapshot of an unknown market is not scored.
        labels: ``label_status`` rows; where given, their resolution time comes first.
        policy: lookback bounds, the defaults of ``CutoffPolicy`` if None.
    """
    policy = policy or CutoffPolicy()
    if snapshots.is_empty() or registry.is_empty():
        return empty("cutoff_snapshot")
    markets = _resolutions(registry, labels)
    usable = (
        snapshots.select(INPUTS)
        .join(markets.select("market_id", "_end"), on="market_id", how="inner")
        .filter(pl.col("_end").is_null() | (pl.col("ts") < pl.col("_end")))
        .drop("_end")
        .sort("ts")
    )
    wanted = pl.concat([*_t_minus(markets), _daily(markets, usable)]).sort("cutoff_ts")
    joined = wanted.join_asof(
        usable.rename({"ts": "selected_ts"}),
        left_on="cutoff_ts",
        right_on="selected_ts",
        by="market_id",
        check_sortedness=False,
        coalesce=False,
    )
    return _admit(joined, policy)


def _resolutions(registry: pl.DataFrame, labels: pl.DataFrame | None) -> pl.DataFrame:
    """(market_id, is_closed, T of each market as ``_end``); T is null for open markets."""
    markets = registry.select("market_id", "status", "resolved_at", "closed_at", "end_at")
    if labels is not None:
        told = labels.select("market_id", pl.col("resolved_at").alias("_told"))
        markets = markets.join(told, on="market_id", how="left")
    else:
        markets = markets.with_columns(_told=pl.col("resolved_at"))
    is_closed = pl.col("status") != "ACTIVE"
    end = pl.coalesce("_told", "resolved_at", "closed_at", "end_at")
    return markets.select("market_id", pl.when(is_closed).then(end).alias("_end"))


def _t_minus(markets: pl.DataFrame) -> list[pl.DataFrame]:
    closed = markets.filter(pl.col("_end").is_not_null())
    return [
        closed.select(
            "market_id",
            pl.lit(name).alias("cutoff_type"),
            (pl.col("_end") - pl.duration(seconds=seconds)).alias("cutoff_ts"),
        )
        for name, seconds in T_MINUS.items()
    ]


def _daily(markets: pl.DataFrame, usable: pl.DataFrame) -> pl.DataFrame:
    """Midnights after a market's first snapshot and strictly before T (open: its last one)."""
    spans = usable.group_by("market_id").agg(
        pl.col("ts").min().alias("_first"), pl.col("ts").max().alias("_last")
    )
    bounds = spans.join(markets, on="market_id", how="inner").select(
        "market_id",
        pl.col("_first").dt.truncate("1d").dt.offset_by("1d").alias("_low"),
        pl.coalesce(pl.col("_end") - pl.duration(microseconds=1), pl.col("_last"))
        .dt.truncate("1d")
        .alias("_high"),
    )
    days = bounds.filter(pl.col("_low") <= pl.col("_high")).with_columns(
        cutoff_ts=pl.datetime_ranges("_low", "_high", interval="1d")
    )
    return (
        days.explode("cutoff_ts")
        .select("market_id", pl.lit(DAILY).alias("cutoff_type"), "cutoff_ts")
        .cast({"cutoff_ts": polars_schema("cutoff_snapshot")["cutoff_ts"]})
    )


def _admit(joined: pl.DataFrame, policy: CutoffPolicy) -> pl.DataFrame:
    """Keep rows whose snapshot is young enough, and say by which rule."""
    age = (pl.col("cutoff_ts") - pl.col("selected_ts")).dt.total_microseconds() / 1e6
    bounds = {
        "T-24h": policy.lookback_t_minus_24h,
        "T-1h": policy.lookback_t_minus_1h,
        DAILY: policy.lookback_daily,
    }
    bound = pl.col("cutoff_type").replace_strict(bounds, return_dtype=pl.Float64)
    is_near = pl.col("age_seconds") <= bound
    is_wide = pl.lit(value=False)
    if policy.wide_lookback is not None:
        is_wide = pl.col("age_seconds") <= policy.wide_lookback
    rows = joined.with_columns(age_seconds=age).filter(is_near | is_wide)
    rule = pl.when(is_near).then(pl.lit("NEAREST_EARLIER")).otherwise(pl.lit("WIDE_FALLBACK"))
    frame = rows.with_columns(
        selection_rule=rule, schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32)
    )
    return conform("cutoff_snapshot", frame.select(list(polars_schema("cutoff_snapshot")))).sort(
        "market_id", "cutoff_type", "cutoff_ts"
    )
