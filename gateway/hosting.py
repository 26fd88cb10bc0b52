"""Which services this process answers itself, and which another process answers for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from opentelemetry.trace import Tracer

from calibration_service.alert_service import AlertService
from calibration_service.alerts import store as alert_store
from calibration_service.alerts.feed import AlertFeed
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
from gateway.forward import Upstream
from gateway.handover import Signer
from gateway.interceptors.validation import invalid, violations
from gateway.live_bars import LiveBars
from gateway.server import AddToServer
from gateway.settings import Settings
from market_data.control_store import prepare
from market_data.lake import Lake
from market_data.streaming import live_store
from marketcal.errors import InvalidArgument
from marketcal.v1 import (
    alert_pb2,
    alert_pb2_grpc,
    forecast_pb2,
    forecast_pb2_grpc,
    legacy_pb2_grpc,
    market_pb2,
    market_pb2_grpc,
    scoreboard_pb2,
    scoreboard_pb2_grpc,
)

SERVICES: dict[str, ServiceDescriptor] = {
    "forecast": forecast_pb2.DESCRIPTOR.services_by_name["ForecastService"],
    "scoreboard": scoreboard_pb2.DESCRIPTOR.services_by_name["ScoreboardService"],
    "market": market_pb2.DESCRIPTOR.services_by_name["MarketService"],
    "alert": alert_pb2.DESCRIPTOR.services_by_name["AlertService"],
}
"""Services that can be forwarded, by their name in the settings."""

_ADD: dict[str, AddToServer] = {
    "forecast": forecast_pb2_grpc.add_ForecastServiceServicer_to_server,
    "scoreboard": scoreboard_pb2_grpc.add_ScoreboardServiceServicer_to_server,
    "market": market_pb2_grpc.add_MarketServiceServicer_to_server,
    "alert": alert_pb2_grpc.add_AlertServiceServicer_to_server,
    "compat": legacy_pb2_grpc.add_CompatServiceServicer_to_server,
}


@dataclass(frozen=True, slots=True)
class Forecasting:
    """What makes forecasts in this process.

    Attributes:
        forecaster: decides where forecasts are made.
        corrections: the conformal state that bands are corrected with.
        band_log: keeps the bands that go out.
        bars: tells streams of closed bars.
        service: answers the calls.
    """

    forecaster: Forecaster
    corrections: StoredCorrections
    band_log: BandLog
    bars: LiveBars
    service: ForecastService


@dataclass(frozen=True, slots=True)
class Hosting:
    """What answers the calls.

    Attributes:
        forecasting: None where another process forecasts.
        alerts: tells streams of new alerts; None where another process does.
        publication: what reads are answered from.
        upstreams: processes that answer for this one, by service.
        servicers: what this process answers, by service.
    """

    forecasting: Forecasting | None
    alerts: AlertFeed | None
    publication: Publication
    upstreams: dict[str, Upstream]
    servicers: dict[str, Any]

    @property
    def added(self) -> list[tuple[AddToServer, Any]]:
        """The services of this process, each with what adds it to a server."""
        return [(_ADD[name], servicer) for name, servicer in self.servicers.items()]

    @property
    def forwarded(self) -> list[tuple[ServiceDescriptor, Upstream]]:
        """The services that pass through."""
        return [(SERVICES[name], upstream) for name, upstream in self.upstreams.items()]


def host(
    settings: Settings,
    store: sa.Engine,
    clock: Callable[[], float],
    now: Callable[[], datetime],
    answering: Mapping[str, Any],
    tracer: Tracer | None = None,
) -> Hosting:
    """The services of this process, but for those that ``answering`` has; on the event loop.

    Raises:
        sqlalchemy.exc.DBAPIError: ``store``, the control store, does not answer, or is none.
    """
    for tables in (alert_store.METADATA, live_store.METADATA):
        prepare(store, tables)  # whoever comes first, this process or the stream worker
    lake = Lake(settings.flows.lake)
    publication = Publication(lake)
    upstreams = _upstreams(settings, now)
    here = [name for name in settings.gateway.hosts if name not in upstreams]
    feed = AlertFeed(store)
    v1: dict[str, Any] = {
        "scoreboard": ScoreboardService(publication),
        "market": MarketService(publication),
        "alert": AlertService(store, feed, now=now),
    }
    forecasting: Forecasting | None = None
    if "forecast" in here:
        forecasting = _forecasting(settings, lake, LiveBars(store), clock, now, tracer)
        v1["forecast"] = forecasting.service
    v1 |= answering
    servicers: dict[str, Any] = {name: v1[name] for name in here if name != "compat"}
    if "compat" in here:
        servicers["compat"] = _compat(settings, servicers, upstreams)
    told = feed if "alert" in here else None
    return Hosting(forecasting, told, publication, upstreams, servicers)


def _upstreams(settings: Settings, now: Callable[[], datetime]) -> dict[str, Upstream]:
    """The processes behind this one; none where it stands behind another itself.

    All roles may read the same settings, in which the addresses are those that the front forwards
    to: a process that took them for its own would call itself.
    """
    upstream = settings.upstream
    if upstream.secret is None or settings.gateway.behind:
        return {}
    addresses = {
        "forecast": upstream.forecast,
        "scoreboard": upstream.scoreboard,
        "market": upstream.market,
        "alert": upstream.alert,
    }
    signer = Signer(upstream.secret.get_secret_value(), now)
    return {
        name: Upstream(address, upstream, signer) for name, address in addresses.items() if address
    }


def _forecasting(
    settings: Settings,
    lake: Lake,
    bars: LiveBars,
    clock: Callable[[], float],
    now: Callable[[], datetime],
    tracer: Tracer | None,
) -> Forecasting:
    forecast = settings.forecast
    corrections, band_log = StoredCorrections(lake), BandLog(lake, forecast.band_log, now)
    local = local_backends(forecast)
    forecaster = Forecaster(forecast, clock, local, corrections=corrections, tracer=tracer)
    router = Router(forecast.policy, forecast.default_model, served(forecast))
    service = ForecastService(
        forecaster, broken_rules, router, clock=clock, issued=band_log.note, bars=bars
    )
    return Forecasting(forecaster, corrections, band_log, bars, service)


def _compat(
    settings: Settings, here: dict[str, Any], upstreams: dict[str, Upstream]
) -> CompatService:
    """The older paths, over whatever answers the v1 methods."""
    nothing: dict[str, Any] = {
        "forecast": forecast_pb2_grpc.ForecastServiceServicer(),
        "scoreboard": scoreboard_pb2_grpc.ScoreboardServiceServicer(),
        "market": market_pb2_grpc.MarketServiceServicer(),
        "alert": alert_pb2_grpc.AlertServiceServicer(),
    }
    beyond = {name: upstream.servicer(SERVICES[name]) for name, upstream in upstreams.items()}
    answering = nothing | here | beyond
    return CompatService(
        answering["forecast"],
        answering["scoreboard"],
        answering["market"],
        answering["alert"],
        baseline=settings.forecast.policy.fallback_model,
    )


def broken_rules(message: Message) -> InvalidArgument | None:
    """The error for the contract rules that ``message`` breaks; None when it keeps them."""
    broken = violations(message)
    return invalid(broken) if broken else None
