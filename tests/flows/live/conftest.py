"""A live loop over a recorded day, that can be stopped anywhere and begun again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from calibration_service.alerts import store as alert_store
from calibration_service.alerts.policy import load_policy
from flows.live import LiveWorker, Pace
from flows.live_bands import BandBook, Bands, BaselineBands, LocalBands
from flows.live_facts import Facts
from flows.live_ingest import enveloped
from market_data.bus.in_process import InProcessBus
from market_data.control_store import write_ahead
from market_data.replay.stream_capture import Record
from market_data.replay.stream_simulate import StreamDay, simulate_day
from market_data.replay.stream_simulate_market import Truth
from market_data.streaming import live_store
from market_data.streaming.events import Codec, Event, merged
from market_data.streaming.instruments import Instruments
from market_data.streaming.market_stream import MarketStream, StreamRules
from market_data.streaming.volatility import VolatilityRules
from market_data.venues.binance.stream_parse import FuturesParser
from market_data.venues.polymarket.stream_parse import MarketChannelParser

POLICY = load_policy()
RULES = StreamRules(heeds_feed=False)


@dataclass
class Day:
    """A simulated day, parsed."""

    records: list[Record]
    truth: Truth
    events: list[Event]
    markets: set[str]


def parsed(records: Sequence[Record], truth: Truth) -> Day:
    instruments = Instruments.of_markets(
        (f"polymarket:{condition}", tokens) for condition, tokens in truth.assets.items()
    )
    parsers: dict[str, Any] = {
        "polymarket": MarketChannelParser(instruments.by_token),
        "binance": FuturesParser(),
    }
    events = [
        event
        for record in records
        if record.channel in parsers
        for event in parsers[record.channel].parse(record.frame, record.recv_ms)
    ]
    assert not any(parser.rejected for parser in parsers.values())
    return Day(list(records), truth, events, instruments.market_ids)


@pytest.fixture(scope="session")
def day() -> Day:
    """Two hours of ten markets with every kind of message, and four planted jumps."""
    plan = StreamDay(
        seed=3, n_conditions=10, n_new=1, duration_s=7200.0, updates_per_second=4.0, n_jumps=4,
        resolved_share=0.2,
    )  # fmt: skip
    return parsed(*simulate_day(plan))


class Broken(Exception):
    """The process died here."""


@dataclass
class Machine:
    """A control store and a bus that outlive the loops that work on them.

    Attributes:
        died: how often the loop was broken off without a word.
    """

    folder: Path
    bands: Bands | None = None
    died: int = 0
    url: str = ""
    facts: Facts = field(default_factory=Facts)
    pace: Pace = field(default_factory=lambda: Pace(checkpoint_seconds=0.0, checkpoint_events=700))
    clock: Callable[[], float] = field(default_factory=lambda: itertools.count().__next__)

    def __post_init__(self) -> None:
        url = self.url or f"sqlite:///{self.folder / 'control.db'}"
        self.engine = write_ahead(sa.create_engine(url))
        self.bus = InProcessBus(["live"], Codec(), merged, self.clock, bound=10_000_000)

    def know(self, markets: set[str]) -> None:
        """Says what makes alerts of more than FYI possible."""
        for market_id in markets:
            facts = self.facts.of(market_id)
            facts.tick_size, facts.trust, facts.ambiguity = 0.01, 90.0, 0.1

    async def worker(self) -> LiveWorker:
        baseline = BaselineBands(POLICY, 14, "ewma")
        made = LiveWorker(
            await self.bus.subscribe("live", "w"),
            self.engine,
            MarketStream(RULES, VolatilityRules()),
            policy=POLICY,
            bands=BandBook(self.bands or LocalBands(baseline), baseline, 10.0),
            facts=self.facts,
            now=lambda: datetime(2026, 9, 15, tzinfo=UTC),
            monotonic=self.clock,
            pace=self.pace,
        )
        await made.start()
        return made

    async def publish(self, events: Sequence[Event]) -> None:
        await self.bus.publish(enveloped(events))

    async def work(self, die_at: Sequence[int] = ()) -> LiveWorker:
        """Works on all that waits; after each number of events the loop dies and begins again."""
        worker = await self.worker()
        deaths = iter(sorted(die_at))
        next_death, done = next(deaths, None), 0
        while (await self.bus.lag("live")).waiting:
            done += await worker.turn()
            if next_death is not None and done >= next_death:
                self.died += 1
                next_death = next(deaths, None)
                await worker.bands.close()
                await worker._consumer.close()
                worker = await self.worker()
        await worker.checkpoint()
        await worker.bands.close()
        return worker

    def bars(self) -> list[tuple[Any, ...]]:
        """All bars, as far as they are kept."""
        columns = ("market_id", "interval_ms", "start_ms", "open", "high", "low", "close", "volume",
                   "trade_count", "realized_vol")  # fmt: skip
        names = ", ".join(columns)
        with self.engine.connect() as connection:
            rows = connection.execute(sa.text(f"SELECT {names} FROM live_bar ORDER BY 1, 2, 3"))
            return [tuple(row) for row in rows]

    def alerts(self) -> list[Any]:
        """All alerts, oldest first."""
        with self.engine.connect() as connection:
            found = alert_store.after(connection, 0, limit=10_000)
        return sorted((one.alert for one in found), key=lambda one: (one.at_ms, one.alert_id))

    def triggers(self) -> list[Any]:
        with self.engine.connect() as connection:
            return live_store.read_triggers(connection, 10_000)


@pytest.fixture
def machine(tmp_path: Path, day: Day) -> Machine:
    made = Machine(tmp_path)
    made.know(day.markets)
    return made


def disturbed(events: Sequence[Event], seed: int, *, within_ms: int = 1_500) -> list[Event]:
    """The events with every tenth one twice, and out of order by up to ``within_ms``."""
    rng = random.Random(seed)
    doubled = [one for event in events for one in [event] * (1 + (rng.random() < 0.1))]
    shaken = [(event.ms + rng.randrange(within_ms), place) for place, event in enumerate(doubled)]
    return [doubled[place] for _, place in sorted(shaken)]
