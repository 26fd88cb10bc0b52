"""Puts the gateway's process together: settings in, running server out."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import sqlalchemy as sa
from google.protobuf.message import Message

from forecast_service.forecaster import Forecaster
from forecast_service.service import ForecastService
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
from gateway.server import Gateway
from gateway.settings import Settings
from marketcal.errors import InvalidArgument
from marketcal.v1 import forecast_pb2_grpc

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
    """What a running gateway is made of; tests hold it to reach inside."""

    gateway: Gateway
    forecaster: Forecaster
    ring: KeyRing
    keys: KeyStore


def build(settings: Settings, keys: KeyStore, clock: Callable[[], float] = time.monotonic) -> Parts:
    """The gateway with its services, not yet started; must run on the event loop."""
    ring = KeyRing(utc_now)
    ring.replace(keys.rows())
    authentication = Authentication(
        ring, Limiter(clock), anonymous_role=settings.gateway.anonymous_role
    )
    pipeline = Pipeline(
        telemetry=Telemetry(),
        admissions=(authentication, require_scope),
        checks=(RateLimit(Limiter(clock)), check_rules),
        in_flight=InFlight(settings.gateway.max_in_flight),
        sizes=Sizes(settings.gateway.max_request_bytes, settings.gateway.max_response_bytes),
        clock=clock,
    )
    forecaster = Forecaster(settings.forecast, clock)
    forecasts = ForecastService(
        forecaster, broken_rules, default_model=settings.forecast.default_model, clock=clock
    )
    gateway = Gateway(
        settings.gateway,
        pipeline,
        read_methods(),
        [(forecast_pb2_grpc.add_ForecastServiceServicer_to_server, forecasts)],
    )
    return Parts(gateway, forecaster, ring, keys)
