"""Puts the stream worker together: settings in, running service out."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import httpx
import sqlalchemy as sa

from calibration_service.alerts.errors import PolicyError
from calibration_service.alerts.policy import AlertPolicy, check_steps, load_policy
from calibration_service.alerts.sinks import LogSink, Sink, Webhook
from calibration_service.alerts.store import SinkRule
from calibration_service.alerts.values import Severity
from flows.live import LiveWorker
from flows.live_bands import BandBook, BaselineBands, LocalBands
from flows.live_connections import Connections
from flows.live_facts import Facts
from flows.live_ingest import as_book_message
from flows.live_markets import Followed
from flows.live_polls import Polls
from flows.live_service import LiveService, Outside, Role, stream_rules, volatility_rules
from flows.settings import FlowSettings
from flows.stream_settings import StreamSettings
from gateway.live_metrics import text_of
from gateway.settings import Settings
from gateway.stores import open_store
from gateway.telemetry.scrape import Scrape
from market_data.bus.in_process import InProcessBus
from market_data.bus.opening import GROUP
from market_data.lake import Lake
from market_data.streaming import live_store
from market_data.streaming.connection import Clock
from market_data.streaming.events import Codec, merged
from market_data.streaming.market_stream import MarketStream
from market_data.venues.http import HttpPolicy, VenueHttp
from marketcal import AsyncClient

WEBHOOK_SECONDS = 10.0
LOOPBACK = "127.0.0.1"


def utc_now() -> datetime:
    """The wall clock of this process."""
    return datetime.now(UTC)


def wall_ms() -> int:
    """Unix milliseconds of this process."""
    return time.time_ns() // 1_000_000


@contextlib.asynccontextmanager
async def live(settings: Settings, role: Role, key: str | None) -> AsyncIterator[LiveService]:
    """The service with what it needs of the world, not yet running.

    Args:
        role: what this process does.
        key: API key for the gateway; None for none.

    Raises:
        PolicyError: the file of thresholds is wrong.
        ValueError: an address is wrong.
    """
    stream = settings.stream
    policy = _policy(stream)
    flows = settings.flows
    clock = Clock(time.monotonic, wall_ms)
    async with contextlib.AsyncExitStack() as stack:
        engine = open_store(settings.control.url)
        stack.callback(engine.dispose)
        venue = await stack.enter_async_context(VenueHttp(_http_policy(flows)))
        webhooks = await stack.enter_async_context(
            httpx.AsyncClient(timeout=WEBHOOK_SECONDS, trust_env=False)
        )
        client = None
        if stream.address and role != "ingest":
            client = await stack.enter_async_context(AsyncClient(stream.address, key=key))

        async def book(token: str) -> bytes:
            answer = await venue.get(f"{flows.clob_url}/book", [("token_id", token)])
            return as_book_message(answer.value)

        outside = Outside(
            engine=engine,
            lake=Lake(flows.lake),
            clock=clock,
            now=utc_now,
            client=client,
            polls=Polls(venue, flows.gamma_url) if stream.polymarket_url else None,
            sinks=_sinks(settings, webhooks),
            # The books of a recording's venue are of another instant than what is on the wire.
            connections=Connections(
                stream, clock, random.Random(), books=book if stream.clock == "wall" else None
            ),
            baseline=settings.forecast.policy.fallback_model,
        )
        yield LiveService(stream, policy, outside, role)


def _http_policy(flows: FlowSettings) -> HttpPolicy:
    return HttpPolicy(
        max_in_flight=flows.venue_concurrency,
        requests_per_second=flows.venue_rate,
        attempts=min(3, flows.venue_attempts),
        backoff_seconds=flows.venue_backoff_seconds,
    )


def _policy(stream: StreamSettings) -> AlertPolicy:
    try:
        return load_policy(Path(stream.policy_file) if stream.policy_file else None)
    except PolicyError as error:
        raise PolicyError(f"stream.policy_file: {error}") from None


def _sinks(settings: Settings, http: httpx.AsyncClient) -> list[Sink]:
    stream = settings.stream
    least = Severity[stream.sink_min_severity]
    sinks: list[Sink] = []
    if stream.webhook_url:
        secret = stream.webhook_secret
        if secret is None:
            raise ValueError("stream.webhook_secret: what is posted must be signed")
        try:
            webhook = Webhook(
                SinkRule("webhook", least), url=stream.webhook_url,
                secret=secret.get_secret_value().encode(), http=http,
            )  # fmt: skip
        except ValueError as error:  # of its arguments url and secret
            raise ValueError(f"stream.webhook_{error}") from None
        sinks.append(webhook)
    if stream.log_alerts:
        sinks.append(LogSink(SinkRule("log", least)))
    return sinks


async def follow(
    settings: Settings, role: Role, key: str | None, announce: Callable[[dict[str, object]], None]
) -> None:
    """Runs the service until SIGTERM or SIGINT, and keeps what it heard."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with live(settings, role, key) as service:
        scrape = None
        if settings.stream.metrics_port >= 0:
            scrape = Scrape(lambda: text_of(service), LOOPBACK, settings.stream.metrics_port)
        try:
            running = asyncio.create_task(service.run(stop))
            ready = asyncio.create_task(service.ready.wait())
            await asyncio.wait({running, ready}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                port = scrape.port.result() if scrape and scrape.port.done() else 0
                announce({"role": role, "markets": len(service.markets), "metrics_port": port})
            ready.cancel()
            await running
        finally:
            if scrape is not None:
                await asyncio.to_thread(scrape.close)


@contextlib.asynccontextmanager
async def replaying(
    settings: Settings, store: Path, markets: Sequence[Followed]
) -> AsyncIterator[tuple[LiveWorker, InProcessBus, sa.Engine]]:
    """A worker over a store of its own, whose result hangs on the events and the lake alone."""
    stream = settings.stream.model_copy(update={"clock": "venue"})
    policy = _policy(stream)
    check_steps(policy, stream.forecast_steps)
    baseline = BaselineBands(policy, stream.forecast_steps, settings.forecast.policy.fallback_model)
    bus = InProcessBus([GROUP], Codec(), merged, time.monotonic, bound=1 << 30)
    facts = Facts()
    await asyncio.to_thread(facts.read, Lake(settings.flows.lake), [m.market_id for m in markets])
    engine = open_store(f"sqlite:///{store}")
    worker = LiveWorker(
        await bus.subscribe(GROUP, "replay"),
        engine,
        MarketStream(stream_rules(stream), volatility_rules(stream)),
        policy=policy,
        bands=BandBook(LocalBands(baseline), baseline, stream.forecast_wait_seconds),
        facts=facts,
        now=utc_now,
        monotonic=time.monotonic,
    )
    try:
        await worker.start()
        with engine.begin() as connection:
            live_store.write_position(connection, "replay", value=True)
        yield worker, bus, engine
    finally:
        engine.dispose()
