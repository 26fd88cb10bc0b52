"""What the socket loop does with what a session asks for."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from websockets.exceptions import ConnectionClosedError

from market_data.errors import StreamRefused
from market_data.streaming.actions import Action, Fail, Fresh, Stale
from market_data.streaming.backoff import BackoffPolicy
from market_data.streaming.connection import Clock, run
from market_data.streaming.dialect import Dialect, Policy
from market_data.streaming.session import Session
from market_data.venues.binance.stream import CombinedStreams
from market_data.venues.polymarket.stream import MarketChannel

DEADLINE = 10.0
CLOCK = Clock(time.monotonic, lambda: time.time_ns() // 1_000_000)
SOON = Policy(backoff=BackoffPolicy(0.01, 0.02))


class Broken:
    """A socket to a peer that is gone: what is sent fails, and so does what is read after it."""

    def __init__(self, *frames: bytes) -> None:
        self._frames = list(frames)

    async def recv(self, decode: bool | None = None) -> bytes:
        if not self._frames:
            raise ConnectionClosedError(None, None)
        return self._frames.pop(0)

    async def send(self, message: str) -> None:
        raise ConnectionClosedError(None, None)


class Answering(Broken):
    """A peer that takes what is sent, says something, and leaves."""

    async def send(self, message: str) -> None:
        """Takes it."""


async def acted(socket: Broken, session: Session, count: int) -> list[Action]:
    """The first actions that a loop over this socket hands out."""
    seen: list[Action] = []
    stop = asyncio.Event()

    @asynccontextmanager
    async def connect(_: str) -> AsyncIterator[Broken]:
        yield socket

    async def note(action: Action) -> None:
        seen.append(action)
        if len(seen) == count:
            stop.set()

    async def read(frame: bytes, _: int) -> None:
        if not isinstance(socket, Answering):  # and now it breaks while something is sent
            session.want(["a", "b"], CLOCK.monotonic())
            session.noted("a", 1, CLOCK.monotonic(), is_snapshot=True)

    await asyncio.wait_for(
        run(session, "ws://nowhere", connect=connect, clock=CLOCK, on_frame=read, on_action=note,
            stop=stop),
        DEADLINE,
    )  # fmt: skip
    return seen


def wanting(dialect: Dialect, *names: str) -> Session:
    made = Session(dialect, SOON, rng=random.Random(1))
    made.want(names, CLOCK.monotonic())
    return made


async def test_what_others_must_know_outlives_a_connection_that_breaks_while_sending() -> None:
    session = Session(MarketChannel(), SOON, rng=random.Random(1))
    (fresh, stale) = await acted_after_a_snapshot(session)
    assert fresh == Fresh(("a",))
    assert stale == Stale(("a",), "DISCONNECTED")


async def acted_after_a_snapshot(session: Session) -> list[Action]:
    """The subscription of a second asset fails, right after the first one has become fresh."""

    class Once(Broken):
        sent = 0

        async def send(self, message: str) -> None:
            self.sent += 1
            if self.sent > 1:
                raise ConnectionClosedError(None, None)

    session.want(["a"], CLOCK.monotonic())
    return await acted(Once(b"[]"), session, 2)


async def test_one_stream_that_is_refused_does_not_end_the_others() -> None:
    names = [f"s{number}usdt@markPrice@1s" for number in range(201)]
    refusal = b'{"error":{"code":2,"msg":"Invalid request"},"id":2}'
    (failure,) = await acted(Answering(refusal), wanting(CombinedStreams(), *names), 1)
    assert isinstance(failure, Fail)
    assert failure.instruments == (names[200],)


async def test_a_venue_that_refuses_everything_ends_the_loop() -> None:
    refusal = b'{"error":{"code":2,"msg":"Invalid request"},"id":1}'
    with pytest.raises(StreamRefused, match="REJECTED: the venue refused nobody@markPrice@1s"):
        await acted(Answering(refusal), wanting(CombinedStreams(), "nobody@markPrice@1s"), 1)
