"""Recorded answers of Kalshi and Manifold: each is a row, or is rejected by name."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from market_data.errors import RecordRejected
from market_data.labels import build_labels
from market_data.registry import registry_frame
from market_data.venues.kalshi import parse as kalshi
from market_data.venues.kalshi.rest import with_events
from market_data.venues.manifold import parse as manifold
from market_data.venues.rows import MarketRow

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def lines(path: Path) -> list[Any]:
    with gzip.open(path) as file:
        return [orjson.loads(line)["record"] for line in file]


def read(
    records: Iterable[Any], parse: Callable[[Any], MarketRow]
) -> tuple[pl.DataFrame, Counter[str]]:
    """Labels joined with what the registry says, and the reasons of what was rejected."""
    rows: list[MarketRow] = []
    reasons: Counter[str] = Counter()
    for record in records:
        try:
            rows.append(parse(record))
        except RecordRejected as rejected:
            reasons[rejected.reason] += 1
    registry = registry_frame(rows, [""] * len(rows), EPOCH)
    labels = build_labels(registry).drop("resolved_at", "schema_version")
    return registry.join(labels, on="market_id"), reasons


def test_every_recorded_parlay_of_kalshi_has_several_legs_and_a_category(recorded: Path) -> None:
    records = lines(recorded / "kalshi/kalshi_v2_markets.jsonl.gz")
    found, rejected = read(records, kalshi.parse_market)
    assert (found.height, not rejected) == (len(records), True)
    assert set(found["market_structure"]) == {"MULTI_LEG"}
    assert set(found["category"]) == {"sports"}


def test_recorded_results_of_kalshi_become_labels(recorded: Path) -> None:
    events = lines(recorded / "kalshi/kalshi_v1_events.jsonl.gz")
    records = [market for event in events for market in with_events(event)]
    found, rejected = read(records, kalshi.parse_market)
    assert not rejected
    said = Counter((m["status"], m["result"]) for m in records)
    labels = Counter(found["label"])
    assert labels["RESOLVED_TRUE"] == said["finalized", "yes"]
    assert labels["RESOLVED_FALSE"] == said["finalized", "no"]
    scaled = found.filter(pl.col("reason") == "VENUE_SCALED")
    assert scaled.height == said["finalized", "scalar"] == 1
    assert scaled["outcome_prices"].to_list() == [[0.64, 0.36]]
    assert found.filter(pl.col("category") == "other").height == 0


def test_recorded_candles_of_kalshi_are_read_whole(recorded: Path) -> None:
    path = recorded / "kalshi/golden/series_candlesticks_response.json"
    value = orjson.loads(path.read_bytes())["response"]
    t, p, rejects = kalshi.parse_history(value)
    assert (len(t), rejects) == (len(value["candlesticks"]), [])
    assert t == sorted(t)
    assert 0 < min(p) <= max(p) < 1


def test_every_recorded_market_of_manifold_is_a_row_or_is_named(recorded: Path) -> None:
    records = lines(recorded / "manifold/manifold_markets_list.jsonl.gz")
    found, rejected = read(records, manifold.parse_market)
    assert found.height + rejected.total() == len(records)
    assert set(rejected) == {"ANSWERS_MISSING", "NOT_A_MARKET"}
    resolved = Counter(r["resolution"] for r in records
                       if r["outcomeType"] == "BINARY" and r["isResolved"])  # fmt: skip
    labels = Counter(found["label"])
    assert labels["RESOLVED_TRUE"] == resolved["YES"]
    assert labels["RESOLVED_FALSE"] == resolved["NO"]
    assert Counter(found["reason"])["VENUE_VOID"] == resolved["CANCEL"]
    money = ("volume_total", "volume_24h", "liquidity", "open_interest")
    assert all(found[name].null_count() == found.height for name in money)


def test_recorded_whole_markets_of_manifold_have_their_answers(recorded: Path) -> None:
    records = lines(recorded / "manifold/manifold_market_full.jsonl.gz")
    found, _ = read(records, manifold.parse_market)
    several = found.filter(pl.col("market_structure") == "MULTI_OUTCOME")
    assert several.height > 20
    assert several["outcomes"].list.len().equals(several["token_ids"].list.len())
    won = several.filter(pl.col("label") == "MULTI_OUTCOME")
    assert won.height > 0
    assert won["winner"].null_count() == 0
