"""The registry keeps the newest record and says what changed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl

from market_data.ingest import Stores, store_market_records
from market_data.lake import empty
from market_data.registry import registry_frame, update_registry
from market_data.venues.polymarket.parse import parse_market

NOW = datetime(2026, 10, 1, tzinfo=UTC)
Record = Callable[..., dict[str, Any]]


def frame(*records: dict[str, Any]) -> pl.DataFrame:
    return registry_frame([parse_market(r) for r in records], [""] * len(records), NOW)


def test_the_newest_record_wins_in_any_order(record: Record) -> None:
    old = record(updatedAt="2026-09-01T00:00:00Z", question="Old?")
    new = record(updatedAt="2026-09-02T00:00:00Z", question="New?")
    for order in ((old, new), (new, old)):
        update = update_registry(empty("market_registry"), frame(*order))
        assert update.rows["question"].to_list() == ["New?"]
        assert update.superseded == 1


def test_a_late_old_page_changes_nothing(record: Record) -> None:
    stored = frame(record(question="New?"))
    late = frame(record(question="Old?", updatedAt="2026-08-01T00:00:00Z"))
    update = update_registry(stored, late)
    assert update.rows["question"].to_list() == ["New?"]
    assert update.history.is_empty()


def test_a_change_is_kept_with_both_values(record: Record) -> None:
    stored = frame(record(closed=False, updatedAt="2026-08-01T00:00:00Z"))
    update = update_registry(stored, frame(record()))
    changes = {r["field"]: r for r in update.history.iter_rows(named=True)}
    assert (changes["status"]["old_value"], changes["status"]["new_value"]) == (
        "ACTIVE",
        "RESOLVED",
    )
    assert changes["status"]["kind"] == "CHANGE"


def test_a_changed_identity_is_a_conflict(record: Record) -> None:
    update = update_registry(frame(record()), frame(record(conditionId="0xother")))
    assert update.history.select("field", "kind").rows() == [("condition_id", "CONFLICT")]


def test_a_closed_market_does_not_stay_active(record: Record) -> None:
    assert frame(record())["status"].to_list() == ["RESOLVED"]
    assert frame(record(outcomePrices='["0.5","0.5"]'))["status"].to_list() == ["VOID"]
    assert frame(record(outcomePrices='["0","0"]'))["status"].to_list() == ["UNRESOLVED"]
    assert frame(record(outcomePrices='["0","0"]'))["resolved_at"].to_list() == [None]


def test_storing_the_same_records_again_makes_no_commit(
    make_stores: Callable[..., Stores], record: Record
) -> None:
    stores = make_stores()
    records = [
        record(id="1", question="A?", updatedAt="2026-09-01T00:00:00Z"),
        record(id="1", question="B?", updatedAt="2026-09-02T00:00:00Z"),
        record(id="2", conditionId="0x1"),
        record(id="2", conditionId="0x2"),
        {"id": "3"},
    ]
    tables = ("market_registry", "market_registry_history", "dead_letter")
    first = store_market_records(stores, records, "x")
    versions = [stores.lake.version(table) for table in tables]
    again = store_market_records(stores, records, "x")
    assert first.rows_in == first.rows_out + first.duplicates + first.dead_letters == 5
    assert again.rows_written == 0
    assert [stores.lake.version(table) for table in tables] == versions
