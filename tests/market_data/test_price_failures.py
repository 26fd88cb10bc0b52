"""A price history that fails, or holds nonsense, is its market's own failure."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import polars as pl
import pytest
from starlette.responses import Response

from market_data.errors import VenueRefused
from market_data.ingest import PriceScope, Stores, ingest_markets, ingest_prices
from market_data.replay.archive import Archive
from market_data.replay.server import create_app, run_app, serve
from market_data.snapshots import yes_tokens
from market_data.venues.sources import SOURCES

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

MakeStores = Callable[..., Stores]


@dataclasses.dataclass
class RefusingApp:
    """A venue that refuses the histories of some tokens."""

    archive: Archive
    refused: set[str] = dataclasses.field(default_factory=set)

    def __post_init__(self) -> None:
        self._app = create_app(self.archive)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = parse_qs(scope.get("query_string", b"").decode())
        if self.refused.intersection(asked.get("market", ())):
            await Response(status_code=400)(scope, receive, send)
            return
        await self._app(scope, receive, send)


@contextmanager
def refusing(archive: Archive) -> Iterator[tuple[RefusingApp, str]]:
    app = RefusingApp(archive)
    with run_app(app) as port:
        yield app, f"http://127.0.0.1:{port}"


def three_markets(stores: Stores) -> dict[str, str]:
    """Token by market of the first three markets in the order in which they are asked for."""
    tokens = yes_tokens(stores.lake.read("market_registry")).head(3)
    return {str(market): str(token) for market, token in tokens.iter_rows()}


@pytest.mark.parametrize("place", [0, 2])
async def test_a_market_that_fails_alone_in_its_batch_takes_no_other_with_it(
    archive: Archive, make_stores: MakeStores, rest_at: Any, place: int
) -> None:
    stores = make_stores()
    with refusing(archive) as (app, url):
        async for rest in rest_at(url):
            await ingest_markets(rest, stores)
            tokens = three_markets(stores)
            app.refused = {list(tokens.values())[place]}
            scope = PriceScope(market_ids=tuple(tokens), with_quotes=False, batch_size=1)
            done = await ingest_prices(rest, stores, scope=scope)
    assert (done.failures, done.requests) == (1, 2)
    stored = set(stores.lake.read("market_snapshot")["market_id"])
    assert stored == set(tokens) - {list(tokens)[place]}


async def test_the_only_market_to_fetch_may_fail(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    with refusing(archive) as (app, url):
        async for rest in rest_at(url):
            await ingest_markets(rest, stores)
            market, token = next(iter(three_markets(stores).items()))
            app.refused = {token}
            scope = PriceScope(market_ids=(market,), with_quotes=False)
            done = await ingest_prices(rest, stores, scope=scope)
    assert (done.failures, done.dead_letters, done.rows_out) == (1, 1, 0)


async def test_not_a_single_history_of_several_is_an_error_with_its_dead_letters(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    with refusing(archive) as (app, url):
        async for rest in rest_at(url):
            await ingest_markets(rest, stores)
            tokens = three_markets(stores)
            app.refused = set(tokens.values())
            scope = PriceScope(market_ids=tuple(tokens), batch_size=2)
            with pytest.raises(VenueRefused):
                await ingest_prices(rest, stores, scope=scope)
    letters = stores.lake.read("dead_letter", pl.col("reason") == "VenueRefused")
    assert set(letters["record_id"]) == set(tokens)


async def test_a_price_of_the_future_does_not_end_a_history(
    archive: Archive, make_stores: MakeStores, rest_at: Any, snapshot_rows: Any
) -> None:
    stores = make_stores()
    with serve(archive) as replay:
        async for rest in rest_at(replay.base_url):
            await ingest_markets(rest, stores)
            market = next(iter(three_markets(stores)))
            far = snapshot_rows([(market, datetime(2060, 1, 1, tzinfo=UTC), 0.5)])
            source = pl.lit(SOURCES["polymarket"].history).alias("data_source")
            stores.lake.upsert("market_snapshot", far.with_columns(source))
            scope = PriceScope(market_ids=(market,), with_quotes=False)
            done = await ingest_prices(rest, stores, scope=scope)
    assert done.rows_written > 0
