"""What is known of markets: read once, taken over whole, and never before it was there."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows.live_facts import HOUR_MS, KEPT_MS, Facts, MarketFacts, read_facts
from flows.recorded_facts import RecordedFacts
from market_data.lake import Lake, empty

NOON = 1_790_000_000_000 // (24 * HOUR_MS) * 24 * HOUR_MS + 12 * HOUR_MS
NAN = math.nan


def at(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1_000, UTC)


def put(lake: Lake, table: str, *rows: dict[str, Any]) -> None:
    nothing = empty(table).drop("schema_version", "dt", strict=False)
    lake.upsert(table, pl.concat([nothing, pl.DataFrame(list(rows))], how="diagonal_relaxed"))


def snapshot(ms: int, usd: float, market_id: str = "m") -> dict[str, Any]:
    return {"ts": at(ms), "market_id": market_id, "open_interest": usd}


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def test_a_reading_counts_once_however_often_it_is_read(lake: Lake) -> None:
    readings = [(NOON - hour * HOUR_MS // 4, 100.0 + hour) for hour in range(40)]
    put(lake, "market_snapshot", *(snapshot(*one) for one in readings))
    facts = Facts()
    for _ in range(3):
        facts.read(lake, ["m"])
    assert facts.of("m").open_interest == sorted(readings)


def test_only_what_is_newer_than_twelve_hours_is_read_again(lake: Lake) -> None:
    old, new = NOON - 30 * 24 * HOUR_MS, NOON - 13 * HOUR_MS
    put(lake, "market_snapshot", *(snapshot(ms, 1.0) for ms in (old, new, NOON)))
    first = read_facts(lake, ["m"], None)
    assert [ms for ms, _ in first.open_interest["m"]] == [new, NOON]  # of the last two days
    facts = Facts()
    assert facts.since_ms() is None
    facts.apply(first)
    assert facts.of("m").open_interest == [(NOON, 1.0)]
    again = read_facts(lake, ["m"], facts.since_ms())
    assert [ms for ms, _ in again.open_interest["m"]] == [NOON]


def test_readings_are_trimmed_against_the_newest_one_in_whatever_order_they_come() -> None:
    readings = [(NOON - hour * HOUR_MS, float(hour)) for hour in range(20)]
    forward, backward = MarketFacts(), MarketFacts()
    for one in sorted(readings):
        forward.add_open_interest(*one)
    for one in readings:
        backward.add_open_interest(*one)
    kept = [one for one in sorted(readings) if one[0] >= NOON - KEPT_MS]
    assert forward.open_interest == backward.open_interest == kept
    backward.add_open_interest(NOON, NAN)
    assert backward.open_interest == kept


def test_whoever_holds_readings_never_sees_them_change(lake: Lake) -> None:
    facts = Facts()
    facts.of("m").take_readings((NOON + n, 1.0) for n in range(0, 100, 2))
    held = facts.of("m").open_interest
    before = list(held)
    facts.of("m").add_open_interest(NOON + 1, 2.0)
    facts.of("m").add_open_interest(NOON + 2 * KEPT_MS, 2.0)
    put(lake, "market_snapshot", snapshot(NOON + 3, 3.0))
    update = read_facts(lake, ["m"], None)
    assert facts.of("m").open_interest == [(NOON + 2 * KEPT_MS, 2.0)]  # reading alone tells nothing
    facts.apply(update)
    assert held == before


def test_a_fact_is_known_from_when_it_was_said(lake: Lake) -> None:
    question = {"market_id": "m", "prompt_version": "1", "text_digest": "d"}
    put(lake, "question_quality",
        question | {"llm_model": "rules-1", "scored_by": "RULES", "ambiguity": 0.6,
                    "scored_at": at(NOON + 1)},
        question | {"llm_model": "big", "scored_by": "MODEL", "ambiguity": 0.2,
                    "scored_at": at(NOON + 3)})  # fmt: skip
    put(lake, "trust_score", {"ts": at(NOON), "market_id": "m", "score": 50.0},
        {"ts": at(NOON + 2), "market_id": "m", "score": 90.0})  # fmt: skip
    put(lake, "market_snapshot", snapshot(NOON, 10.0), snapshot(NOON + 3, 5.0))
    put(lake, "market_registry", {"market_id": "m", "tick_size": 0.001})
    put(lake, "market_registry_history",
        {"market_id": "m", "changed_at": at(NOON + 2), "field": "tick_size", "old_value": "0.01",
         "new_value": "0.001", "kind": "CHANGE"})  # fmt: skip
    recorded = RecordedFacts(lake, ["m"], since_ms=NOON, until_ms=NOON + 4)
    facts, seen = Facts(), []
    for ms in range(NOON - 1, NOON + 4):
        recorded.tell(facts, ms)
        one = facts.of("m")
        seen.append((one.trust, one.ambiguity, one.tick_size, len(one.open_interest)))
    assert str(seen) == str([
        (NAN, NAN, 0.01, 0), (50.0, NAN, 0.01, 1), (50.0, 0.6, 0.01, 1), (90.0, 0.6, 0.001, 1),
        (90.0, 0.2, 0.001, 2),
    ])  # fmt: skip
