"""Dead letters: what a parser can read by now becomes a row, once; the rest says why it stays."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from flows.dead_letters import listed, replay
from flows.settings import FlowSettings
from market_data.ingest import store_market_records
from market_data.intake import DeadLetters, Stores, bury
from market_data.lake import Lake
from market_data.raw import RawStore
from market_data.replay.archive import Archive
from market_data.venues.sources import EVENTS_SOURCE, FLOWS_SOURCE, OUTCOMES_SOURCE, SOURCES

GAMMA = SOURCES["polymarket"].markets
HISTORY = SOURCES["polymarket"].history
AS_OF = datetime(2026, 10, 1, tzinfo=UTC)


@pytest.fixture
def settings(settings_for: Callable[..., FlowSettings]) -> FlowSettings:
    return settings_for("http://127.0.0.1:9")


@pytest.fixture
def buried(settings: FlowSettings, archive: Archive) -> Lake:
    """Two sound markets that an earlier parser rejected, a bad one, a point, a failed request."""
    lake = Lake(settings.lake)
    stores = Stores(lake, RawStore(settings.raw), lambda: AS_OF)
    of_markets, of_history = DeadLetters(GAMMA), DeadLetters(HISTORY)
    for record in archive.markets[:2]:
        of_markets.add(record, "NO_TOKENS", "an earlier parser", "raw")
    of_markets.add({"id": "1", "question": None}, "NO_QUESTION", "", "raw")
    of_markets.add('{"id": "2", "quest', "TOO_LONG", "", "raw")
    of_history.add({"id": "polymarket:1", "point": {"t": 1, "p": 2}}, "PRICE_RANGE", "", "raw")
    of_history.add({"id": "polymarket:1", "startTs": 1}, "VenueServerError", "503", None)
    bury(stores, of_markets)
    bury(stores, of_history)
    return lake


def test_what_can_be_read_now_is_stored_and_its_letter_settled(
    settings: FlowSettings, buried: Lake, archive: Archive
) -> None:
    run = replay.fn(as_of=AS_OF, flow_settings=settings)
    done = run.stages["letters"]
    assert (done.rows_in, done.rows_out, done.rows_written, done.set_aside) == (6, 2, 2, 4)
    assert done.note.split("; ") == [
        "settled: NO_TOKENS 2",
        "rejected again: CLOSED_MISSING 1, CUT_SHORT 1",
        "asked again by the next ingestion: VenueServerError 1",
        "points and flows stay: PRICE_RANGE 1",
    ]
    stored = set(buried.read("market_registry")["venue_market_id"])
    assert stored == {str(record["id"]) for record in archive.markets[:2]}
    settled = buried.read("dead_letter", pl.col("settled_at").is_not_null())
    assert set(settled["settled_by"]) == {run.run_id}
    assert set(settled["reason"]) == {"NO_TOKENS"}


def test_a_second_replay_finds_nothing_more_to_do(settings: FlowSettings, buried: Lake) -> None:
    replay.fn(as_of=AS_OF, flow_settings=settings)
    version = buried.version("dead_letter"), buried.version("market_registry")
    again = replay.fn(as_of=AS_OF, flow_settings=settings).stages["letters"]
    assert (again.rows_in, again.rows_out, again.rows_written) == (4, 0, 0)
    assert (buried.version("dead_letter"), buried.version("market_registry")) == version


def test_only_the_chosen_source_or_reason_is_read_again(
    settings: FlowSettings, buried: Lake
) -> None:
    other = replay.fn(source=HISTORY, as_of=AS_OF, flow_settings=settings)
    assert other.stages["letters"].rows_in == 2
    reason = replay.fn(reason="NO_TOKENS", as_of=AS_OF, flow_settings=settings)
    assert reason.stages["letters"].note == "settled: NO_TOKENS 2"


def test_a_record_that_is_rejected_once_more_is_open_again(
    settings: FlowSettings, buried: Lake, archive: Archive
) -> None:
    replay.fn(as_of=AS_OF, flow_settings=settings)
    rejected = DeadLetters(GAMMA)
    rejected.add(archive.markets[0], "NO_TOKENS", "an earlier parser", "raw")
    bury(Stores(buried, RawStore(settings.raw), lambda: AS_OF), rejected)
    counts: dict[str, Any] = listed(buried, reason="NO_TOKENS")[0]
    assert (counts["open"], counts["settled"]) == (1, 1)


def test_an_event_is_stored_with_its_markets(settings: FlowSettings, archive: Archive) -> None:
    lake = Lake(settings.lake)
    event = {**archive.events[0], "markets": [archive.markets[0]]}
    letters = DeadLetters(EVENTS_SOURCE)
    letters.add(event, "NO_TITLE", "", "raw")
    bury(Stores(lake, RawStore(settings.raw), lambda: AS_OF), letters)
    replay.fn(as_of=AS_OF, flow_settings=settings)
    assert lake.read("market_event").height == 1
    assert lake.read("market_registry").height == 1


def test_an_older_record_takes_nothing_from_a_newer_one(
    settings: FlowSettings, buried: Lake, archive: Archive
) -> None:
    replay.fn(as_of=AS_OF, flow_settings=settings)
    before = buried.read("market_registry").sort("market_id")
    old = {**archive.markets[0], "question": "What?", "updatedAt": "2020-01-01T00:00:00Z"}
    letters = DeadLetters(GAMMA)
    letters.add(old, "NO_TOKENS", "", "raw")
    bury(Stores(buried, RawStore(settings.raw), lambda: AS_OF), letters)
    replay.fn(as_of=AS_OF, flow_settings=settings)
    now = buried.read("market_registry").sort("market_id")
    assert now["question"].to_list() == before["question"].to_list()


def test_a_record_that_was_received_earlier_takes_nothing_from_an_equally_new_one(
    settings: FlowSettings, archive: Archive
) -> None:
    lake, raw = Lake(settings.lake), RawStore(settings.raw)
    letters = DeadLetters(GAMMA)
    letters.add({**archive.markets[0], "question": "What?"}, "NO_TOKENS", "", "raw")
    bury(Stores(lake, raw, lambda: AS_OF), letters)
    later = Stores(lake, raw, lambda: AS_OF + timedelta(days=1))
    store_market_records(later, archive.markets[:1], "raw")
    run = replay.fn(as_of=AS_OF, flow_settings=settings)
    assert run.stages["letters"].note == "settled: NO_TOKENS 1"
    assert lake.read("market_registry")["question"].to_list() == [archive.markets[0]["question"]]


def test_records_that_are_left_out_by_rule_by_now_are_settled(settings: FlowSettings) -> None:
    lake = Lake(settings.lake)
    letters = DeadLetters(SOURCES["manifold"].markets)
    poll = {"id": "x", "isResolved": False, "outcomeType": "POLL", "question": "Which?"}
    letters.add(poll, "NOT_A_MARKET", "POLL", "raw")
    bury(Stores(lake, RawStore(settings.raw), lambda: AS_OF), letters)
    run = replay.fn(as_of=AS_OF, flow_settings=settings)
    assert run.stages["letters"].note == "settled: NOT_A_MARKET 1"
    assert lake.read("market_registry").is_empty()


def test_what_becomes_of_flows_and_outcomes_is_told_by_kind(settings: FlowSettings) -> None:
    lake = Lake(settings.lake)
    stores = Stores(lake, RawStore(settings.raw), lambda: AS_OF)
    flows, outcomes = DeadLetters(FLOWS_SOURCE), DeadLetters(OUTCOMES_SOURCE)
    flows.add({"id": "0x1", "condition": "0xc"}, "UNKNOWN_CONDITION", "0xc", "raw")
    flows.add({"id": "0x2", "amount": "many"}, "AMOUNT_UNREADABLE", "", "raw")
    flows.add({"entity": "splits"}, "VenueRefused", "400", None)
    outcomes.add({"tokens": None}, "TOKENS_UNREADABLE", "", "raw")
    bury(stores, flows)
    bury(stores, outcomes)
    done = replay.fn(as_of=AS_OF, flow_settings=settings).stages["letters"]
    assert done.note.split("; ") == [
        "asked again by the next ingestion: TOKENS_UNREADABLE 1, VenueRefused 1",
        "fetched once their market is known: UNKNOWN_CONDITION 1",
        "points and flows stay: AMOUNT_UNREADABLE 1",
    ]


def test_letters_are_counted_by_source_and_reason(buried: Lake) -> None:
    rows = listed(buried)
    assert [(row["source"], row["reason"], row["open"]) for row in rows] == [
        (HISTORY, "PRICE_RANGE", 1),
        (HISTORY, "VenueServerError", 1),
        (GAMMA, "NO_QUESTION", 1),
        (GAMMA, "NO_TOKENS", 2),
        (GAMMA, "TOO_LONG", 1),
    ]
    assert [row["reason"] for row in rows if row["asked again"]] == ["VenueServerError"]
    assert listed(buried, source=GAMMA, reason="TOO_LONG")[0]["open"] == 1
