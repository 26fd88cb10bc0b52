"""The feature frame: what a market looked like at each snapshot, from the past alone.

A *step* is a snapshot of the same market. Nothing looks ahead: a row depends on its own and earlier
rows of its market, and on rows of the same instant for the event columns. A missing input stays
missing and sets a bit of ``impute_flags``; nothing becomes 0 silently.

======================  ===================================================================
column                  definition (z: log-odds of p_yes in [0.001, 0.999], r: its one-step return)
======================  ===================================================================
logit_return_k          z minus z k steps ago
rolling_std_n           sample standard deviation of the last n returns r, all n present
acceleration            r minus the previous r
reversal                r and the previous r have opposite signs
volume_ratio            volume_24h ÷ its mean over the 12 previous steps
open_interest_change    open_interest ÷ that of the previous step - 1
gap_seconds             time since the market's previous snapshot
is_stale                the data are more than an hour old
distance_from_half      |p_yes - 1/2|
event_consensus         mean p_yes of the event's markets at the same instant
event_dispersion        sample standard deviation of the same, from two markets on
cross_platform_disagreement  p_yes minus the mean price of the same question on other platforms
======================  ===================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntFlag
from functools import reduce
from operator import add

import polars as pl

from calibration_service.frames import conform
from calibration_service.logistic import PRICE_EPS
from market_data.categories import tte_bucket
from market_data.schemas import FEATURE_FRAME

RETURN_STEPS = (1, 3, 6)
STD_STEPS = (3, 5, 12)
VOLUME_STEPS = 12
MEMORY_STEPS = 12
"""A row depends on as many earlier rows of its market, and on no older one."""

FORMULA_VERSION = "features-3"
STALE_SECONDS = 3_600.0


class Impute(IntFlag):
    """Bits of ``impute_flags``: which inputs were missing."""

    PRICE = 1
    RETURNS = 2
    """At least one of the log-odds returns."""
    ROLLING = 4
    """At least one of the rolling standard deviations."""
    VOLUME = 8
    OPEN_INTEREST = 16
    FRESHNESS = 32
    TIME_TO_EVENT = 64
    SPREAD = 128
    EVENT = 256
    """The event has no second market at this instant."""
    LONG_GAP = 512
    """More than an hour since the previous snapshot: the step spans a gap."""
    PLATFORMS = 1024
    """No other platform has a recent price of the same question."""


INPUTS = (
    "p_yes",
    "volume_24h",
    "open_interest",
    "spread",
    "tte_seconds",
    "data_freshness_sec",
)
"""Columns of a snapshot that features are made of."""


def build_features(
    snapshots: pl.DataFrame,
    *,
    registry: pl.DataFrame,
    elsewhere: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Features of every snapshot.

    Args:
        snapshots: rows of ``market_snapshot``, in any order, one per (ts, market_id).
        registry: market_id and event_id; a market that is not in it is its own event.
        elsewhere: ts, market_id and p_elsewhere, what other platforms said at that instant.

    Returns:
        Rows of ``feature_frame``, ordered by market and time.
    """
    events = registry.select("market_id", "event_id")
    ordered = (
        snapshots.select("ts", "market_id", *INPUTS)
        .join(events, on="market_id", how="left")
        .with_columns(
            pl.col(INPUTS).cast(pl.Float64).fill_nan(None),
            pl.col("event_id").fill_null(pl.col("market_id")),
        )
        .sort("market_id", "ts")
    )
    started = pl.col("market_id").ne_missing(pl.col("market_id").shift(1)).alias("starts")
    price = pl.col("p_yes").clip(PRICE_EPS, 1.0 - PRICE_EPS)
    with_steps = (
        ordered.with_columns(started, (price / (1.0 - price)).log().alias("z"))
        .with_columns(pl.int_range(pl.len()).alias("place"))
        .with_columns(
            (pl.col("place") - pl.when("starts").then("place").forward_fill()).alias("step")
        )
    )
    featured = (
        with_steps.with_columns(_returns())
        .with_columns(_from_returns())
        .with_columns(_from_levels())
    )
    return _finish(_with_platforms(_with_events(featured), elsewhere))


def _earlier(column: str, steps: int) -> pl.Expr:
    """The value of the same market some steps ago, null before its first."""
    return pl.when(pl.col("step") >= steps).then(pl.col(column).shift(steps))


def _returns() -> list[pl.Expr]:
    return [
        (pl.col("z") - _earlier("z", steps)).alias(f"logit_return_{steps}")
        for steps in RETURN_STEPS
    ]


