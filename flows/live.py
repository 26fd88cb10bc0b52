"""The live loop: events in, bars, forecasts and alerts out, and what was done kept as it goes.

One coroutine takes events from the bus, folds them, and at each closed minute holds the prices
against their bands. Alerts are written at once, with what is to be delivered of them. A checkpoint
is one transaction of the control store: bars, triggers, trades that have counted, and the state of
every market that changed. Only then are the events acknowledged; after a crash those that were not
come again, on the state that was, and give what they would have given, alerts with the same ids.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from calibration_service.alerts import store as alert_store
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.values import Alert
from flows.live_bands import BandBook
from flows.live_checkpoint import fold_row, judged_row, restore
from flows.live_facts import Facts
from flows.live_history import KEPT_MS
from flows.live_judge import Judge
from market_data.bus.port import Consumer, Delivery
from market_data.control_store import prepare
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import (
    Event,
    Feed,
    NewMarket,
    Unreadable,
)
from market_data.streaming.market_stream import MarketStream, MinuteClosed, Signal
from market_data.streaming.volatility import Trigger

_LOG = logging.getLogger("flows.live")
_POISON = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What an event may do to whoever folds it; it is tried again, and then put aside."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the loop goes.

    Attributes:
        batch: events taken at once.
        wait_seconds: longest wait for the next ones.
        checkpoint_seconds: longest time between two checkpoints while something changes.
        checkpoint_events: most events between two checkpoints.
    """

    batch: int = 500
    wait_seconds: float = 0.1
    checkpoint_seconds: float = 1.0
    checkpoint_events: int = 20_000


@dataclass(slots=True)
class Undone:
    """What was folded and not kept yet."""

    deliveries: list[Delivery] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)
    bars: list[Bar] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.deliveries or self.touched or self.bars)


