"""Price points and open interest → ``market_snapshot`` rows.

The price of YES, ``p_yes``, is the price of the outcome at ``labels.yes_index``, which is the one
that a label calls true. A history is that outcome's own; a Gamma record quotes its first outcome,
so the quote of a market with the outcomes No and Yes, in this order, is turned around.

A snapshot knows nothing that was not known at its time: open interest is joined as of the
snapshot, and 24-hour volume, bid and ask are only there where they were recorded with the price.
``liquidity_bucket`` therefore rests on open interest for past prices, and is UNSPECIFIED where
that is unknown too. Points at or after the resolution known to the registry are left out.
"""

from __future__ import annotations

import polars as pl

from market_data.categories import liquidity_bucket
from market_data.labels import yes_index
from market_data.lake import conform, polars_schema
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.sources import DATES_ITS_QUOTES, SOURCES

SANE_SPREAD = 0.10
"""A mid between bid and ask is a price only while they are this close, in probability units."""


def yes_tokens(registry: pl.DataFrame) -> pl.DataFrame:
    """(market_id, token_id) of the YES side of every market that has tokens."""
    return (
        registry.filter(pl.col("token_ids").list.len() > 0)
        .select(
            "market_id",
            pl.col("token_ids").list.get(yes_index(pl.col("outcomes"))).alias("token_id"),
        )
        .sort("market_id")
    )


def build_snapshots(
    prices: pl.DataFrame, registry: pl.DataFrame, open_interest: pl.DataFrame | None = None
) -> pl.DataFrame:
    """Snapshots of recorded prices.

    Args:
        prices: market_id text, ts UTC, p_yes float64 in [0, 1]; of points with one market and
            time the last one counts.
        registry: ``market_registry`` rows of these markets.
        open_interest: ``open_interest`` rows; a market without any has an unknown open interest.

    Returns:
        ``market_snapshot`` rows, sorted by market and time.
    """
    points = prices.unique(["market_id", "ts"], keep="last", maintain_order=True)
    known = _with_market(points, registry, "platform").with_columns(
        bid=pl.lit(None, dtype=pl.Float64),
        ask=pl.lit(None, dtype=pl.Float64),
        volume_24h=pl.lit(None, dtype=pl.Float64),
        data_source=_source("history"),
        data_freshness_sec=pl.lit(0.0),
    )
    return _finish(known, open_interest)


def build_quotes(registry: pl.DataFrame, open_interest: pl.DataFrame | None = None) -> pl.DataFrame:
    """One snapshot for each open market from its own record, at the instant at which it was true.

    That is the venue's time of update where this moves with the quotes, else when the record was
    received: so a quote is never dated before it was known. The price is the mid of bid and ask
    while the spread is sane, else the last trade; a market with neither has no snapshot.
    """
    bid, ask, traded = _yes_quote()
    is_sane = (ask > bid) & (ask - bid <= SANE_SPREAD) & (bid >= 0) & (ask <= 1)
    last = pl.when(traded.is_between(0, 1, closed="none")).then(traded)
    at = pl.when(pl.col("platform").is_in(DATES_ITS_QUOTES)).then("venue_updated_at")
    is_open = pl.col("status") == "ACTIVE"
    quoted = registry.with_columns(at.otherwise("ingested_at").alias("ts")).filter(
        is_open & pl.col("ts").is_not_null()
    )
    quoted = quoted.select(
        "market_id",
        "ts",
        pl.when(is_sane).then((bid + ask) / 2).otherwise(last).alias("p_yes"),
        pl.when(bid.is_between(0, 1)).then(bid).alias("bid"),
        pl.when(ask.is_between(0, 1)).then(ask).alias("ask"),
        "volume_24h",
        _source("markets").alias("data_source"),
        pl.lit(0.0).alias("data_freshness_sec"),
    )
    priced = quoted.filter(pl.col("p_yes").is_not_null())
    return _finish(_with_market(priced, registry), open_interest)


def _yes_quote() -> tuple[pl.Expr, pl.Expr, pl.Expr]:
    """Bid, ask and last trade of YES, from those of the first outcome."""
    bid, ask, traded = (pl.col(c) for c in ("best_bid", "best_ask", "last_trade_price"))
    is_second = yes_index(pl.col("outcomes")) == 1
    turned = ((1.0 - ask, bid), (1.0 - bid, ask), (1.0 - traded, traded))
    of_yes = [pl.when(is_second).then(other).otherwise(own) for other, own in turned]
    return of_yes[0], of_yes[1], of_yes[2]


def before_resolution(snapshots: pl.DataFrame, registry: pl.DataFrame) -> pl.DataFrame:
    """Snapshots strictly before the resolution (or close) that the registry knows."""
    ends = registry.select(
        "market_id", pl.coalesce("resolved_at", "closed_at").alias("_resolution")
    )
    return (
        snapshots.join(ends, on="market_id", how="left")
        .filter(pl.col("_resolution").is_null() | (pl.col("ts") < pl.col("_resolution")))
        .drop("_resolution")
    )


def _source(kind: str) -> pl.Expr:
    """The name of a platform's source of this kind (a field of ``Sources``)."""
    names = {platform: getattr(sources, kind) for platform, sources in SOURCES.items()}
    return pl.col("platform").replace_strict(names, default=None, return_dtype=pl.String)


def _with_market(points: pl.DataFrame, registry: pl.DataFrame, *more: str) -> pl.DataFrame:
    """Join end and number of outcomes; drop what lies at or after the resolution."""
    columns = ("market_id", "end_at", *more)
    markets = registry.select(*columns, pl.col("outcomes").list.len().alias("_n"))
    return before_resolution(points.join(markets, on="market_id", how="inner"), registry)


def _finish(points: pl.DataFrame, open_interest: pl.DataFrame | None) -> pl.DataFrame:
    joined = _as_of(points.sort("ts"), open_interest)
    tte = (pl.col("end_at") - pl.col("ts")).dt.total_milliseconds() / 1e3
    columns = list(polars_schema("market_snapshot"))
    frame = joined.with_columns(
        p_no=pl.when(pl.col("_n") == 2).then(1.0 - pl.col("p_yes")),
        spread=pl.col("ask") - pl.col("bid"),
        num_traders_proxy=pl.lit(None, dtype=pl.Int64),
        tte_seconds=tte,
        liquidity_bucket=liquidity_bucket(pl.col("volume_24h"), pl.col("open_interest")),
        schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32),
        dt=pl.col("ts").dt.strftime("%Y-%m-%d"),
    )
    return conform("market_snapshot", frame.select(columns)).sort("market_id", "ts")


def _as_of(points: pl.DataFrame, open_interest: pl.DataFrame | None) -> pl.DataFrame:
    """Add the open interest known at each point; ``points`` are sorted by ts."""
    if open_interest is None or open_interest.is_empty():
        return points.with_columns(open_interest=pl.lit(None, dtype=pl.Float64))
    known = open_interest.select("market_id", "ts", "open_interest").sort("ts")
    return points.join_asof(known, on="ts", by="market_id", check_sortedness=False)
