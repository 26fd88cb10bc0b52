"""The socket loop against a replayed venue on loopback."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

import orjson
import pytest
from websockets.asyncio.server import ServerConnection, serve

from market_data.errors import RecordRejected, StreamRefused
from market_data.replay.stream_capture import Record
from market_data.replay.stream_faults import StreamFaultPlan
from market_data.replay.stream_playback import PlaybackSettings
from market_data.replay.stream_server import RunningStreams, serve_streams
from market_data.replay.stream_simulate import StreamDay, simulate_day
from market_data.streaming.actions import Action, Fresh, Resync, Stale
from market_data.streaming.backoff import BackoffPolicy
from market_data.streaming.connection import Clock, ConnectionCounts, open_socket, run
from market_data.streaming.dialect import Dialect, Policy
from market_data.streaming.session import Session
from market_data.venues.binance.stream import CombinedStreams, mark_price
from market_data.venues.polymarket.stream import MarketChannel

DEADLINE = 20.0
CLOCK = Clock(time.monotonic, lambda: time.time_ns() // 1_000_000)
SOON = BackoffPolicy(first_seconds=0.02, cap_seconds=0.1)
DAY = StreamDay(n_conditions=4, duration_s=300, updates_per_second=10, n_jumps=0, symbols="BTCUSDT")
RECORDS, TRUTH = simulate_day(DAY)
ASSETS = [asset for pair in TRUTH.assets.values() for asset in pair]


@dataclass
class Seen:
    """What came out of a loop."""

    session: Session
    frames: list[bytes] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    counts: ConnectionCounts = field(default_factory=ConnectionCounts)

    async def take(self, frame: bytes, recv_ms: int) -> None:
        """A parser that notes what it reads, as the real one does."""
        assert abs(recv_ms - CLOCK.wall_ms()) < 60_000
        self.frames.append(frame)
        try:
            value = orjson.loads(frame)
        except orjson.JSONDecodeError as error:
            raise RecordRejected("FRAME_UNREADABLE", str(error)) from None
        for message in value if isinstance(value, list) else [value]:
            is_book = message.get("event_type") == "book"
            if "asset_id" in message:
                self.session.noted(
                    message["asset_id"], int(message.get("timestamp", 0)), CLOCK.monotonic(),
                    is_snapshot=is_book,
                )  # fmt: skip

    async def act(self, action: Action) -> None:
        """Notes an action."""
        self.actions.append(action)

    def messages(self) -> list[dict]:
        """Every message of every readable frame."""
        found = []
        for frame in self.frames:
            try:
                value = orjson.loads(frame)
            except orjson.JSONDecodeError:
                continue
            found += value if isinstance(value, list) else [value]
        return found


@asynccontextmanager
async def watching(
    url: str, *names: str, policy: Policy | None = None, dialect: Dialect | None = None
) -> AsyncIterator[Seen]:
    """Runs a loop until the body ends."""
    bounds = policy or Policy(backoff=SOON)
    seen = Seen(Session(dialect or MarketChannel(), bounds, rng=random.Random(7)))
    seen.session.want(names, CLOCK.monotonic())
    stop = asyncio.Event()
    loop = asyncio.create_task(
        run(
            seen.session, url, clock=CLOCK, on_frame=seen.take, on_action=seen.act, stop=stop,
            counts=seen.counts, connect=partial(open_socket, max_frame_bytes=100_000),
        )
    )  # fmt: skip
    try:
        yield seen
    finally:
        stop.set()
        await asyncio.wait_for(loop, DEADLINE)


async def until(condition: Callable[[], object]) -> None:
    """Waits for a condition."""
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110, conditions are about other parts' state
            await asyncio.sleep(0.005)


def replay(**settings: object) -> Awaitable:
    return serve_streams(lambda: iter(RECORDS), PlaybackSettings(**settings))


def url(venue: RunningStreams, path: str = "/ws/market") -> str:
    return venue.url + path


def trades_in(messages: list[dict]) -> set[tuple[str, str, str]]:
    return {
        (m["asset_id"], m["timestamp"], m["transaction_hash"])
        for m in messages
        if m.get("event_type") == "last_trade_price"
    }


EVERY_TRADE = trades_in(
    [
        message
        for record in RECORDS
        if record.channel == "polymarket"
        for value in [orjson.loads(record.frame)]
        for message in (value if isinstance(value, list) else [value])
    ]
)


async def test_every_frame_of_a_capture_arrives_in_order() -> None:
    async with replay() as venue, watching(url(venue), *ASSETS) as seen:
        await until(lambda: venue.playback.is_ended and seen.counts.ended["CLOSED_1000"])

    sent = [record.frame for record in RECORDS if record.channel == "polymarket"]
    dump, *rest = seen.frames
    assert rest[: len(sent)] == sent
    assert {book["asset_id"] for book in orjson.loads(dump)} == set(ASSETS)
    assert seen.counts.last_close == "end of capture"
    assert {name for a in seen.actions if isinstance(a, Fresh) for name in a.instruments} == set(
        ASSETS
    )


async def test_broken_connections_and_unreadable_frames_lose_nothing() -> None:
    plan = StreamFaultPlan(disconnect=0.002, truncate=0.002, duplicate=0.05, reorder=0.02, seed=4)
    async with (
        replay(faults=plan, overlap_frames=800) as venue,
        watching(url(venue), *ASSETS) as seen,
    ):
        await until(lambda: venue.playback.is_ended and seen.counts.ended["CLOSED_1000"])
        injected = venue.playback.faults.injected

    assert min(injected[kind] for kind in ("disconnect", "truncate", "duplicate", "reorder")) > 0
    assert trades_in(seen.messages()) == EVERY_TRADE
    # One that was under way when the connection broke for another reason is not noticed.
    assert 0 < seen.counts.ended["FRAME_REJECTED"] <= injected["truncate"]
    assert 0 < seen.counts.ended["CLOSED_1006"] <= injected["disconnect"]
    broken = seen.counts.ended["FRAME_REJECTED"] + seen.counts.ended["CLOSED_1006"]
    gaps = [a for a in seen.actions if isinstance(a, Resync) and a.reason == "GAP"]
    assert len(gaps) >= broken
    assert venue.playback.rewinds >= broken


async def test_a_freeze_with_healthy_pongs_is_seen_as_stale_within_the_bound() -> None:
    plan = StreamFaultPlan(freeze=0.002, freeze_ms=60_000, seed=1)
    policy = Policy(ping_every=0.05, pong_within=0.5, stale_after=0.3, dead_after=0.6, backoff=SOON)
    async with replay(faults=plan) as venue, watching(url(venue), *ASSETS, policy=policy) as seen:
        await until(lambda: venue.playback.faults.injected["freeze"])
        frozen_at = time.monotonic()
        await until(lambda: any(isinstance(a, Stale) for a in seen.actions))
        noticed_after = time.monotonic() - frozen_at
        await until(lambda: seen.counts.ended["SILENT"])

    stale = next(a for a in seen.actions if isinstance(a, Stale))
    assert stale.reason == "CONNECTION_SILENT"
    assert set(stale.instruments) == set(ASSETS)
    assert noticed_after < 0.3 + 0.5 + 1.0
    assert seen.counts.ended["NO_PONG"] == 0
    assert Resync(tuple(ASSETS), "CONNECTION_SILENT") in seen.actions


async def test_an_asset_gets_a_snapshot_when_it_is_wanted_and_nothing_once_dropped() -> None:
    first, second = ASSETS[:2], ASSETS[2:6]
    async with replay(speed=200) as venue, watching(url(venue), *first) as seen:
        await until(lambda: len(seen.frames) > 20)
        assert {m["asset_id"] for m in seen.messages() if "asset_id" in m} == set(first)
        seen.session.want(second, CLOCK.monotonic())
        await until(lambda: seen.session.fresh == set(second))
        seen.frames.clear()
        await until(lambda: len(seen.frames) > 20)

    assert {m["asset_id"] for m in seen.messages() if "asset_id" in m} <= set(second)


async def test_a_reader_that_is_slow_slows_the_venue_and_is_not_cut_off() -> None:
    policy = Policy(ping_every=0.1, pong_within=0.2, stale_after=0.5, dead_after=0.6, backoff=SOON)
    seen = Seen(Session(MarketChannel(), policy, rng=random.Random(7)))
    seen.session.want(ASSETS, CLOCK.monotonic())
    gate, stop = asyncio.Event(), asyncio.Event()

    async def slow(frame: bytes, recv_ms: int) -> None:
        await seen.take(frame, recv_ms)
        if len(seen.frames) > 10:
            await gate.wait()

    async with replay() as venue:
        loop = asyncio.create_task(
            run(
                seen.session, url(venue), clock=CLOCK, on_frame=slow, on_action=seen.act,
                stop=stop, counts=seen.counts,
            )
        )  # fmt: skip
        await until(lambda: len(seen.frames) > 10)
        held_at = time.monotonic()
        await until(lambda: time.monotonic() - held_at > 1.0)
        assert venue.playback.sent["polymarket"] < 1_000 < len(RECORDS)
        gate.set()
        await until(lambda: venue.playback.is_ended and seen.counts.ended)
        stop.set()
        await loop

    assert set(seen.counts.ended) <= {"CLOSED_1000", "STOPPED"}
    assert seen.counts.opened <= 3


async def test_a_silent_stream_fails_with_a_clear_error() -> None:
    policy = Policy(answer_within=0.3, backoff=SOON)
    name = mark_price("BTCUSDT")
    async with replay() as venue:
        session = Session(CombinedStreams(), policy, rng=random.Random(1))
        session.want([name], CLOCK.monotonic())
        seen = Seen(session)
        with pytest.raises(StreamRefused, match=f"NO_EVENT: no event of {name} within 0.3 s"):
            await asyncio.wait_for(
                run(
                    session, url(venue, "/stream"), clock=CLOCK, on_frame=seen.take,
                    on_action=seen.act, stop=asyncio.Event(),
                ),
                DEADLINE,
            )  # fmt: skip
    assert seen.frames == []


async def test_streams_of_futures_arrive_on_the_right_base() -> None:
    names = [mark_price("BTCUSDT"), "btcusdt@kline_1m"]
    async with (
        replay() as venue,
        watching(url(venue, "/market/stream"), *names, dialect=CombinedStreams()) as seen,
    ):
        await until(lambda: venue.playback.is_ended)

    assert {message["stream"] for message in seen.messages()} == set(names)
    assert {a for a in seen.actions if isinstance(a, Fresh)} == {Fresh((name,)) for name in names}


@asynccontextmanager
async def server(handler: Callable[[ServerConnection], Awaitable[None]]) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, compression=None) as listening:
        yield f"ws://127.0.0.1:{next(iter(listening.sockets)).getsockname()[1]}"


async def test_a_frame_above_the_bound_is_counted_and_the_loop_goes_on() -> None:
    async def huge(socket: ServerConnection) -> None:
        await socket.send("x" * 200_000)
        await socket.wait_closed()

    async with server(huge) as address, watching(address, "a") as seen:
        await until(lambda: seen.counts.ended["FRAME_TOO_BIG"] >= 2)
    assert seen.frames == []


async def test_a_venue_that_is_away_is_tried_again_without_a_rush() -> None:
    async def refuse(socket: ServerConnection) -> None:
        await socket.close(1013, "try again later")

    async with server(refuse) as address:
        began = time.monotonic()
        async with watching(address, "a") as seen:
            await until(lambda: seen.counts.ended["CLOSED_1013"] >= 5)
        assert time.monotonic() - began > 4 * 0.01
        assert seen.counts.last_close == "try again later"
    async with watching(address, "a") as seen:
        await until(lambda: seen.counts.ended["NOT_OPENED"] >= 3)
        assert seen.counts.opened == 0


async def test_a_cancelled_loop_closes_its_socket() -> None:
    async with replay(speed=1) as venue:
        session = Session(MarketChannel(), Policy(), rng=random.Random(1))
        session.want(ASSETS, CLOCK.monotonic())
        seen = Seen(session)
        loop = asyncio.create_task(
            run(
                session, url(venue), clock=CLOCK, on_frame=seen.take, on_action=seen.act,
                stop=asyncio.Event(),
            )
        )  # fmt: skip
        await until(lambda: seen.frames)
        loop.cancel()
        with pytest.raises(asyncio.CancelledError):
            await loop
        await until(lambda: not venue.playback.clients)


class Starved:
    """A socket in a process that stands still for 100 s while the loop waits, ten times."""

    def __init__(self, frames: list[bytes], stop: asyncio.Event) -> None:
        self.now = 0.0
        self._frames = frames
        self._stop = stop
        self._stood_still = 0

    async def recv(self, decode: bool | None = None) -> bytes:
        if self._frames:
            return self._frames.pop()
        self.now += 100.0
        self._stood_still += 1
        if self._stood_still == 10:
            self._stop.set()
        raise TimeoutError

    async def send(self, message: str) -> None:
        self._frames.append(b"PONG" if message == "PING" else b"[]")


async def test_a_process_that_stood_still_does_not_blame_the_venue() -> None:
    stop = asyncio.Event()
    socket = Starved([], stop)
    clock = Clock(lambda: socket.now, CLOCK.wall_ms)
    seen = Seen(Session(MarketChannel(), Policy(), rng=random.Random(1)))
    seen.session.want(["a"], 0.0)

    @asynccontextmanager
    async def connect(_: str) -> AsyncIterator[Starved]:
        yield socket

    await asyncio.wait_for(
        run(
            seen.session, "ws://nowhere", connect=connect, clock=clock, on_frame=seen.take,
            on_action=seen.act, stop=stop, counts=seen.counts,
        ),
        DEADLINE,
    )  # fmt: skip

    assert seen.counts.ended == {"STOPPED": 1}
    assert not [a for a in seen.actions if isinstance(a, Stale)]


async def test_a_quiet_loop_does_not_spin() -> None:
    quiet = [Record(record.recv_ms, record.channel, record.frame) for record in RECORDS[:12]]
    calls = 0

    def monotonic() -> float:
        nonlocal calls
        calls += 1
        return time.monotonic()

    capture_without_end = [*quiet, quiet[-1]._replace(recv_ms=quiet[-1].recv_ms + 10**9)]
    settings = PlaybackSettings(speed=1)
    async with serve_streams(lambda: iter(capture_without_end), settings) as venue:
        session = Session(MarketChannel(), Policy(), rng=random.Random(1))
        session.want(ASSETS, monotonic())
        seen, stop = Seen(session), asyncio.Event()
        loop = asyncio.create_task(
            run(
                session, url(venue), clock=Clock(monotonic, CLOCK.wall_ms), on_frame=seen.take,
                on_action=seen.act, stop=stop,
            )
        )  # fmt: skip
        await until(lambda: seen.frames)
        calls, began = 0, time.monotonic()
        await until(lambda: time.monotonic() - began > 1.0)
        assert calls < 100
        stop.set()
        await loop
