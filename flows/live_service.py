"""The stream worker: connections, bus, loop, polls and deliveries of one process, put together."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal

import sqlalchemy as sa
from polars.exceptions import PolarsError

from calibration_service.alerts.outbox import Outbox
from calibration_service.alerts.policy import AlertPolicy, check_steps
from calibration_service.alerts.sinks import Sink
from flows.live import LiveWorker, Pace
from flows.live_bands import BandBook, Bands, BaselineBands, GatewayBands, LocalBands
from flows.live_connections import Connections
from flows.live_facts import Facts, FactsUpdate, read_facts
from flows.live_ingest import Publisher
from flows.live_lake import export_alerts, export_bars, prune
from flows.live_markets import PLATFORM, Followed, chosen
from flows.live_polls import Polls
from flows.stream_settings import StreamSettings
from market_data.bus.opening import GROUP, BusPlan, open_bus
from market_data.bus.port import Bus
from market_data.control_store import prepare
from market_data.errors import BusError, BusUnavailable, LakeError
from market_data.lake import Lake
from market_data.sole_worker import AlreadyWorking, sole
from market_data.streaming import live_store
from market_data.streaming.connection import Clock
from market_data.streaming.market_stream import MarketStream, StreamRules
from market_data.streaming.volatility import VolatilityRules
from marketcal import AsyncClient

_LOG = logging.getLogger("flows.live")
Role = Literal["all", "ingest", "work"]
PAUSE_SECONDS = 1.0
GOODBYE_SECONDS = 5.0
"""How long connections and work under way get to end by themselves."""
LOOK_SECONDS = 0.5
"""Between two looks at how far behind the loop is."""
_MAY_PASS = (sa.exc.SQLAlchemyError, LakeError, BusError, PolarsError, OSError)
IDLE_MS = 5_000
"""By the wall clock a minute closes this long after its end, where no event closes it before."""


def stream_rules(settings: StreamSettings) -> StreamRules:
    """How events become bars, by the settings."""
    live = settings.clock == "wall"
    return StreamRules(
        lateness_ms=round(settings.lateness_seconds * 1_000),
        reopen_ms=settings.reopen_seconds * 1_000,
        max_ahead_ms=round(settings.max_ahead_seconds * 1_000) if live else None,
        heeds_feed=live,
    )


def volatility_rules(settings: StreamSettings) -> VolatilityRules:
    """When a market counts as moving, by the settings."""
    return VolatilityRules(
        window_ms=settings.volatility.window_seconds * 1_000,
        min_move=settings.volatility.min_move,
        min_move_logit=settings.volatility.min_move_logit,
        min_relative=settings.volatility.min_relative,
        bar_range=settings.volatility.bar_range,
        volume_ratio=settings.volatility.volume_ratio,
        min_history=settings.volatility.min_history,
        min_samples=settings.volatility.min_samples,
        max_spread=settings.volatility.max_spread,
        min_depth=settings.volatility.min_depth,
        cooldown_ms=settings.volatility.cooldown_seconds * 1_000,
    )


@dataclass(slots=True)
class Outside:
    """What the worker is given of the world.

    Attributes:
        engine: of the control store.
        lake: tables of the platform.
        clock: the process's clocks; now: the wall clock.
        client: of the gateway; None for a baseline alone.
        polls: asks the venue; None where nothing is polled.
        sinks: where alerts are delivered.
        connections: to venues; None where nothing is listened to.
        baseline: name of the baseline that stands in.
    """

    engine: sa.Engine
    lake: Lake
    clock: Clock
    now: Callable[[], datetime]
    client: AsyncClient | None
    polls: Polls | None
    sinks: Sequence[Sink]
    connections: Connections | None
    baseline: str


@dataclass(slots=True)
class LiveService:
    """One process of the live path.

    Attributes:
        role: whether it listens to venues, works on what was heard, or both.
        worker: what works; None before, and where it only listens.
        failures: how often something beside the loop failed, by name.
    """

    settings: StreamSettings
    policy: AlertPolicy
    outside: Outside
    role: Role = "all"
    markets: list[Followed] = field(default_factory=list)
    facts: Facts = field(default_factory=Facts)
    worker: LiveWorker | None = None
    bus: Bus | None = None
    restarts: int = 0
    failures: dict[str, int] = field(default_factory=dict)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    _taken_at: float = 0.0
    _looked_at: float = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``; what was heard until then is worked on and kept.

        Raises:
            PolicyError: the thresholds need longer forecasts than there are.
            BusError: the address of the bus is none.
            sqlalchemy.exc.DBAPIError: the store does not answer at the start.
        """
        settings = self.settings
        check_steps(self.policy, settings.forecast_steps)
        plan = BusPlan(settings.bus_url, settings.bus_partitions, settings.bus_bound)
        self.bus = open_bus(plan, self.outside.clock.monotonic)
        await asyncio.to_thread(prepare, self.outside.engine, live_store.METADATA)
        await self._read_facts()
        heard = asyncio.Event()
        publisher = Publisher(self.bus, stop)
        beside = [asyncio.create_task(one) for one in self._beside(publisher, stop)]
        working = [asyncio.create_task(self._work(heard))] if self.role != "ingest" else []
        if self.role == "ingest":
            self.ready.set()
        try:
            await _until(stop, [*beside, *working])
        finally:
            stop.set()  # connections end by themselves, and say goodbye
            await asyncio.wait(beside, timeout=GOODBYE_SECONDS)
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            heard.set()
            ended = await asyncio.gather(*working, return_exceptions=True)
            await self.bus.close()
        for error in ended:
            if isinstance(error, BaseException):
                raise error

    def _beside(
        self, publisher: Publisher, stop: asyncio.Event
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Connections, polls and upkeep: what goes on beside the loop until the end."""
        settings, outside = self.settings, self.outside
        every = partial(self._every, stop)
        yield every("facts", settings.facts_seconds, self._read_facts)
        if self.role != "work":
            if outside.connections is not None:
                yield outside.connections.run(publisher, stop)
            if outside.polls is not None:
                yield every("polls", settings.poll_seconds, partial(self._poll, publisher))
        if self.role != "ingest":
            yield every("lake", settings.lake_seconds, self._export)
            outbox = Outbox(outside.engine, outside.sinks)
            for sink in outside.sinks:  # a slow one does not hold the others
                yield every(
                    "deliveries", PAUSE_SECONDS, partial(self._deliver, outbox, sink.rule.name)
                )
            yield every("deliveries", PAUSE_SECONDS, partial(self._deliver, outbox, ""))

    async def _work(self, heard: asyncio.Event) -> None:
        """The loop; where store or bus fail it, it begins again at the last checkpoint.

        While another process works on the same store it waits, and takes over when that one ends.
        """
        while True:
            try:
                with sole(self.outside.engine, "stream-worker") as alone:
                    return await self._work_once(heard, alone)
            except (sa.exc.DBAPIError, BusUnavailable, AlreadyWorking) as error:
                self.restarts += 1
                _LOG.error("the live loop failed and begins again: %s", error)
            if heard.is_set():
                return None
            await asyncio.sleep(PAUSE_SECONDS)

    async def _work_once(self, heard: asyncio.Event, alone: Callable[[], None]) -> None:
        assert self.bus is not None
        consumer = await self.bus.subscribe(GROUP, "worker")
        settings, outside = self.settings, self.outside
        worker = LiveWorker(
            consumer,
            outside.engine,
            MarketStream(stream_rules(settings), volatility_rules(settings)),
            policy=self.policy,
            bands=self._bands(),
            facts=self.facts,
            now=outside.now,
            monotonic=outside.clock.monotonic,
            sinks=[sink.rule for sink in outside.sinks],
            pace=Pace(checkpoint_seconds=settings.checkpoint_seconds),
        )
        try:
            await worker.start()
            self._leave_out(worker)
            self.worker, self._taken_at = worker, outside.clock.monotonic()
            self.ready.set()
            while not heard.is_set():
                await self._turn(worker, alone)
            until = outside.clock.monotonic() + GOODBYE_SECONDS
            while await worker.turn() and outside.clock.monotonic() < until:
                pass  # what this process has heard; another one may go on publishing
            await worker.checkpoint()
        finally:
            await worker.bands.close()
            await consumer.close()

    def _leave_out(self, worker: LiveWorker) -> None:
        """Markets that are followed no more raise nothing by the prices at which they were left."""
        followed = {one.market_id for one in self.markets}
        for name, market in worker.stream.markets.items():
            if name.startswith(f"{PLATFORM}:") and name not in followed:
                market.suppressed = market.suppressed or "UNFOLLOWED"

    async def _turn(self, worker: LiveWorker, alone: Callable[[], None]) -> None:
        taken = await worker.turn()
        clock, now = self.outside.clock, self.outside.clock.monotonic()
        is_live = self.settings.clock == "wall"
        if taken:
            self._taken_at = now
        elif is_live and worker.stream.watermark:
            await worker.advance(clock.wall_ms() - IDLE_MS)
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            await asyncio.to_thread(alone)
            worker.stream.suppressed = await self._why_not(now) if is_live else ""

    async def _why_not(self, now: float) -> str:
        """Why nothing may be raised now, for all markets; "" where it may."""
        assert self.bus is not None
        bound = self.settings.max_lag_seconds
        if bound and (await self.bus.lag(GROUP)).oldest_seconds > bound:
            return "LAGGING"
        delay = self.worker.stream.delay_ms if self.worker else None
        if bound and delay is not None and delay > bound * 1_000:
            return "DELAYED"
        silent = now - self._taken_at > self.settings.stale_seconds
        return "NO_EVENTS" if silent else ""

    def _bands(self) -> BandBook:
        settings, policy, steps = self.settings, self.policy, self.settings.forecast_steps
        baseline = BaselineBands(policy, steps, self.outside.baseline)
        bands: Bands = LocalBands(baseline)
        if self.outside.client is not None:
            bands = GatewayBands(
                self.outside.client, policy, steps, settings.model, settings.forecast_wait_seconds
            )
        return BandBook(bands, baseline, settings.forecast_wait_seconds)

    async def _every(
        self, stop: asyncio.Event, name: str, seconds: float, work: Callable[[], Awaitable[Any]]
    ) -> None:
        """Does ``work`` again and again; a failure is counted, logged, and tried again."""
        while not stop.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await stop.wait()
                return
            try:
                await work()
            except _MAY_PASS as error:
                self.failures[name] = self.failures.get(name, 0) + 1
                _LOG.warning("%s failed, and is tried again: %s", name, error)

    async def _read_facts(self) -> None:
        """Reads which markets are followed, and what is known of them."""

        since = self.facts.since_ms()

        def read() -> tuple[list[Followed], FactsUpdate]:
            with self.outside.engine.connect() as connection:
                over = live_store.resolved_markets(connection)
            found = chosen(self.outside.lake, self.policy.selection, over)
            return found, read_facts(self.outside.lake, [one.market_id for one in found], since)

        found, update = await asyncio.to_thread(read)
        self.facts.apply(update)
        self.markets = found
        if self.outside.connections is not None:
            self.outside.connections.follow(found)

    async def _poll(self, publisher: Publisher) -> None:
        assert self.outside.polls is not None
        events = await self.outside.polls.ask(self.markets, self.outside.clock.wall_ms())
        await publisher.publish(events)

    async def _export(self) -> None:
        await asyncio.to_thread(export_bars, self.outside.engine, self.outside.lake)
        await asyncio.to_thread(export_alerts, self.outside.engine, self.outside.lake)
        await asyncio.to_thread(prune, self.outside.engine, self.settings.keep_days)

    async def _deliver(self, outbox: Outbox, sink: str) -> None:
        """Delivers what is due to a sink; "" for what is for none that is there."""
        now = self.outside.now()
        await (outbox.deliver_due_to(sink, now) if sink else outbox.refuse_unknown(now))


async def _until(stop: asyncio.Event, tasks: Sequence[asyncio.Task[None]]) -> None:
    """Waits for ``stop``; raises what a task raises before that."""
    stopping = asyncio.create_task(stop.wait())
    try:
        pending: set[asyncio.Task[Any]] = {stopping, *tasks}
        while not stopping.done():
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
    finally:
        stopping.cancel()
