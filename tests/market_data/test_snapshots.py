"""Snapshots know nothing that was not known at their time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import polars as pl
import pytest

from market_data.lake import polars_schema
from market_data.snapshots import before_resolution, build_quotes, build_snapshots, yes_tokens

Rows = Callable[..., pl.DataFrame]
At = Callable[[float], datetime]


def prices(rows: list[tuple[str, datetime, float]]) -> pl.DataFrame:
    kind = polars_schema("market_snapshot")["ts"]
    schema = {"market_id": pl.String(), "ts": kind, "p_yes": pl.Float64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def interest(rows: list[tuple[datetime, str, float]]) -> pl.DataFrame:
    kind = polars_schema("open_interest")["ts"]
    schema = {"ts": kind, "market_id": pl.String(), "open_interest": pl.Float64()}
    return pl.DataFrame(rows, schema=schema, orient="row")


def test_open_interest_is_joined_as_of_each_price(registry_rows: Rows, at: At) -> None:
    registry = registry_rows([("m", at(48), at(50)), ("n", at(48), at(50))])
    known = interest([(at(1), "m", 500.0), (at(10), "m", 50_000.0), (at(20), "m", 200_000.0)])
    points = prices([("m", at(h), 0.5) for h in (0, 5, 15, 25)] + [("n", at(5), 0.4)])
    rows = build_snapshots(points, registry, known)
    assert rows.filter(pl.col("market_id") == "m")["liquidity_bucket"].to_list() == [
        "UNSPECIFIED",
        "LOW",
        "MID",
        "HIGH",
    ]
    assert rows.filter(pl.col("market_id") == "n")["liquidity_bucket"].to_list() == ["UNSPECIFIED"]


def test_prices_at_or_after_the_resolution_are_left_out(registry_rows: Rows, at: At) -> None:
    registry = registry_rows([("m", at(10), at(50))])
    points = prices([("m", at(9), 0.5), ("m", at(10), 0.9), ("m", at(11), 1.0)])
    rows = build_snapshots(points, registry)
    assert rows["ts"].to_list() == [at(9)]
    assert rows["tte_seconds"].to_list() == [41 * 3600.0]


def test_rows_stored_before_the_resolution_was_known_are_filtered(
    registry_rows: Rows, snapshot_rows: Rows, at: At
) -> None:
    snapshots = snapshot_rows([("m", at(9), 0.5), ("m", at(10), 0.9), ("o", at(11), 0.2)])
    registry = registry_rows([("m", at(10), None), ("o", None, None)])
    assert before_resolution(snapshots, registry)["ts"].to_list() == [at(9), at(11)]


def test_the_yes_token_follows_the_yes_outcome(registry_rows: Rows) -> None:
    registry = registry_rows([("m", None, None), ("n", None, None)])
    swapped = registry.with_columns(
        outcomes=pl.when(pl.col("market_id") == "n")
        .then(pl.lit(["No", "Yes"]))
        .otherwise(pl.col("outcomes"))
    )
    assert yes_tokens(swapped)["token_id"].to_list() == ["m-y", "n-n"]


def test_a_quote_is_the_mid_of_a_sane_book_else_the_last_trade(registry_rows: Rows, at: At) -> None:
    names = ["mid", "wide", "none", "closed"]
    registry = registry_rows(
        [(n, at(1) if n == "closed" else None, at(90)) for n in names]
    ).with_columns(
        platform=pl.lit("polymarket"),
        best_bid=pl.Series([0.40, 0.10, None, 0.4]),
        best_ask=pl.Series([0.44, 0.90, None, 0.5]),
        last_trade_price=pl.Series([0.10, 0.30, None, 0.4]),
        volume_24h=pl.Series([20_000.0, None, 1.0, 1.0]),
        venue_updated_at=pl.lit(at(2)).cast(polars_schema("market_snapshot")["ts"]),
    )
    rows = build_quotes(registry)
    found = dict(rows.select("market_id", "p_yes").iter_rows())
    assert found == pytest.approx({"mid": 0.42, "wide": 0.30})
    assert rows["liquidity_bucket"].to_list() == ["MID", "UNSPECIFIED"]


def test_a_quote_is_turned_around_where_yes_is_the_second_outcome(
    registry_rows: Rows, at: At
) -> None:
    names = ["book", "traded", "one-sided", "plain"]
    registry = registry_rows([(n, None, at(90)) for n in names]).with_columns(
        outcomes=pl.Series([["No", "Yes"], ["no", "YES"], ["No", "Yes"], ["Yes", "No"]]),
        platform=pl.lit("polymarket"),
        best_bid=pl.Series([0.90, 0.10, None, 0.90]),
        best_ask=pl.Series([0.92, 0.90, 0.97, 0.92]),
        last_trade_price=pl.Series([0.5, 0.70, 0.95, 0.5]),
        venue_updated_at=pl.lit(at(2)).cast(polars_schema("market_snapshot")["ts"]),
    )
    rows = build_quotes(registry)
    assert dict(rows.select("market_id", "p_yes").iter_rows()) == pytest.approx(
        {"book": 0.09, "traded": 0.30, "one-sided": 0.05, "plain": 0.91}
    )
    assert rows["p_no"].to_list() == pytest.approx([1 - p for p in rows["p_yes"]])
    sides = {m: (b, a) for m, b, a in rows.select("market_id", "bid", "ask").iter_rows()}
    assert sides["book"] == pytest.approx((0.08, 0.10))
    assert sides["plain"] == pytest.approx((0.90, 0.92))
    assert sides["one-sided"] == (pytest.approx(0.03), None)


def test_the_order_of_price_points_does_not_matter(registry_rows: Rows, at: At) -> None:
    registry = registry_rows([("m", at(100), at(100)), ("n", None, at(90))])
    points = prices([(m, at(h), h / 100) for m in "mn" for h in range(60)])
    shuffled = points.sample(fraction=1, shuffle=True, seed=5)
    assert build_snapshots(points, registry).equals(build_snapshots(shuffled, registry))


def test_a_quote_is_never_dated_before_it_was_known(registry_rows: Rows, at: At) -> None:
    kind = polars_schema("market_snapshot")["ts"]
    registry = registry_rows([(n, None, at(90)) for n in ("p", "k", "m")]).with_columns(
        platform=pl.Series(["polymarket", "kalshi", "manifold"]),
        last_trade_price=pl.lit(0.5),
        venue_updated_at=pl.lit(at(2)).cast(kind),
        ingested_at=pl.lit(at(30)).cast(kind),
    )
    found = dict(build_quotes(registry).select("market_id", "ts").iter_rows())
    assert found == {"p": at(2), "k": at(30), "m": at(30)}
