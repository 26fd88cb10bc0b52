"""Which connection carries what, while markets come and go, against venues on loopback."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from flows.live_connections import Connections
from flows.live_ingest import Publisher
from flows.live_markets import Followed
from flows.stream_settings import StreamSettings
from market_data.bus.in_process import InProcessBus
from market_data.errors import StreamRefused
from market_data.streaming.backoff import BackoffPolicy
from market_data.streaming.connection import Clock
from market_data.streaming.events import Codec, Event, Feed, Mark, merged
from market_data.venues.binance.settings import POLICY

DEADLINE = 8.0
CLOCK = Clock(time.monotonic, lambda: time.time_ns() // 1_000_000)
FUTURES = replace(POLICY, answer_within=0.3, backoff=BackoffPolicy(0.01, 0.05))


@dataclass
class Venue:
    """A market channel that answers each subscription with books, and futures that speak at once.

    Attributes:
        subscribed: tokens of each connection that is open.
        silent: streams that are acknowledged and never say anything.
        refused: messages that name one of these are refused.
    """

    subscribed: dict[int, set[str]] = field(default_factory=dict)
    silent: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()

    async def talk(self, socket: ServerConnection) -> None:
        """Lives through one connection."""
        mine = self.subscribed[id(socket)] = set()
        try:
            async for raw in socket:
                if raw == "PING":
                    await socket.send("PONG")
                else:
                    await self._hear(socket, mine, orjson.loads(raw))
        except ConnectionClosed:
            pass  # clients may break off
        finally:
            del self.subscribed[id(socket)]

    async def _hear(self, socket: ServerConnection, mine: set[str], asked: dict[str, Any]) -> None:
        if "method" in asked:
            await self._hear_futures(socket, asked)
        elif asked.get("operation") == "unsubscribe":
            mine -= set(asked["assets_ids"])
        else:
            mine |= set(asked["assets_ids"])
            for token in asked["assets_ids"]:
                await socket.send(orjson.dumps(_book(token)).decode())

    async def _hear_futures(self, socket: ServerConnection, asked: dict[str, Any]) -> None:
        if self.refused & set(asked["params"]):
            error = {"error": {"code": 2, "msg": "Invalid request"}, "id": asked["id"]}
            await socket.send(orjson.dumps(error).decode())
            return
        await socket.send(orjson.dumps({"result": None, "id": asked["id"]}).decode())
        for number in range(100):
            for name in set(asked["params"]) - self.silent:
                if "@markPrice" in name:
                    await socket.send(orjson.dumps(_mark(name, number)).decode())
            await asyncio.sleep(0.01)


def _book(token: str) -> dict[str, Any]:
    return {
        "event_type": "book", "asset_id": token, "market": "0xc",
        "timestamp": str(CLOCK.wall_ms()), "hash": "h",
        "bids": [{"price": "0.4", "size": "1"}], "asks": [{"price": "0.5", "size": "1"}],
    }  # fmt: skip


def _mark(name: str, number: int) -> dict[str, Any]:
    symbol = name.partition("@")[0].upper()
    data = {"e": "markPriceUpdate", "E": 1_789_460_401_000 + number, "s": symbol, "p": "5.0",
            "i": "5.0", "r": "0.0001", "T": 0}  # fmt: skip
    return {"stream": name, "data": data}


@dataclass
class Running:
    """Connections to a venue, and what they published."""

    connections: Connections
    venue: Venue
    task: asyncio.Task[None]
    events: list[Event] = field(default_factory=list)

    def feeds(self) -> list[tuple[str, str]]:
        """(market, reason) of everything that was said of feeds, in order."""
        return [
            (market, one.reason)
            for one in self.events
            if isinstance(one, Feed)
            for market in one.markets
        ]

    def fresh(self) -> set[str]:
        """Markets of which the latest word is that they are fresh."""
        return {market for market, reason in dict(self.feeds()).items() if not reason}

    async def until(self, condition: Callable[[], Any]) -> None:
        """Waits for a condition; raises what ends the connections before."""
        end = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < end, (self.feeds(), self.venue.subscribed)
            if self.task.done():
                self.task.result()
            await asyncio.sleep(0.005)


@asynccontextmanager
async def running(venue: Venue, markets: list[Followed], **settings: Any) -> AsyncIterator[Running]:
    """Connections that follow these markets."""
    bus, stop = InProcessBus(["live"], Codec(), merged, time.monotonic), asyncio.Event()
    consumer = await bus.subscribe("live", "test")
    async with serve(venue.talk, "127.0.0.1", 0, compression=None) as listening:
        base = f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"
        given = {"polymarket_url": base, "binance_url": base} | settings
        made = Connections(StreamSettings(**given), CLOCK, random.Random(1), futures=FUTURES)
        made.follow(markets)
        task = asyncio.create_task(made.run(Publisher(bus, stop), stop))
        one = Running(made, venue, task)

        async def listen() -> None:
            while True:
                taken = await consumer.take(1_000, 0.05)
                one.events += [delivery.envelope.body for delivery in taken]
                await consumer.acknowledge(taken)

        listening_to = asyncio.create_task(listen())
        try:
            yield one
        finally:
            stop.set()
            listening_to.cancel()
            with suppress(StreamRefused):
                await asyncio.wait_for(task, DEADLINE)


def followed(*names: str) -> list[Followed]:
    """Markets of two tokens each."""
    return [Followed(f"polymarket:{one}", f"0x{one}", (f"{one}1", f"{one}2")) for one in names]


def ids(names: str) -> set[str]:
    return {f"polymarket:{one}" for one in names}


@pytest.mark.parametrize(("size", "connections"), [(3, 4), (4, 2), (5, 2), (8, 1)])
async def test_tokens_of_a_market_share_a_connection(size: int, connections: int) -> None:
    async with running(Venue(), followed(*"abcd"), shard_size=size) as one:
        await one.until(lambda: one.fresh() == ids("abcd"))
        assert len(one.connections.shards) == connections
        for tokens in one.venue.subscribed.values():
            assert set(Counter(token[0] for token in tokens).values()) == {2}


async def test_connections_shrink_and_grow_with_what_is_followed() -> None:
    async with running(Venue(), followed(*"abcd"), shard_size=4) as one:
        await one.until(lambda: one.fresh() == ids("abcd"))
        one.connections.follow(followed("a"))
        await one.until(lambda: list(one.venue.subscribed.values()) == [{"a1", "a2"}])
        await one.until(lambda: one.fresh() == ids("a"))
        assert {("polymarket:" + name, "UNFOLLOWED") for name in "bcd"} <= set(one.feeds())
        assert len(one.connections.shards) == 1
        assert (one.connections.ended.opened, one.connections.ended.ended) == (1, {"STOPPED": 1})
        one.connections.follow(followed(*"abcde"))
        await one.until(lambda: one.fresh() == ids("abcde"))
        held = sorted(sorted(tokens) for tokens in one.venue.subscribed.values())
        assert [len(tokens) for tokens in held] == [4, 4, 2]
        assert "a1" in held[0]
        one.connections.follow([])
        await one.until(lambda: one.venue.subscribed == {})
        await one.until(lambda: one.fresh() == set())
        one.connections.follow(followed("b"))
        await one.until(lambda: one.fresh() == ids("b"))


async def test_a_market_of_one_token_that_gets_a_second_one_is_moved_whole() -> None:
    single = Followed("polymarket:a", "0xa", ("a1",))
    async with running(Venue(), [single, *followed("b")], shard_size=3) as one:
        await one.until(lambda: one.fresh() == ids("ab"))
        one.connections.follow(followed("a", "b"))
        await one.until(
            lambda: (
                sorted(map(sorted, one.venue.subscribed.values())) == [["a1", "a2"], ["b1", "b2"]]
            )
        )


NAMED = {"polymarket_url": "", "binance_symbols": ("BTCUSDT", "NOSUCH")}


def marks(one: Running) -> set[str]:
    return {event.market_id for event in one.events if isinstance(event, Mark)}


async def test_a_contract_that_says_nothing_is_stale_and_the_others_go_on() -> None:
    venue = Venue(silent=frozenset({"nosuch@markPrice@1s"}))
    async with running(venue, [], **NAMED) as one:
        await one.until(lambda: ("binance:NOSUCH@mark", "NO_EVENT") in one.feeds())
        before = len(one.events)
        await one.until(lambda: len(one.events) > before + 5)
        assert one.fresh() == {"binance:BTCUSDT@mark"}
        assert marks(one) == {"binance:BTCUSDT@mark"}
        assert one.connections.shards[0].ingest.failed == {"NO_EVENT": 1}


async def test_a_venue_where_no_contract_speaks_is_refused_by_name() -> None:
    silent = frozenset({"nosuch@markPrice@1s", "btcusdt@markPrice@1s"})
    async with running(Venue(silent=silent), [], **NAMED) as one:
        with pytest.raises(StreamRefused, match="NO_EVENT: no event of btcusdt@markPrice@1s"):
            await one.until(lambda: False)


async def test_a_venue_that_refuses_every_contract_is_refused_by_name() -> None:
    venue = Venue(refused=frozenset({"nosuch@markPrice@1s"}))
    async with running(venue, [], **NAMED) as one:
        with pytest.raises(StreamRefused, match=r"REJECTED: .*nosuch@markPrice@1s"):
            await one.until(lambda: False)


@pytest.mark.parametrize(("seconds", "stale", "dead"), [(30.0, 10.0, 20.0), (4.0, 4.0, 8.0)])
async def test_the_bound_of_the_settings_shortens_that_of_a_venue_and_never_lengthens_it(
    seconds: float, stale: float, dead: float
) -> None:
    settings = NAMED | {"stale_seconds": seconds}
    async with running(Venue(), [], **settings) as one:
        await one.until(lambda: one.fresh())
        policy = one.connections.shards[0].ingest.session._policy
        assert (policy.stale_after, policy.dead_after) == (stale, dead)


async def test_the_bound_of_the_settings_is_that_of_prediction_markets() -> None:
    async with running(Venue(), followed("a"), stale_seconds=45.0) as one:
        await one.until(lambda: one.fresh())
        policy = one.connections.shards[0].ingest.session._policy
        assert (policy.stale_after, policy.dead_after) == (45.0, 90.0)
