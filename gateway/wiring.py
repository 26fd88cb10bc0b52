"""Puts the gateway's process together: settings in, running server out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from types import MappingProxyType
from typing import Any

from calibration_service.publication import Publication
from forecast_service.band_log import BandLog
from gateway.audit import UNNAMED, Actor, CallAudit, note_resource
from gateway.beside import Beside, keep
from gateway.contract import read_methods
from gateway.deadlines import Deadlines
from gateway.gcra import Limiter
from gateway.hosting import SERVICES, Forecasting, Hosting, host
from gateway.identification import Identification, identification
from gateway.interceptors.concurrency import Work
from gateway.interceptors.ratelimit import RateLimit
from gateway.interceptors.streams import OpenStreams
from gateway.interceptors.validation import check_rules
from gateway.keys import KeyRing, KeyStore
from gateway.pipeline import Pipeline, Sizes
from gateway.ray_link import keep_connected
from gateway.server import Gateway
from gateway.settings import Settings
from gateway.shared_limits import SharedLimits
from gateway.stores import open_store
from gateway.telemetry.readings import Sources
from gateway.telemetry.watch import Watch

_LOG = logging.getLogger("gateway")


def utc_now() -> datetime:
    """The wall clock of this process."""
    return datetime.now(UTC)


def open_keys(url: str, actor: Actor = UNNAMED) -> KeyStore:
    """The key store at ``url``, changed by ``actor``."""
    return KeyStore(open_store(url), utc_now, actor)


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway is made of.

    Attributes:
        gateway: the server.
        hosting: what answers the calls.
        keys: the stored keys; ring: the same in memory.
        shared: limits that other gateways share; None where each has its own.
        identification: what finds out who calls.
        audit: writes down who changed what.
        watch: spans, metrics and log lines; sources: what its metrics are read from.
    """

    settings: Settings
    gateway: Gateway
    hosting: Hosting
    keys: KeyStore
    ring: KeyRing
    shared: SharedLimits | None
    identification: Identification
    audit: CallAudit
    watch: Watch
    sources: Sources

    @property
    def publication(self) -> Publication:
        """What reads are answered from."""
        return self.hosting.publication

    @property
    def forecasting(self) -> Forecasting:
        """What makes forecasts here.

        Raises:
            LookupError: another process does.
        """
        if self.hosting.forecasting is None:
            raise LookupError("this process makes no forecasts")
        return self.hosting.forecasting


def build(
    settings: Settings,
    clock: Callable[[], float] = time.monotonic,
    *,
    answering: Mapping[str, Any] = MappingProxyType({}),
    role: str = "gateway",
) -> Parts:
    """The gateway with its services, not yet started; must run on the event loop.

    Args:
        settings: of all sections.
        clock: monotonic seconds.
        answering: servicers by name that answer in place of ours.
        role: what the process is called in traces and metrics.
    """
    watch = Watch(settings.telemetry, role, clock, utc_now)
    store = open_store(settings.control.url)
    keys = KeyStore(store, utc_now)
    ring = KeyRing(utc_now)
    ring.replace(keys.rows())
    hosting = host(settings, store, clock, utc_now, answering, watch.tracer)
    url, local = settings.gateway.redis_url, Limiter(clock)
    shared = SharedLimits(url, local, clock) if url else None
    identified = identification(settings, ring, clock, utc_now)
    audit = CallAudit(keys.audit)
    limit = RateLimit(shared or local)
    pipeline = _pipeline(settings, identified, limit, audit, watch, clock)
    gateway = Gateway(settings.gateway, pipeline, read_methods(), hosting.added, hosting.forwarded)
    sources = Sources(
        calls=watch.telemetry.calls,
        pipeline=pipeline,
        rate_limit=limit,
        shared=shared,
        publication=hosting.publication,
        forecasting=hosting.forecasting,
        alerts=hosting.alerts,
        outbox=watch.outbox,
        keys_read_at=lambda: watch.keys_read_at,
        clock=clock,
        now=utc_now,
    )
    return Parts(settings, gateway, hosting, keys, ring, shared, identified, audit, watch, sources)


@contextlib.asynccontextmanager
async def running(
    parts: Parts, ray_joined: Callable[[], None] = lambda: None
) -> AsyncIterator[int]:
    """Serves while the body runs, then drains; yields the port.

    Raises:
        OSError: the port is taken.
        TlsError: certificate, key or roots cannot be used.
    """
    _say_what_answers(parts)
    for service, _ in parts.hosting.forwarded:
        parts.gateway.set_serving(service.full_name, serving=False)  # until it says so itself
    port = await parts.gateway.start()
    parts.watch.start(parts.sources)
    beside = [asyncio.create_task(keep(work)) for work in _beside(parts, ray_joined)]
    try:
        yield port
    finally:
        await parts.gateway.drain()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await _close(parts)
        await asyncio.to_thread(parts.watch.close)


