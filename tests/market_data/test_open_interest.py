"""Open interest counts every flow, whenever its market becomes known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from market_data.ingest import Stores, ingest_markets, ingest_open_interest
from market_data.intake import IngestResult
from market_data.replay.archive import Archive
from market_data.replay.server import serve

MakeStores = Callable[..., Stores]


@pytest.fixture
def ingest(rest_at: Any) -> Any:
    """Lists the markets of an archive and reads its flows."""

    async def run(archive: Archive, stores: Stores) -> IngestResult:
        with serve(archive) as replay:
            async for rest in rest_at(replay.base_url):
                await ingest_markets(rest, stores)
                done = await ingest_open_interest(rest, stores)
        return done

    return run


def interest(stores: Stores) -> pl.DataFrame:
    return stores.lake.read("open_interest").sort("market_id", "ts")


@pytest.fixture
def early(archive: Archive) -> Archive:
    """The venue before the market of its first split was listed."""
    first = min(archive.splits, key=lambda split: int(split["timestamp"]))
    others = [m for m in archive.markets if m["conditionId"] != first["condition"]]
    assert len(others) == len(archive.markets) - 1
    return dataclasses.replace(archive, markets=others)


async def test_flows_that_came_before_their_market_was_listed_count_after_it_is(
    archive: Archive, early: Archive, make_stores: MakeStores, ingest: Any
) -> None:
    growing, whole = make_stores("growing"), make_stores("whole")
    turned_away = await ingest(early, growing)
    assert turned_away.dead_letters > 0
    await ingest(archive, growing)
    await ingest(archive, whole)
    assert interest(growing).equals(interest(whole))


async def test_flows_are_fetched_once_more_and_then_no_longer(
    archive: Archive, early: Archive, make_stores: MakeStores, ingest: Any
) -> None:
    stores = make_stores()
    await ingest(early, stores)
    unchanged = await ingest(early, stores)
    caught_up = await ingest(archive, stores)
    settled = await ingest(archive, stores)
    assert settled.rows_in <= unchanged.rows_in < caught_up.rows_in
    assert settled.rows_written == unchanged.rows_written == 0


async def test_a_flow_that_stays_unreadable_is_not_asked_for_for_ever(
    archive: Archive, early: Archive, make_stores: MakeStores, ingest: Any
) -> None:
    listed = {market["conditionId"] for market in early.markets}
    spoilt = [
        split if split["condition"] in listed else split | {"amount": "many"}
        for split in archive.splits
    ]
    early, late = (dataclasses.replace(a, splits=spoilt) for a in (early, archive))
    stores = make_stores()
    await ingest(early, stores)
    caught_up = await ingest(late, stores)
    settled = await ingest(late, stores)
    assert settled.rows_in < caught_up.rows_in