def _from_returns() -> list[pl.Expr]:
    """The first return of a market is null, so a full window never crosses into another market."""
    last = pl.col("logit_return_1")
    previous = _earlier("logit_return_1", 1)
    return [
        *(_deviation(last, steps).alias(f"rolling_std_{steps}") for steps in STD_STEPS),
        (last - previous).alias("acceleration"),
        (last.sign() * previous.sign() < 0).alias("reversal"),
    ]


def _deviation(value: pl.Expr, steps: int) -> pl.Expr:
    """Sample standard deviation of the last values, null where one of them is.

    Each window is summed by itself: a running sum would carry the rounding of the rows before it,
    and a row would depend, in its last digits, on which other markets are computed with it.
    """
    window = [value.shift(k) for k in range(steps)]
    mean = _sum(window) / steps
    return (_sum([(one - mean) ** 2 for one in window]) / (steps - 1)).sqrt()


def _sum(terms: Sequence[pl.Expr]) -> pl.Expr:
    return reduce(add, terms)


def _from_levels() -> list[pl.Expr]:
    earlier_volumes = [pl.col("volume_24h").shift(k) for k in range(1, VOLUME_STEPS + 1)]
    trailing = pl.when(pl.col("step") >= VOLUME_STEPS).then(_sum(earlier_volumes) / VOLUME_STEPS)
    before = _earlier("open_interest", 1)
    return [
        pl.when(trailing > 0).then(pl.col("volume_24h") / trailing).alias("volume_ratio"),
        pl.when(before > 0)
        .then(pl.col("open_interest") / before - 1.0)
        .alias("open_interest_change"),
        ((pl.col("ts") - _earlier("ts", 1)).dt.total_microseconds() / 1e6).alias("gap_seconds"),
        (pl.col("data_freshness_sec") > STALE_SECONDS).alias("is_stale"),
        tte_bucket(pl.col("tte_seconds")).alias("tte_bucket"),
        (pl.col("p_yes") - 0.5).abs().alias("distance_from_half"),
    ]


def _with_events(featured: pl.DataFrame) -> pl.DataFrame:
    """Consensus and dispersion of events; markets that are alone in theirs skip the grouping."""
    members = featured.select("event_id", "market_id").unique()["event_id"].value_counts()
    shared = members.filter(pl.col("count") > 1)["event_id"]
    together = (
        featured.filter(pl.col("event_id").is_in(shared.implode()))
        .sort("event_id", "ts", "market_id")
        .group_by("event_id", "ts", maintain_order=True)
        .agg(
            pl.col("p_yes").mean().alias("event_mean"),
            pl.col("p_yes").std().alias("event_dispersion"),
        )
    )
    return featured.join(together, on=["event_id", "ts"], how="left", maintain_order="left")


def _with_platforms(featured: pl.DataFrame, elsewhere: pl.DataFrame | None) -> pl.DataFrame:
    if elsewhere is None or elsewhere.is_empty():
        return featured.with_columns(
            pl.lit(None, dtype=pl.Float64).alias("cross_platform_disagreement")
        )
    said = elsewhere.select("ts", "market_id", "p_elsewhere")
    return featured.join(
        said, on=["ts", "market_id"], how="left", maintain_order="left"
    ).with_columns((pl.col("p_yes") - pl.col("p_elsewhere")).alias("cross_platform_disagreement"))


def _finish(featured: pl.DataFrame) -> pl.DataFrame:
    missing = {
        Impute.PRICE: pl.col("p_yes").is_null(),
        Impute.RETURNS: _any_null([f"logit_return_{steps}" for steps in RETURN_STEPS]),
        Impute.ROLLING: _any_null([f"rolling_std_{steps}" for steps in STD_STEPS]),
        Impute.VOLUME: pl.col("volume_ratio").is_null(),
        Impute.OPEN_INTEREST: pl.col("open_interest_change").is_null(),
        Impute.FRESHNESS: pl.col("data_freshness_sec").is_null(),
        Impute.TIME_TO_EVENT: pl.col("tte_seconds").is_null(),
        Impute.SPREAD: pl.col("spread").is_null(),
        Impute.EVENT: pl.col("event_dispersion").is_null(),
        Impute.PLATFORMS: pl.col("cross_platform_disagreement").is_null(),
        Impute.LONG_GAP: (pl.col("gap_seconds") > STALE_SECONDS).fill_null(value=False),
    }
    bits = [condition.cast(pl.Int64) * int(flag) for flag, condition in missing.items()]
    columns = [name for name in FEATURE_FRAME.schema.names if name not in ("schema_version", "dt")]
    complete = featured.with_columns(
        pl.sum_horizontal(bits).alias("impute_flags"),
        pl.coalesce("event_mean", "p_yes").alias("event_consensus"),
    )
    return conform(complete.select(columns), FEATURE_FRAME)


def _any_null(names: list[str]) -> pl.Expr:
    return pl.any_horizontal(pl.col(name).is_null() for name in names)
