"""Polymarket's interfaces, as the replay venue serves them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from market_data.errors import VenueNotFound
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay


async def test_an_open_market_has_a_book_and_a_closed_one_has_none(
    replay: RunningReplay, archive: Archive, rest_at: Any
) -> None:
    token = {m["closed"]: orjson.loads(m["clobTokenIds"])[0] for m in archive.markets}
    async for rest in rest_at(replay.base_url):
        book = (await rest.book(token[False])).value
        assert book["asset_id"] == token[False]
        assert book["bids"]
        assert book["asks"]
        with pytest.raises(VenueNotFound):
            await rest.book(token[True])
