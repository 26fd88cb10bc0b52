"""The reader of the bar table: every watched market hears of its newest bar, whatever happens."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa

from gateway.live_bars import LiveBars
from gateway.stores import open_store
from market_data.control_store import prepare
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from marketcal.errors import NotReady

START = 1_790_000_100_000 // FIVE_MS * FIVE_MS
DEADLINE = 20.0


@pytest.fixture
def engine(tmp_path: Path) -> Any:
    made = open_store(f"sqlite:///{tmp_path}/control.db")
    prepare(made, live_store.METADATA)
    yield made
    made.dispose()


def bar(market: str, place: int, close: float = 0.5, interval: int = FIVE_MS) -> Bar:
    start = START + place * interval
    return Bar(market, interval, start, close, close, close, close, 0, 0, 1, 0.0)


def end(place: int) -> int:
    return START + (place + 1) * FIVE_MS


def close_bars(engine: sa.Engine, *bars: Bar) -> None:
    with engine.begin() as connection:
        live_store.write_bars(connection, bars)


@asynccontextmanager
async def following(engine: sa.Engine, poll_seconds: float = 0.01) -> AsyncGenerator[LiveBars]:
    bars = LiveBars(engine, poll_seconds=poll_seconds)
    reading = asyncio.create_task(bars.run())
    try:
        while True:  # until the table has been read
            try:
                async with asyncio.timeout(0.01), aclosing(bars.watch("nobody")) as watched:
                    await anext(watched)
            except NotReady:
                await asyncio.sleep(0)
            except TimeoutError:
                break
        yield bars
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(DEADLINE):
        while not condition():  # noqa: ASYNC110 - the condition is of another part
            await asyncio.sleep(0.002)


async def soon(watched: AsyncGenerator[int]) -> int:
    async with asyncio.timeout(DEADLINE):
        return await anext(watched)


async def test_a_stream_begins_with_a_bar_that_is_not_long_behind(engine: sa.Engine) -> None:
    close_bars(engine, bar("fresh", 8), bar("edge", 8), bar("old", 7), bar("other", 10))
    async with following(engine) as bars:
        for market, first in (("fresh", 8), ("edge", 8), ("old", 11)):
            async with aclosing(bars.watch(market)) as watched:
                reading = asyncio.ensure_future(soon(watched))
                await until(lambda: bars.watchers == 1)
                if market == "old":
                    close_bars(engine, bar("old", 11))
                assert await reading == end(first)
    assert bars.watchers == 0


async def test_bars_of_other_markets_and_lengths_are_no_news(engine: sa.Engine) -> None:
    async with following(engine) as bars, aclosing(bars.watch("m")) as watched:
        reading = asyncio.ensure_future(soon(watched))
        await until(lambda: bars.watchers == 1)
        close_bars(engine, bar("n", 5), bar("m", 900, interval=MINUTE_MS))
        close_bars(engine, bar("m", 1))
        assert await reading == end(1)


async def test_a_revised_bar_is_no_news(engine: sa.Engine) -> None:
    close_bars(engine, bar("m", 1), bar("m", 2), bar("n", 2))
    async with following(engine) as bars:
        watched, beside = bars.watch("m"), bars.watch("n")
        async with aclosing(watched), aclosing(beside):
            assert [await soon(watched), await soon(beside)] == [end(2), end(2)]
            close_bars(engine, bar("m", 2, 0.7), bar("m", 1, 0.6), bar("n", 3))
            assert await soon(beside) == end(3)  # so the revisions have been read too
            reading = asyncio.ensure_future(soon(watched))
            close_bars(engine, bar("m", 3))
            assert await reading == end(3)


async def test_a_slow_reader_goes_on_with_the_newest_bar(engine: sa.Engine) -> None:
    async with following(engine) as bars:
        slow, prompt = bars.watch("m"), bars.watch("m")
        async with aclosing(slow), aclosing(prompt):
            close_bars(engine, bar("m", 0))
            assert [await soon(slow), await soon(prompt)] == [end(0), end(0)]
            for place in (1, 2, 3):
                close_bars(engine, bar("m", place))
                assert await soon(prompt) == end(place)
            assert await soon(slow) == end(3)
            close_bars(engine, bar("m", 4))
            assert await soon(slow) == end(4)


async def test_a_bar_that_closes_while_a_stream_opens_is_not_lost(engine: sa.Engine) -> None:
    """The reader is idle without streams, and here its look at the table takes its time."""
    asked, go, joined = threading.Event(), threading.Event(), threading.Event()

    def hold(_: Any, __: Any, statement: str, *___: Any) -> None:
        if "max(live_bar.sequence)" in statement:
            asked.set()
            assert go.wait(DEADLINE)
        elif "max(live_bar.start_ms)" in statement and "market_id" in statement:
            joined.set()

    async with following(engine) as bars, aclosing(bars.watch("m")) as watched:
        sa.event.listen(engine, "before_cursor_execute", hold)
        await until(asked.is_set)
        reading = asyncio.ensure_future(soon(watched))
        await until(joined.is_set)
        await asyncio.to_thread(close_bars, engine, bar("m", 0), bar("m", 1))
        go.set()
        assert await reading == end(1)


async def test_bars_that_close_while_streams_open_reach_them_all(engine: sa.Engine) -> None:
    draw = random.Random(7)
    async with following(engine, poll_seconds=0.0) as bars:
        for place in range(40):
            async with aclosing(bars.watch("m")) as watched:
                reading = asyncio.ensure_future(soon(watched))
                for _ in range(draw.randrange(6)):
                    await asyncio.sleep(0)
                await asyncio.to_thread(close_bars, engine, bar("m", place))
                while await reading != end(place):
                    reading = asyncio.ensure_future(soon(watched))


async def test_closes_are_those_that_the_stream_worker_looks_back_on(engine: sa.Engine) -> None:
    lone = [bar("m", 0, 0.3), bar("m", 2, 0.4), bar("m", 20, 0.5), bar("m", 21, math.nan)]
    close_bars(engine, *lone, bar("m", 22, 0.9), bar("n", 1, 0.1))
    async with following(engine) as bars:
        found = await bars.closes("m", end(21))
        nothing = await bars.closes("unknown", end(21))
    hour = [0.4] * 13
    expected = [0.3, 0.3, *hour, *[math.nan] * 5, 0.5, 0.5]
    np.testing.assert_array_equal(found, expected)
    assert nothing.size == 0


async def test_a_store_that_comes_back_is_read_on(
    engine: sa.Engine, caplog: pytest.LogCaptureFixture
) -> None:
    close_bars(engine, bar("m", 0))
    async with following(engine) as bars, aclosing(bars.watch("m")) as watched:
        assert await soon(watched) == end(0)
        reading = asyncio.ensure_future(soon(watched))
        with caplog.at_level(logging.WARNING, "gateway"):
            with engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE live_bar RENAME TO away"))
            await until(lambda: "cannot be read" in caplog.text)
            with pytest.raises(NotReady):
                await bars.closes("m", end(0))
            with engine.begin() as connection:
                connection.execute(sa.text("ALTER TABLE away RENAME TO live_bar"))
        close_bars(engine, bar("m", 1))
        assert await reading == end(1)
    assert caplog.text.count("cannot be read") == 1


async def test_before_the_table_was_read_a_stream_is_asked_to_come_back(engine: sa.Engine) -> None:
    with pytest.raises(NotReady) as refused:
        await anext(LiveBars(engine).watch("m"))
    assert refused.value.retry_after is not None