class LiveWorker:
    """Works on one group of a bus.

    Args:
        consumer: gives events.
        engine: of the control store.
        stream: folds events; its ledger is replaced by the one that was kept.
        policy: thresholds of alerts.
        bands: forecasts for gates.
        facts: what is known of markets beside the stream.
        sinks: who is told of alerts.
        now: the wall clock.
        monotonic: seconds that never go back.
        pace: how the loop goes.

    Attributes:
        counts: what was done: events, alerts by severity, checkpoints, dead letters.
        closed_ms: end of the last minute that was judged.
    """

    def __init__(
        self,
        consumer: Consumer,
        engine: sa.Engine,
        stream: MarketStream,
        *,
        policy: AlertPolicy,
        bands: BandBook,
        facts: Facts,
        now: Callable[[], datetime],
        monotonic: Callable[[], float],
        sinks: Sequence[alert_store.SinkRule] = (),
        pace: Pace | None = None,
    ) -> None:
        self._consumer = consumer
        self._engine = engine
        self.stream = stream
        self.judge = Judge(policy, bands, facts, self._suppressed)
        self._sinks = tuple(sinks)
        self._now = now
        self._monotonic = monotonic
        self._pace = pace or Pace()
        self.counts: Counter[str] = Counter()
        self.closed_ms = 0
        self._undone = Undone()
        self._kept_at = 0.0

    async def start(self) -> None:
        """Goes on where the last checkpoint ended.

        Raises:
            StateUnreadable: what was kept cannot be read.
            sqlalchemy.exc.DBAPIError: the store does not answer.
        """
        await asyncio.to_thread(self._read)
        self._kept_at = self._monotonic()
        last_five = self.closed_ms - self.closed_ms % FIVE_MS
        issued = self.bands.issued
        if last_five and not any(self.bands.age_ms(one, last_five) == 0 for one in issued):
            self.judge.forecast(last_five)

    @property
    def bands(self) -> BandBook:
        """Forecasts for gates."""
        return self.judge.bands

    def _read(self) -> None:
        prepare(self._engine, live_store.METADATA)
        alert_store.prepare_alerts(self._engine)
        stream = self.stream
        with self._engine.connect() as connection:
            position = live_store.read_position(connection, "stream") or {}
            for identity, ms in live_store.read_trades(connection):
                stream.ledger.is_new(identity, ms)
            stream.ledger.written(len(stream.ledger.new()))
            restored = restore(connection, stream, self.judge.facts)
            since = position.get("closed_until", 0) - KEPT_MS
            for interval in (MINUTE_MS, FIVE_MS):
                bars = live_store.read_bars(connection, interval, since_ms=since)
                self.judge.history.add(bars)
        self.judge.watched = restored.watched
        for market_id, issued in restored.issued.items():
            for one in issued:
                self.bands.keep(market_id, one)
        stream.resume(position.get("closed_until", 0), position.get("watermark", 0))
        self.closed_ms = stream.closed_until

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``, and keeps what it did; `start` comes before it."""
        while not stop.is_set():
            await self.turn()
        await self.checkpoint()
        await self.bands.close()

    async def turn(self) -> int:
        """Takes what is there, works on it, and keeps it when it is time; how many events."""
        pace = self._pace
        deliveries = await self._consumer.take(pace.batch, pace.wait_seconds)
        await self.work(deliveries)
        waited = self._monotonic() - self._kept_at
        enough = len(self._undone.deliveries) >= pace.checkpoint_events
        if self._undone and (enough or waited >= pace.checkpoint_seconds):
            await self.checkpoint()
        return len(deliveries)

    async def work(self, deliveries: Iterable[Delivery]) -> None:
        """Folds events in, in order; what a closed minute raises is kept at once."""
        stream, undone = self.stream, self._undone
        for delivery in deliveries:
            event: Event = delivery.envelope.body
            if isinstance(event, Unreadable):
                await self._consumer.put_aside(delivery, f"{event.reason}: {event.detail}"[:500])
                self.counts["dead_letters"] += 1
                continue
            try:
                stream.apply((event,))
            except _POISON as error:
                self.counts["refused"] += 1
                await self._consumer.refuse(delivery, f"{type(error).__name__}: {error}"[:500])
                continue
            undone.deliveries.append(delivery)
            self.counts["events"] += 1
            if isinstance(event, Feed):
                undone.touched.update(event.markets or stream.markets)
            else:
                undone.touched.add(event.market_id)
            if stream.signals:
                await self._heed(stream.take_signals())
                undone = self._undone

    async def advance(self, now_ms: int) -> None:
        """Closes minutes by the clock, where no event comes to do it."""
        self.stream.advance(now_ms)
        if self.stream.signals:
            await self._heed(self.stream.take_signals())

    async def _heed(self, signals: Sequence[Signal]) -> None:
        for signal in signals:
            if isinstance(signal, MinuteClosed):
                await self._minute(signal)
            elif isinstance(signal, Trigger):
                self._undone.triggers.append(signal)
                self.judge.refresh(signal.market_id, signal.ms)
                self.counts["triggers"] += 1
            elif isinstance(signal, Bar):
                self._undone.bars.append(signal)
            elif isinstance(signal, NewMarket):
                self.counts["new_markets"] += 1
            else:
                self.judge.learn(signal)

    async def _minute(self, closed: MinuteClosed) -> None:
        """Has a closed minute judged, and tells at once what that raises.

        An alert is the same one when it is raised again after a crash, so it need not wait for the
        checkpoint that keeps the state behind it.
        """
        raised = await self.judge.minute(closed)
        if raised:
            await asyncio.to_thread(self._write_alerts, raised)
            self.counts.update(f"alerts_{alert.severity.name}" for alert in raised)
        self._undone.bars += (*closed.revised, *closed.bars, *closed.fives)
        self.judge.look_ahead(closed.end_ms)
        if closed.end_ms % FIVE_MS == 0:
            self._undone.gone += self.stream.forget(closed.end_ms - KEPT_MS)
        self.closed_ms = closed.end_ms

    def _write_alerts(self, alerts: Sequence[Alert]) -> None:
        events = {one.market_id: self.judge.facts.of(one.market_id).event_id for one in alerts}
        with self._engine.begin() as connection:
            alert_store.write_alerts(
                connection, alerts, self._sinks, now=self._now(), event_ids=events
            )

    def _suppressed(self, market_id: str) -> str:
        market = self.stream.markets.get(market_id)
        return self.stream.suppressed or (market.suppressed if market else "")

    async def checkpoint(self) -> None:
        """Keeps everything since the last one, in one transaction, and acknowledges its events.

        Raises:
            sqlalchemy.exc.DBAPIError: the store does not take it; nothing was acknowledged.
        """
        undone = self._undone
        await asyncio.to_thread(self._write, undone)
        self._undone = Undone()
        await self._consumer.acknowledge(undone.deliveries)
        self._kept_at = self._monotonic()
        self.counts["checkpoints"] += 1

    def _write(self, undone: Undone) -> None:
        stream, judge = self.stream, self.judge
        trades, judged = stream.ledger.new(), sorted(judge.touched)
        folded = [
            fold_row(stream.markets[one]) for one in sorted(undone.touched & stream.markets.keys())
        ]
        states = [
            judged_row(
                judge.state_of(one), self.bands.issued.get(one, ()), judge.facts.of(one),
                stream.markets.get(one),
            )
            for one in judged
        ]  # fmt: skip
        position = {
            "closed_until": stream.closed_until,
            "watermark": stream.watermark,
            "late_forecasts": self.bands.late,
        }
        with self._engine.begin() as connection:
            live_store.write_bars(connection, undone.bars)
            live_store.write_triggers(connection, undone.triggers)
            live_store.write_trades(connection, trades, stream.watermark - stream.ledger.span_ms)
            live_store.write_folded(connection, folded)
            live_store.write_judged(connection, states)
            live_store.drop_markets(connection, undone.gone)
            live_store.write_position(connection, "stream", position)
        stream.ledger.written(len(trades))
        judge.touched.clear()

    def lag_seconds(self, wall_ms: int) -> float:
        """Age of the latest event by the venue's time; 0.0 before any."""
        return max(0.0, (wall_ms - self.stream.watermark) / 1_000) if self.stream.watermark else 0.0

    def state(self) -> dict[str, Any]:
        """What the worker is doing, for people and metrics."""
        stream = self.stream
        return {
            "closed_until_ms": stream.closed_until,
            "watermark_ms": stream.watermark,
            "markets": len(stream.markets),
            "suppressed": stream.suppressed,
            "counts": dict(self.counts + self.judge.counts)
            | {f"stream_{k}": n for k, n in stream.counts.items()},
            "late_forecasts": self.bands.late,
        }
