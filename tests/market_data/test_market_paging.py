"""Listing markets loses nobody while the venue goes on living."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from starlette.responses import Response

from market_data.errors import VenueRefused
from market_data.ingest import MarketScope, Stores, ingest_markets
from market_data.replay.archive import Archive
from market_data.replay.server import create_app, run_app

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

MakeStores = Callable[..., Stores]
KEYSET = "/gamma/markets/keyset"


class ClosingApp:
    """A venue where an open market closes after the first page has been sent."""

    def __init__(self, archive: Archive) -> None:
        first = next(market["id"] for market in archive.markets if not market["closed"])
        later = [market | {"closed": market["closed"] or market["id"] == first}
                 for market in archive.markets]  # fmt: skip
        self._now: ASGIApp = create_app(archive)
        self._later: ASGIApp = create_app(dataclasses.replace(archive, markets=later))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        answers, self._now = self._now, self._later
        await answers(scope, receive, send)


class WithoutKeyset:
    """A venue that answers with a status where another one lists by cursor."""

    def __init__(self, archive: Archive, status: int) -> None:
        self._app = create_app(archive)
        self._status = status

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = Response(status_code=self._status)
        await (refusal if scope["path"] == KEYSET else self._app)(scope, receive, send)


def listed(stores: Stores) -> set[str]:
    return set(stores.lake.read("market_registry")["venue_market_id"])


async def test_a_market_that_leaves_between_two_pages_loses_nobody(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    with run_app(ClosingApp(archive)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}", page_size=7):
            await ingest_markets(rest, stores)
    assert listed(stores) == {market["id"] for market in archive.markets}


async def test_a_venue_without_cursors_is_listed_by_offset(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    stores = make_stores()
    with run_app(WithoutKeyset(archive, 404)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            await ingest_markets(rest, stores, scope=MarketScope(by_cursor=True))
    assert listed(stores) == {market["id"] for market in archive.markets}


async def test_a_venue_that_refuses_the_listing_is_not_asked_another_way(
    archive: Archive, make_stores: MakeStores, rest_at: Any
) -> None:
    with run_app(WithoutKeyset(archive, 403)) as port:
        async for rest in rest_at(f"http://127.0.0.1:{port}"):
            with pytest.raises(VenueRefused, match="403"):
                await ingest_markets(rest, make_stores())