def _beside(parts: Parts, ray_joined: Callable[[], None]) -> Iterator[Beside]:
    """What goes on beside the calls; each on its own, lest a slow lake delay a revocation."""
    yield Beside("reading keys", partial(_repeat, parts, partial(_read_keys, parts)))
    yield Beside("reading tables", partial(_repeat, parts, parts.publication.refresh))
    yield Beside("writing the use of keys", partial(_keep_uses, parts))
    yield from parts.identification.beside()
    for name, upstream in parts.hosting.upstreams.items():
        service = SERVICES[name].full_name
        tell = partial(_tell, parts.gateway, service)
        yield Beside(f"watching {service}", partial(upstream.watch, service, tell))
    if parts.hosting.alerts is not None:
        yield Beside("following alerts", parts.hosting.alerts.run)
    forecasting = parts.hosting.forecasting
    if forecasting is not None:
        yield from _beside_forecasts(parts, forecasting, ray_joined)


def _beside_forecasts(
    parts: Parts, forecasting: Forecasting, ray_joined: Callable[[], None]
) -> Iterator[Beside]:
    forecast = parts.settings.forecast
    refresh = forecasting.corrections.refresh
    yield Beside("reading corrections", partial(_repeat, parts, refresh))
    keep_bands = partial(_keep_bands, forecasting.band_log, forecast.band_log.seconds)
    yield Beside("writing bands", keep_bands)
    yield Beside("following bars", forecasting.bars.run)
    connect = partial(keep_connected, forecast, forecasting.forecaster, ray_joined)
    yield Beside("the connection to Ray", connect)


def _read_keys(parts: Parts) -> None:
    number = parts.ring.begin_reading()
    parts.ring.replace(parts.keys.rows(), number)
    parts.watch.keys_read_at = parts.sources.clock()


async def _close(parts: Parts) -> None:
    forecasting = parts.hosting.forecasting
    if forecasting is not None:
        await _write_bands(forecasting.band_log)
    for upstream in parts.hosting.upstreams.values():
        await upstream.close()
    if parts.shared is not None:
        await parts.shared.close()
    await parts.identification.close()
    await asyncio.to_thread(parts.audit.close)
    await _write_uses(parts)
    parts.keys.close()


async def serve(settings: Settings, announce: Callable[[int], None], role: str = "gateway") -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    listen()
    async with running(build(settings, role=role), listen) as port:
        announce(port)
        await stop.wait()
    _LOG.info("drained")


def _pipeline(
    settings: Settings,
    identified: Identification,
    limit: RateLimit,
    audit: CallAudit,
    watch: Watch,
    clock: Callable[[], float],
) -> Pipeline:
    gateway = settings.gateway
    return Pipeline(
        telemetry=watch.telemetry,
        admissions=identified.rules,
        rate_limit=limit,
        checks=(check_rules, note_resource),
        audit=audit,
        work=Work(
            least=gateway.min_in_flight,
            most=gateway.max_in_flight,
            max_wait=gateway.max_wait_seconds,
            clock=clock,
        ),
        streams=OpenStreams(gateway.max_open_streams, gateway.max_streams_per_caller),
        deadlines=Deadlines(),
        sizes=Sizes(gateway.max_request_bytes, gateway.max_response_bytes),
        clock=clock,
    )


async def _repeat(parts: Parts, take_over: Callable[[], object]) -> None:
    """Takes over what has changed, again and again, and says over health what is ready."""
    while True:
        try:
            await asyncio.to_thread(take_over)
        except Exception:  # noqa: BLE001 - a background edge: what was there goes on being served
            _LOG.exception("cannot refresh; serving what was there before")
        _say_what_answers(parts)
        parts.gateway.end_streams_of(parts.ring.has_ended)
        await asyncio.sleep(parts.settings.gateway.refresh_seconds)


async def _keep_bands(band_log: BandLog, seconds: float) -> None:
    """Writes the bands that went out, again and again."""
    while True:
        await asyncio.sleep(seconds)
        await _write_bands(band_log)


async def _write_bands(band_log: BandLog) -> None:
    try:
        await asyncio.to_thread(band_log.write)
    except Exception:  # noqa: BLE001 - a background edge: what was not written waits
        _LOG.exception("cannot keep %d forecasts yet", len(band_log))


async def _keep_uses(parts: Parts) -> None:
    """Writes down which keys were used, again and again."""
    while True:
        await asyncio.sleep(parts.settings.control.last_used_seconds)
        await _write_uses(parts)


async def _write_uses(parts: Parts) -> None:
    used, parts.ring.used = parts.ring.used, set()
    if not used:
        return
    try:
        await asyncio.to_thread(parts.keys.write_uses, used)
    except Exception:  # noqa: BLE001 - a background edge: what was not written waits
        parts.ring.used |= used
        _LOG.exception("cannot write down the use of %d keys yet", len(used))


def _tell(gateway: Gateway, service: str, serving: bool) -> None:
    gateway.set_serving(service, serving=serving)


def _say_what_answers(parts: Parts) -> None:
    """Sets the health of each service of this process: code, and tables where it reads them."""
    for service in parts.gateway.hosted:
        needs_tables = service.endswith((".ScoreboardService", ".MarketService"))
        able = service not in parts.gateway.unimplemented
        parts.gateway.set_serving(
            service, serving=able and (parts.publication.ready or not needs_tables)
        )
