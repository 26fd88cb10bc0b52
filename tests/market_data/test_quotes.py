"""Quotes of records are dated by when they were true, and what is left out by rule is counted."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import polars as pl
import pytest

from market_data.ingest import Stores, ingest_markets, ingest_prices
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, serve
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.kalshi.rest import KalshiRest
from market_data.venues.kalshi.settings import KalshiSettings
from market_data.venues.manifold.rest import ManifoldRest
from market_data.venues.manifold.settings import ManifoldSettings
from market_data.venues.port import Venue
from market_data.venues.sources import SOURCES

MakeStores = Callable[..., Stores]
Ask = Callable[[str, VenueHttp], Venue]
VENUES: dict[str, Ask] = {
    "kalshi": lambda url, http: KalshiRest(http, KalshiSettings(f"{url}/kalshi")),
    "manifold": lambda url, http: ManifoldRest(http, ManifoldSettings(f"{url}/manifold")),
}


@pytest.fixture(scope="module")
def mirrored() -> Archive:
    return simulate(
        SimulationConfig(seed=29, n_markets=60, snapshots_per_market=6, mirror_share=0.5)
    )


@pytest.fixture(scope="module")
def running(mirrored: Archive) -> Iterator[RunningReplay]:
    with serve(mirrored) as replay:
        yield replay


async def ingest(platform: str, url: str, stores: Stores) -> int:
    """Lists markets and reads prices; how many records were left out of the listing."""
    async with VenueHttp(HttpPolicy()) as http:
        venue = VENUES[platform](url, http)
        listed = await ingest_markets(venue, stores)
        await ingest_prices(venue, stores)
    assert listed.rows_in == (
        listed.rows_out + listed.duplicates + listed.dead_letters + listed.left_out
    )
    return listed.left_out


def quotes(stores: Stores, platform: str) -> pl.DataFrame:
    source = pl.col("data_source") == SOURCES[platform].markets
    return stores.lake.read("market_snapshot", source).sort("market_id", "ts")


def moved(archive: Archive) -> Archive:
    """The same venues after every open price has moved, which moved no time of update."""
    events, markets = copy.deepcopy((archive.kalshi_events, archive.manifold_markets))
    for market in (market for event in events for market in event["markets"]):
        price = 0.97 if float(market["last_price_dollars"]) < 0.9 else 0.03
        market |= {
            "last_price_dollars": f"{price:.4f}",
            "yes_bid_dollars": f"{price - 0.01:.4f}",
            "yes_ask_dollars": f"{price + 0.01:.4f}",
        }
    for market in markets:
        market["probability"] = 0.97 if market["probability"] < 0.9 else 0.03
    return dataclasses.replace(archive, kalshi_events=events, manifold_markets=markets)


@pytest.mark.parametrize("platform", sorted(VENUES))
async def test_a_quote_is_dated_when_it_was_fetched_and_a_later_one_rewrites_none(
    platform: str, mirrored: Archive, running: RunningReplay, make_stores: MakeStores
) -> None:
    stores = make_stores()
    await ingest(platform, running.base_url, stores)
    first = quotes(stores, platform)
    assert first.height > 3
    assert set(first["ts"]) == {stores.now()}
    tomorrow = stores.now() + timedelta(days=1)
    with serve(moved(mirrored)) as later:
        later_stores = dataclasses.replace(stores, now=lambda: tomorrow)
        await ingest(platform, later.base_url, later_stores)
    second = quotes(stores, platform)
    assert second.filter(pl.col("ts") == stores.now()).equals(first)
    assert second.filter(pl.col("ts") == tomorrow).height == first.height


async def test_polls_and_markets_whose_answers_are_not_asked_for_are_counted_and_no_letters(
    mirrored: Archive, make_stores: MakeStores
) -> None:
    model: dict[str, Any] = mirrored.manifold_markets[0] | {"isResolved": False}
    more = [
        model | {"id": f"{kind}{n}", "outcomeType": kind}
        for kind, n in (("POLL", 1), ("BOUNTIED_QUESTION", 1), ("MULTIPLE_CHOICE", 1))
    ]
    unreadable = model | {"id": "odd", "isResolved": None}
    markets = [*mirrored.manifold_markets, *more, unreadable]
    stores = make_stores()
    with serve(dataclasses.replace(mirrored, manifold_markets=markets)) as replay:
        assert await ingest("manifold", replay.base_url, stores) == 3
    assert stores.lake.read("dead_letter")["reason"].to_list() == ["RESOLVED_MISSING"]
