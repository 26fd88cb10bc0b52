"""Events bring their titles, tags and markets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from market_data.errors import RecordRejected
from market_data.event_ingest import ingest_events, store_event_records
from market_data.ingest import Stores, ingest_markets
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay
from market_data.venues.polymarket.parse import parse_event, parse_market

MakeStores = Callable[..., Stores]


async def test_events_and_their_markets_are_those_of_the_venue(
    replay: RunningReplay, archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    by_event, by_market = make_stores("events"), make_stores("markets")
    async for rest in rest_at(replay.base_url, page_size=9):
        done = await ingest_events(rest, by_event)
        again = await ingest_events(rest, by_event)
        await ingest_markets(rest, by_market)
    assert (done.rows_out, done.dead_letters, again.rows_written) == (len(archive.events), 0, 0)
    events = by_event.lake.read("market_event")
    assert set(events["title"]) == {event["title"] for event in archive.events}
    assert events["market_count"].sum() == len(archive.markets)
    one, other = (
        stores.lake.read("market_registry").drop("raw_sha256", "ingested_at").sort("market_id")
        for stores in (by_event, by_market)
    )
    assert one.equals(other)


def test_an_older_event_takes_nothing_from_a_newer_one(
    archive: Archive, make_stores: MakeStores
) -> None:
    stores = make_stores()
    new = archive.events[0] | {"updatedAt": "2026-09-02T00:00:00Z", "title": "New"}
    old = archive.events[0] | {"updatedAt": "2026-09-01T00:00:00Z", "title": "Old"}
    for event in (new, old):
        store_event_records(stores, [event], "raw")
    assert stores.lake.read("market_event")["title"].to_list() == ["New"]


@pytest.mark.parametrize(
    ("record", "reason"), [([], "NOT_AN_OBJECT"), ({"closed": True}, "ID_MISSING"),
                           ({"id": "1"}, "CLOSED_MISSING")],
)  # fmt: skip
def test_an_event_that_cannot_be_read_is_rejected_by_name(record: Any, reason: str) -> None:
    with pytest.raises(RecordRejected) as caught:
        parse_event(record)
    assert caught.value.reason == reason


def test_recorded_events_are_read_with_their_markets(recorded: Path) -> None:
    lines = (recorded / "gamma/gamma_events.jsonl").read_bytes().splitlines()
    for line in lines:
        event, nested = parse_event(orjson.loads(line)["record"])
        markets = [parse_market(record) for record in nested]
        assert event.title
        assert event.market_count == len(markets) > 0
        assert {market.event_id for market in markets} == {event.event_id}
