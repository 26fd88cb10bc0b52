"""The stream worker on a venue that freezes, lies, cuts frames and forgets to say things."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import sqlalchemy as sa

from calibration_service.alerts.policy import load_policy
from flows.live_connections import Connections
from flows.live_ingest import as_book_message
from flows.live_polls import Polls
from flows.live_service import LiveService, Outside
from flows.stream_settings import StreamSettings
from market_data.bus.port import DeadLetter
from market_data.control_store import write_ahead
from market_data.lake import Lake, empty
from market_data.replay.stream_faults import StreamFaultPlan
from market_data.replay.stream_playback import PlaybackSettings
from market_data.replay.stream_server import serve_streams
from market_data.replay.stream_simulate import StreamDay, simulate_day, simulate_records
from market_data.streaming.connection import Clock
from market_data.venues.http import HttpPolicy, VenueHttp

SECONDS = 30.0


@dataclass
class Running:
    """A service on a replayed venue."""

    service: LiveService
    store: Path
    lake: Lake
    conditions: dict[str, str]

    async def until(self, what: str, found: Callable[[], Any]) -> Any:
        """What ``found`` gives as soon as it gives something."""
        ends = time.monotonic() + SECONDS
        while time.monotonic() < ends:
            value = found()
            if value:
                return value
            await asyncio.sleep(0.02)
        raise AssertionError(f"{what} did not happen in {SECONDS:g} s: {self.counts()}")

    def counts(self) -> dict[str, Any]:
        return self.service.worker.state() if self.service.worker else {}

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(f"file:{self.store}?mode=ro", uri=True)) as connection:
            return connection.execute(query).fetchall()

    async def letters(self) -> list[DeadLetter]:
        assert self.service.bus is not None
        return await self.service.bus.dead_letters()


def know(lake: Lake, assets: dict[str, tuple[str, str]]) -> dict[str, str]:
    """Puts the markets of a day into the registry; their ids by condition."""
    names = {condition: f"polymarket:{n}" for n, condition in enumerate(sorted(assets))}
    rows = [
        {
            "market_id": names[condition], "event_id": "e", "platform": "polymarket",
            "venue_market_id": names[condition], "condition_id": condition, "question": "Q?",
            "outcomes": ["Yes", "No"], "token_ids": list(tokens), "tick_size": 0.01,
            "status": "ACTIVE",
        }
        for condition, tokens in assets.items()
    ]  # fmt: skip
    table = empty("market_registry").drop("schema_version")
    lake.upsert("market_registry", pl.concat([table, pl.DataFrame(rows)], how="diagonal_relaxed"))
    return names


@asynccontextmanager
async def playing(
    folder: Path, day: StreamDay, playback: PlaybackSettings, **settings: Any
) -> AsyncIterator[Running]:
    """A service that follows a simulated day."""
    lake, store = Lake(folder / "lake"), folder / "control.db"
    _, truth = simulate_day(day)
    names = know(lake, truth.assets)
    clock = Clock(time.monotonic, lambda: time.time_ns() // 1_000_000)
    async with (
        serve_streams(lambda: simulate_records(day), playback) as venue,
        VenueHttp(HttpPolicy(attempts=2, backoff_seconds=0.01)) as http,
    ):
        base = f"http://127.0.0.1:{venue.port}"
        stream = StreamSettings(
            polymarket_url=f"ws://127.0.0.1:{venue.port}/ws/market", address="",
            checkpoint_seconds=0.1, max_lag_seconds=0,
            **{"poll_seconds": 3600.0, "clock": "venue"} | settings,
        )  # fmt: skip

        async def book(token: str) -> bytes:
            answer = await http.get(f"{base}/clob/book", [("token_id", token)])
            return as_book_message(answer.value)

        engine = write_ahead(sa.create_engine(f"sqlite:///{store}"))
        outside = Outside(
            engine=engine, lake=lake, clock=clock, now=lambda: datetime.now(UTC), client=None,
            polls=Polls(http, f"{base}/gamma"), sinks=[],
            connections=Connections(stream, clock, random.Random(1), books=book), baseline="ewma",
        )  # fmt: skip
        service, stop = LiveService(stream, load_policy(), outside), asyncio.Event()
        task = asyncio.create_task(service.run(stop))
        try:
            yield Running(service, store, lake, names)
        finally:
            stop.set()
            await task
            engine.dispose()


DAY = StreamDay(seed=2, n_conditions=4, duration_s=1800.0, updates_per_second=5.0, n_jumps=1)


async def test_a_frozen_feed_fires_nothing_and_says_why(tmp_path: Path) -> None:
    frozen = StreamFaultPlan(freeze=0.002, freeze_ms=4_000, seed=1)
    playback = PlaybackSettings(speed=60.0, faults=frozen, clients={"polymarket": 1})
    async with playing(tmp_path, DAY, playback, clock="wall", stale_seconds=0.5,
                       max_ahead_seconds=1e9) as one:  # fmt: skip
        assert one.service.outside.connections is not None

        def stale() -> list[str]:
            worker = one.service.worker
            return [m.suppressed for m in worker.stream.markets.values() if m.suppressed] if (
                worker) else []  # fmt: skip

        reasons = await one.until("staleness", stale)
        assert set(reasons) <= {"CONNECTION_SILENT", "DISCONNECTED"}
        kept = await one.until(
            "a kept reason",
            lambda: one.rows("SELECT suppressed FROM live_market WHERE suppressed <> ''"),
        )
        assert kept[0][0] in {"CONNECTION_SILENT", "DISCONNECTED"}
        await one.until("freshness", lambda: not stale() and one.counts()["counts"]["events"])


async def test_a_resolution_that_the_stream_withheld_is_found_by_polling(tmp_path: Path) -> None:
    day = StreamDay(seed=4, n_conditions=6, duration_s=1200.0, updates_per_second=5.0, n_jumps=0,
                    resolved_share=0.5, withheld_share=1.0)  # fmt: skip
    _, truth = simulate_day(day)
    async with playing(tmp_path, day, PlaybackSettings(), poll_seconds=0.1) as one:
        await one.until(
            "resolutions", lambda: one.counts().get("counts", {}).get("resolved_by_poll", 0) == 3
        )
        found = await one.until(
            "kept resolutions",
            lambda: len(rows := one.rows(
                "SELECT market_id, winner FROM live_judged WHERE resolved_ms IS NOT NULL"
            )) == 3 and rows,
        )  # fmt: skip
        expected = {(one.conditions[r.condition], r.winning_asset) for r in truth.resolutions}
        assert set(found) == expected
        assert not one.counts()["counts"].get("resolved_by_stream")


async def test_a_frame_that_is_cut_goes_to_the_dead_letters_and_the_stream_goes_on(
    tmp_path: Path,
) -> None:
    cut = StreamFaultPlan(truncate=0.001, seed=3)
    async with playing(tmp_path, DAY, PlaybackSettings(faults=cut)) as one:
        await one.until("dead letters", lambda: one.counts().get("counts", {}).get("dead_letters"))
        before = one.counts()["counts"]["events"]
        letters = await one.letters()
        assert letters[0].reason.startswith("NOT_JSON")
        assert letters[0].kind == "unreadable"
        assert b"event_type" in letters[0].body or b"asset_id" in letters[0].body
        await one.until("more events", lambda: one.counts()["counts"]["events"] > before + 500)


async def test_bars_of_the_store_reach_the_lake(tmp_path: Path) -> None:
    async with playing(tmp_path, DAY, PlaybackSettings(), lake_seconds=0.2) as one:
        await one.until("bars in the lake", lambda: one.lake.read("bar").height > 40)
    stored = set(one.rows("SELECT market_id, start_ms FROM live_bar WHERE interval_ms = 60000"))
    kept = one.lake.read("bar").filter(pl.col("interval") == "1m")
    there = set(kept.select("market_id", pl.col("start_ts").dt.epoch("ms")).iter_rows())
    assert there <= stored


async def test_a_worker_that_was_stopped_goes_on_where_it_ended(tmp_path: Path) -> None:
    async with playing(tmp_path, DAY, PlaybackSettings()) as one:
        await one.until("bars", lambda: one.counts().get("closed_until_ms"))
        await one.until("some time", lambda: one.service.worker.closed_ms > DAY.start_ms + 600_000)
    (ended,) = one.rows("SELECT json_extract(value, '$.watermark') FROM live_position"
                        " WHERE name = 'stream'")  # fmt: skip
    async with playing(tmp_path, DAY, PlaybackSettings()) as again:
        await again.service.ready.wait()
        assert again.service.worker is not None
        assert again.service.worker.stream.watermark >= ended[0]
        assert len(again.service.worker.judge.history.market_ids()) == 4


async def test_an_address_that_is_no_bus_is_refused(tmp_path: Path) -> None:
    from market_data.errors import BusError

    with pytest.raises(BusError, match=r"stream\.bus_url"):
        async with playing(tmp_path, DAY, PlaybackSettings(), bus_url="carrier-pigeon:"):
            await asyncio.sleep(5)
