"""What stands between a connection and the bus: what is fresh, what is frozen, what fails."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import orjson
import pytest

from flows.live_ingest import Ingest, Publisher
from market_data.bus.in_process import InProcessBus
from market_data.errors import RecordRejected
from market_data.streaming.actions import Fail, Resync
from market_data.streaming.connection import Clock
from market_data.streaming.dialect import Policy
from market_data.streaming.events import Codec, Event, Feed, merged
from market_data.streaming.instruments import Instruments
from market_data.streaming.session import Session
from market_data.venues.binance.stream import CombinedStreams
from market_data.venues.binance.stream_parse import FuturesParser
from market_data.venues.polymarket.stream import MarketChannel
from market_data.venues.polymarket.stream_parse import MarketChannelParser

DEADLINE = 10.0
BEGIN = 1_789_430_400_000
POLICY = Policy(resync_every=0.0, pong_within=1e9)


def book(token: str, bid: str, ask: str, after_ms: int = 0) -> bytes:
    """A whole book as the stream brings it."""
    at = str(BEGIN + after_ms)
    return orjson.dumps({
        "event_type": "book", "asset_id": token, "market": "0xc", "timestamp": at,
        "hash": f"{bid}/{ask}", "bids": [{"price": bid, "size": "10"}],
        "asks": [{"price": ask, "size": "10"}],
    })  # fmt: skip


@dataclass
class Bench:
    """A connection to Polymarket that follows markets A and B by two tokens each."""

    rest: dict[str, bytes] = field(default_factory=dict)
    now: float = 0.0

    def __post_init__(self) -> None:
        tokens = Instruments.of_markets([("polymarket:A", ("a1", "a2")), ("polymarket:B", ("b1",))])
        clock = Clock(lambda: self.now, lambda: BEGIN + round(self.now * 1_000))
        self.bus = InProcessBus(["live"], Codec(), merged, time.monotonic)
        self.session = Session(MarketChannel(), POLICY, rng=random.Random(1))
        self.session.want(list(tokens.by_token), 0.0)
        self.session.opened(0.0)
        self.ingest = Ingest(
            "polymarket", self.session, MarketChannelParser(tokens.by_token),
            Publisher(self.bus, asyncio.Event()), clock,
            market_of={"a1": "polymarket:A", "b1": "polymarket:B"}, books=self._book,
        )  # fmt: skip

    async def _book(self, token: str) -> bytes:
        return self.rest[token]

    async def hear(self, *frames: bytes) -> None:
        """The stream says something."""
        for frame in frames:
            self.session.received(frame, self.now)
            await self.ingest.on_frame(frame, BEGIN)

    async def act(self) -> None:
        """Does what the session asks for, to the end."""
        while actions := self.session.take():
            for action in actions:
                await self.ingest.on_action(action)
            await asyncio.gather(*self.ingest._resyncs.values())

    async def at(self, now: float) -> None:
        """Time passes."""
        self.now = now
        self.session.tick(now)
        await self.act()

    async def events(self) -> list[Event]:
        """What was published since the last time."""
        consumer = await self.bus.subscribe("live", "test")
        taken = await consumer.take(1_000, 0.01)
        await consumer.acknowledge(taken)
        return [one.envelope.body for one in taken]

    async def feeds(self) -> list[tuple[tuple[str, ...], str]]:
        return said(await self.events())


def said(events: Sequence[Event]) -> list[tuple[tuple[str, ...], str]]:
    """Markets and reasons of what was said of feeds."""
    return [(one.markets, one.reason) for one in events if isinstance(one, Feed)]


async def test_a_market_is_fresh_when_its_first_token_is_and_not_before() -> None:
    bench = Bench()
    await bench.hear(book("a2", "0.5", "0.6"))
    await bench.act()
    assert await bench.feeds() == []
    await bench.hear(book("a1", "0.4", "0.5"))
    await bench.act()
    assert await bench.feeds() == [(("polymarket:A",), "")]


async def fallen_silent(rest_bid: str) -> Bench:
    """Both markets were heard, nothing came for 30 s, and REST has been asked."""
    bench = Bench(
        {"a1": book("a1", rest_bid, "0.5"), "a2": book("a2", "0.5", "0.6"),
         "b1": book("b1", "0.2", "0.3")}
    )  # fmt: skip
    await bench.hear(book("a1", "0.4", "0.5"), book("a2", "0.5", "0.6"), book("b1", "0.2", "0.3"))
    await bench.act()
    await bench.feeds()
    await bench.at(30.0)
    return bench


BOTH = ("polymarket:A", "polymarket:B")


async def test_a_quiet_market_is_fresh_where_rest_says_what_the_stream_said_last() -> None:
    bench = await fallen_silent(rest_bid="0.40")
    stale, *fresh = await bench.feeds()
    assert stale == (BOTH, "CONNECTION_SILENT")
    assert sorted(fresh) == [(("polymarket:A",), ""), (("polymarket:B",), "")]
    await bench.at(60.0)
    assert await bench.feeds() == []


async def test_a_frozen_feed_stays_stale_whatever_rest_brings() -> None:
    bench = await fallen_silent(rest_bid="0.30")
    feeds = await bench.feeds()
    assert feeds[0] == (BOTH, "CONNECTION_SILENT")
    fresh = {name for markets, reason in feeds if not reason for name in markets}
    stale = {name for markets, reason in feeds[1:] if reason for name in markets}
    assert "polymarket:A" not in fresh
    assert fresh <= stale
    assert bench.session.fresh == frozenset()
    await bench.hear(book("b1", "0.2", "0.3", 40_000))
    await bench.act()
    assert bench.session.fresh >= {"a1", "b1"}


async def test_what_rest_says_of_a_market_that_is_followed_no_more_is_compared_to_nothing() -> None:
    bench = await fallen_silent(rest_bid="0.40")
    bench.ingest.forget(["polymarket:A"])
    bench.rest["a1"] = book("a1", "0.1", "0.5")
    await bench.ingest.on_action(Resync(("a1",), "CONNECTION_SILENT"))
    await asyncio.gather(*bench.ingest._resyncs.values())
    assert "b1" in bench.session.fresh


async def test_a_stream_that_fails_is_named_counted_and_stale(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bus = InProcessBus(["live"], Codec(), merged, time.monotonic)
    session = Session(CombinedStreams(), POLICY, rng=random.Random(1))
    names = {"nosuch@markPrice@1s": "binance:NOSUCH@mark", "nosuch@kline_1m": "binance:NOSUCH"}
    ingest = Ingest(
        "binance", session, FuturesParser(), Publisher(bus, asyncio.Event()),
        Clock(time.monotonic, lambda: 5), market_of=names,
    )  # fmt: skip
    with caplog.at_level(logging.ERROR, "flows.live"):
        await ingest.on_action(Fail(("nosuch@markPrice@1s",), "NO_EVENT", "no event of nosuch@"))
    assert "no event of nosuch@" in caplog.text
    assert ingest.failed == {"NO_EVENT": 1}
    (taken,) = await (await bus.subscribe("live", "test")).take(10, 0.01)
    assert said([taken.envelope.body]) == [(("binance:NOSUCH@mark",), "NO_EVENT")]


async def test_a_frame_that_is_cut_is_published_as_unreadable_and_costs_the_connection() -> None:
    bench = Bench()
    with pytest.raises(RecordRejected, match="FRAME_UNREADABLE"):
        await bench.hear(book("a1", "0.4", "0.5")[:40])
    (event,) = await bench.events()
    assert event.market_id == "polymarket:unreadable"
