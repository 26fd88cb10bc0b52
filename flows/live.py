"""The live loop: events in, bars, forecasts and alerts out, and what was done kept as it goes.

One coroutine takes events from the bus, folds them, and at each closed minute holds the prices
against their bands. A checkpoint is one transaction of the control store: bars, triggers, alerts
with what is to be delivered of them, trades that have counted, and the state of every market that
changed. Only then are the events acknowledged; after a crash those that were not come again, on the
state that was, and give what they would have given.
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
from calibration_service.alerts.engine import step
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import Alert, Observation
from flows.live_bands import BandBook
from flows.live_checkpoint import Watched, restore, row_of
from flows.live_facts import Facts
from flows.live_history import KEPT_MS, History
from market_data.bus.port import Consumer, Delivery
from market_data.control_store import prepare
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import (
    Event,
    Feed,
    NewMarket,
    OpenInterest,
    Resolved,
    TickSize,
    Unreadable,
)
from market_data.streaming.market_stream import MarketStream, MinuteClosed, Signal
from market_data.streaming.volatility import Trigger

_LOG = logging.getLogger("flows.live")
OLD_BAND_MS = 6 * FIVE_MS
"""A market in which nothing happens gets a new band when its last one is as old as this."""


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
    alerts: list[Alert] = field(default_factory=list)

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
        self._policy = policy
        self.bands = bands
        self._facts = facts
        self._sinks = tuple(sinks)
        self._now = now
        self._monotonic = monotonic
        self._pace = pace or Pace()
        self.history = History()
        self.watched: dict[str, Watched] = {}
        self.counts: Counter[str] = Counter()
        self.closed_ms = 0
        self._undone = Undone()
        self._kept_at = 0.0
        self._muted = frozenset(policy.selection.muted)

    async def start(self) -> None:
        """Goes on where the last checkpoint ended.

        Raises:
            StateUnreadable: what was kept cannot be read.
            sqlalchemy.exc.DBAPIError: the store does not answer.
        """
        await asyncio.to_thread(self._read)
        self._kept_at = self._monotonic()
        last_five = self.closed_ms - self.closed_ms % FIVE_MS
        if last_five and not self._has_bands_of(last_five):
            self._forecast(last_five)

    def _read(self) -> None:
        for metadata in (live_store.METADATA, alert_store.METADATA):
            prepare(self._engine, metadata)
        stream = self.stream
        with self._engine.connect() as connection:
            position = live_store.read_position(connection, "stream") or {}
            for identity, ms in live_store.read_trades(connection):
                stream.ledger.is_new(identity, ms)
            stream.ledger.written(len(stream.ledger.new()))
            restored = restore(connection, stream)
            since = position.get("closed_until", 0) - KEPT_MS
            for interval in (MINUTE_MS, FIVE_MS):
                self.history.add(live_store.read_bars(connection, interval, since_ms=since))
        self.watched = restored.watched
        for market_id, issued in restored.issued.items():
            for one in issued:
                self.bands.keep(market_id, one)
        stream.resume(position.get("closed_until", 0), position.get("watermark", 0))
        self.closed_ms = stream.closed_until

    def _has_bands_of(self, issued_ms: int) -> bool:
        return any(self.bands.age_ms(one, issued_ms) == 0 for one in self.bands.issued)

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
            stream.apply((event,))
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
                self.counts["triggers"] += 1
            elif isinstance(signal, Bar):
                self._undone.bars.append(signal)
            elif isinstance(signal, TickSize):
                self._facts.of(signal.market_id).tick_size = signal.tick_size
            elif isinstance(signal, OpenInterest):
                self._facts.of(signal.market_id).add_open_interest(signal.ms, signal.usd)
            elif isinstance(signal, Resolved):
                self._resolve(signal)
            elif isinstance(signal, NewMarket):
                self.counts["new_markets"] += 1

    def _resolve(self, resolved: Resolved) -> None:
        watched = self._watched(resolved.market_id)
        if watched.resolved_ms is None:
            watched.resolved_ms, watched.winner = resolved.ms, resolved.winner
            self.counts[f"resolved_by_{resolved.source}"] += 1
            self._undone.touched.add(resolved.market_id)

    def _watched(self, market_id: str) -> Watched:
        found = self.watched.get(market_id)
        if found is None:
            found = self.watched[market_id] = Watched(MarketState(market_id))
        return found

    async def _minute(self, closed: MinuteClosed) -> None:
        """Judges a closed minute, with the bands of the five-minute bar before it."""
        self.history.add((*closed.revised, *closed.bars, *closed.fives))
        self._undone.bars += (*closed.revised, *closed.bars, *closed.fives)
        await self.bands.settle()
        self._undone.touched.update(name for name, _ in self.bands.take_fresh())
        raised = [alert for bar in closed.bars for alert in self._judge(bar)]
        quiet = self._pending() - {bar.market_id for bar in closed.bars}
        for market_id in sorted(quiet):
            raised += self._judge_quiet(market_id, closed.end_ms)
        self.closed_ms = closed.end_ms
        if closed.end_ms % FIVE_MS == 0:
            self.history.forget(closed.end_ms)
            self._forecast(closed.end_ms)
        if raised:
            self._undone.alerts += raised
            self.counts.update(f"alerts_{alert.severity.name}" for alert in raised)
            await self.checkpoint()

    def _pending(self) -> set[str]:
        """Markets with a breach under way, which a minute without events carries on too."""
        return {name for name, one in self.watched.items() if one.alerts.breach is not None}

    def _judge_quiet(self, market_id: str, at_ms: int) -> tuple[Alert, ...]:
        """A minute in which nothing was said: the price stands where it stood."""
        price = self.watched[market_id].alerts.last_price
        if price is None:
            return ()
        bar = Bar(market_id, MINUTE_MS, at_ms - MINUTE_MS, *(price,) * 4, 0, 0, 0, 0.0)
        return self._judge(bar)

    def _judge(self, bar: Bar) -> tuple[Alert, ...]:
        if not 0.0 <= bar.close <= 1.0 or bar.market_id in self._muted:
            return ()
        watched = self._watched(bar.market_id)
        if watched.resolved_ms is not None and watched.resolved_ms <= bar.end_ms:
            return ()
        outcome = step(watched.alerts, self._observation(bar), self._policy)
        watched.alerts = outcome.state
        self._undone.touched.add(bar.market_id)
        return outcome.alerts

    def _observation(self, bar: Bar) -> Observation:
        facts = self._facts.of(bar.market_id)
        issued = self.bands.before(bar.market_id, bar.end_ms)
        recent, mean, hours = self.history.volumes(bar.market_id, bar.end_ms)
        market = self.stream.markets.get(bar.market_id)
        return Observation(
            market_id=bar.market_id,
            at_ms=bar.end_ms,
            price=bar.close,
            high=bar.high,
            low=bar.low,
            band=issued.band if issued else None,
            volume_60m=recent,
            mean_hourly_volume_24h=mean,
            volume_history_hours=hours,
            open_interest_change_60m=facts.open_interest_change(bar.end_ms),
            ambiguity=facts.ambiguity,
            trust=facts.trust,
            low_confidence=issued is not None and not issued.is_corrected,
            tick_size=facts.tick_size,
            suppressed=self.stream.suppressed or (market.suppressed if market else ""),
        )

    def _forecast(self, issued_ms: int) -> None:
        """Asks for bands of the markets that need one."""
        series = {}
        for market_id in sorted(self.stream.markets):
            watched = self.watched.get(market_id)
            if watched is None or watched.resolved_ms is not None or market_id in self._muted:
                continue
            if self.history.has_five(market_id, issued_ms) or (
                self.bands.age_ms(market_id, issued_ms) >= OLD_BAND_MS
            ):
                series[market_id] = self.history.closes(market_id, issued_ms)
        self.bands.begin(issued_ms, series)

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
        stream, now = self.stream, self._now()
        rows = [
            row_of(
                stream.markets.get(one), self._watched(one), self.bands.issued.get(one, [])
            )
            for one in sorted(undone.touched)
        ]  # fmt: skip
        trades = stream.ledger.new()
        oldest = stream.watermark - stream.ledger.span_ms
        position = {"closed_until": stream.closed_until, "watermark": stream.watermark}
        events = {one.market_id: self._facts.of(one.market_id).event_id for one in undone.alerts}
        with self._engine.begin() as connection:
            live_store.write_bars(connection, undone.bars)
            live_store.write_triggers(connection, undone.triggers)
            live_store.write_trades(connection, trades, oldest)
            live_store.write_markets(connection, rows)
            live_store.write_position(connection, "stream", position)
            alert_store.write_alerts(
                connection, undone.alerts, self._sinks, now=now, event_ids=events
            )
        stream.ledger.written(len(trades))

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
            "counts": dict(self.counts) | {f"stream_{k}": n for k, n in stream.counts.items()},
            "late_forecasts": self.bands.late,
        }
