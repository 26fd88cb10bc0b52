"""Recorded venue records: each one is stored, or is a dead letter that says why."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from market_data.ingest import Stores, derive_labels, store_market_records
from market_data.venues.polymarket.parse import decode_page, parse_history

MakeStores = Callable[..., Stores]


def test_every_recorded_market_is_stored_or_named(recorded: Path, make_stores: MakeStores) -> None:
    stores = make_stores()
    records = [
        orjson.loads(text)
        for text in pl.read_parquet(recorded / "gamma/gamma_markets.parquet")["raw_json"]
    ]
    account = store_market_records(stores, records, "")
    assert account.rows_in == len(records) == 23_995
    assert account.rows_in == account.rows_out + account.duplicates + account.dead_letters
    assert account.dead_letters <= 5
    registry = stores.lake.read("market_registry")
    assert registry.height == account.rows_out
    closed = {r["id"] for r in records if r["closed"]}
    active = registry.filter(pl.col("status") == "ACTIVE")["venue_market_id"]
    assert not closed & set(active)
    assert registry["event_id"].null_count() == 0
    derive_labels(stores.lake)
    labels = stores.lake.read("label_status")
    assert labels.height == registry.height
    assert store_market_records(stores, records, "").rows_written == 0


def test_odd_and_closed_records_are_read(recorded: Path, make_stores: MakeStores) -> None:
    odd = orjson.loads((recorded / "gamma/gamma_odd_records.json").read_bytes())
    with gzip.open(recorded / "gamma/gamma_closed_markets.jsonl.gz") as lines:
        closed = [orjson.loads(line)["record"] for line in lines]
    account = store_market_records(make_stores(), [o["record"] for o in odd] + closed, "")
    assert account.dead_letters == 0
    assert account.rows_out + account.duplicates == len(odd) + len(closed)


def test_a_page_in_utf16_is_read(recorded: Path, make_stores: MakeStores) -> None:
    records = decode_page((recorded / "gamma/gamma_markets_utf16le_bom.json").read_bytes())
    assert store_market_records(make_stores(), records, "").rows_out == len(records) == 50


def test_recorded_price_histories_are_read_whole(recorded: Path) -> None:
    for path in sorted((recorded / "clob").glob("prices_history_*.json")):
        body: Any = orjson.loads(path.read_bytes())
        t, p, rejects = parse_history(body)
        assert not rejects
        assert len(t) == len(body["history"]) > 0
        assert 0 <= min(p) <= max(p) <= 1
