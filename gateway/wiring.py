"""Puts the gateway's process together: settings in, running server out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from google.protobuf.message import Message
from opentelemetry import trace

from calibration_service.market_service import MarketService
from calibration_service.publication import Publication
from calibration_service.scoreboard_service import ScoreboardService
from forecast_service.band_log import BandLog
from forecast_service.corrections import StoredCorrections
from forecast_service.in_process import local_backends
from forecast_service.models.catalog import served
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.routing import Router
from forecast_service.service import ForecastService
from gateway.compat.service import CompatService
from gateway.contract import read_methods
from gateway.gcra import Limiter
from gateway.interceptors.auth import Authentication
from gateway.interceptors.concurrency import InFlight
from gateway.interceptors.ratelimit import RateLimit
from gateway.interceptors.scope import require_scope
from gateway.interceptors.telemetry import Telemetry
from gateway.interceptors.validation import check_rules, invalid, violations
from gateway.keys import KeyRing, KeyStore
from gateway.pipeline import Pipeline, Sizes
from gateway.ray_link import keep_connected
from gateway.server import Gateway
from gateway.settings import Settings
from market_data.lake import Lake
from marketcal.errors import InvalidArgument
from marketcal.v1 import (
    alert_pb2_grpc,
    forecast_pb2_grpc,
    legacy_pb2_grpc,
    market_pb2_grpc,
    scoreboard_pb2_grpc,
)

_LOG = logging.getLogger("gateway")


def utc_now() -> datetime:
    """The wall clock of this process."""
    return datetime.now(UTC)


def open_keys(url: str) -> KeyStore:
    """The key store at ``url``; the folder of a new SQLite file is made."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        Path(parsed.database).parent.mkdir(parents=True, exist_ok=True)
    return KeyStore(sa.create_engine(parsed), utc_now)


def broken_rules(message: Message) -> InvalidArgument | None:
    """The error for the contract rules that ``message`` breaks; None when it keeps them."""
    broken = violations(message)
    return invalid(broken) if broken else None


@dataclass(frozen=True, slots=True)
class Parts:
    """What a gateway is made of.

    Attributes:
        gateway: the server.
        forecaster: decides where forecasts are made.
        publication: what reads are answered from.
        corrections: the conformal state that bands are corrected with.
        band_log: keeps the bands that go out.
        keys: the stored keys; ring: the same in memory.
    """

    settings: Settings
    gateway: Gateway
    forecaster: Forecaster
    publication: Publication
    corrections: StoredCorrections
    band_log: BandLog
    keys: KeyStore
    ring: KeyRing


def build(settings: Settings, clock: Callable[[], float] = time.monotonic) -> Parts:
    """The gateway with its services, not yet started; must run on the event loop."""
    keys = open_keys(settings.control.url)
    ring = KeyRing(utc_now)
    ring.replace(keys.rows())
    lake = Lake(settings.flows.lake)
    publication, corrections = Publication(lake), StoredCorrections(lake)
    band_log = BandLog(lake, settings.forecast.band_log, utc_now)
    local = local_backends(settings.forecast)
    forecaster = Forecaster(settings.forecast, clock, local, corrections=corrections)
    models = served(settings.forecast)
    router = Router(settings.forecast.policy, settings.forecast.default_model, models)
    forecasts = ForecastService(forecaster, broken_rules, router, clock=clock, issued=band_log.note)
    scores, markets = ScoreboardService(publication), MarketService(publication)
    alerts = alert_pb2_grpc.AlertServiceServicer()
    old = CompatService(
        forecasts, scores, markets, alerts, baseline=settings.forecast.policy.fallback_model
    )
    gateway = Gateway(
        settings.gateway,
        _pipeline(settings, ring, clock),
        read_methods(),
        [
            (forecast_pb2_grpc.add_ForecastServiceServicer_to_server, forecasts),
            (scoreboard_pb2_grpc.add_ScoreboardServiceServicer_to_server, scores),
            (market_pb2_grpc.add_MarketServiceServicer_to_server, markets),
            (alert_pb2_grpc.add_AlertServiceServicer_to_server, alerts),
            (legacy_pb2_grpc.add_CompatServiceServicer_to_server, old),
        ],
    )
    return Parts(settings, gateway, forecaster, publication, corrections, band_log, keys, ring)


@contextlib.asynccontextmanager
async def running(
    parts: Parts, ray_joined: Callable[[], None] = lambda: None
) -> AsyncIterator[int]:
    """Serves while the body runs, then drains; yields the port.

    Raises:
        OSError: the port is taken.
    """
    _say_what_answers(parts)
    port = await parts.gateway.start()
    settings = parts.settings
    beside = [
        # Each on its own: a slow lake must not delay the revocation of a key.
        asyncio.create_task(_repeat(parts, lambda: parts.ring.replace(parts.keys.rows()))),
        asyncio.create_task(_repeat(parts, parts.publication.refresh)),
        asyncio.create_task(_repeat(parts, parts.corrections.refresh)),
        asyncio.create_task(_keep_bands(parts)),
        asyncio.create_task(keep_connected(settings.forecast, parts.forecaster, ray_joined)),
    ]
    try:
        yield port
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        await parts.gateway.drain()
        await _write_bands(parts.band_log)
        parts.keys.close()


async def serve(settings: Settings, announce: Callable[[int], None]) -> None:
    """Serves until SIGTERM or SIGINT, then drains."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def listen() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)

    listen()
    async with running(build(settings), listen) as port:
        announce(port)
        await stop.wait()
    _LOG.info("drained")


def _pipeline(settings: Settings, ring: KeyRing, clock: Callable[[], float]) -> Pipeline:
    authentication = Authentication(
        ring, Limiter(clock), anonymous_role=settings.gateway.anonymous_role
    )
    return Pipeline(
        telemetry=Telemetry.of(trace.get_tracer_provider()),
        admissions=(authentication, require_scope),
        checks=(RateLimit(Limiter(clock)), check_rules),
        in_flight=InFlight(settings.gateway.max_in_flight),
        sizes=Sizes(settings.gateway.max_request_bytes, settings.gateway.max_response_bytes),
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
        await asyncio.sleep(parts.settings.gateway.refresh_seconds)


async def _keep_bands(parts: Parts) -> None:
    """Writes the bands that went out, again and again."""
    while True:
        await asyncio.sleep(parts.settings.forecast.band_log.seconds)
        await _write_bands(parts.band_log)


async def _write_bands(band_log: BandLog) -> None:
    try:
        await asyncio.to_thread(band_log.write)
    except Exception:  # noqa: BLE001 - a background edge: what was not written waits
        _LOG.exception("cannot keep %d forecasts yet", len(band_log))


def _say_what_answers(parts: Parts) -> None:
    """Sets the health of each service: whether it has code, and tables where it reads them."""
    for service in parts.gateway.services:
        needs_tables = service.endswith((".ScoreboardService", ".MarketService"))
        able = service not in parts.gateway.unimplemented
        parts.gateway.set_serving(
            service, serving=able and (parts.publication.ready or not needs_tables)
        )
