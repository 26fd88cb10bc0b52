"""Requests from Python values: datetimes, arrays and plain words become fields of messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict, TypeVar, Unpack

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from marketcal.series import Values, put
from marketcal.v1 import (
    alert_pb2,
    forecast_pb2,
    market_pb2,
    scoreboard_pb2,
    segments_pb2,
)

Instant = datetime | Timestamp
"""A point in time; a datetime must know its time zone."""
_Message = TypeVar("_Message", bound=Message)


class WatchForecastFields(TypedDict, total=False):
    """What may be said about the bands of a watched market; see ``WatchForecastRequest``."""

    horizon_steps: int | None
    quantiles: Values
    model: str | forecast_pb2.ModelSpec | Mapping[str, Any]


class ForecastFields(TypedDict, total=False):
    """What may be said about a forecast; see ``ForecastRequest`` for units, ranges and defaults.

    ``model`` takes a name, covariates a mapping of name to values.
    """

    as_of_time: Instant
    freq: str
    horizon_steps: int | None
    quantiles: Values
    value_times: Iterable[Instant]
    past_covariates: Mapping[str, Values] | Iterable[forecast_pb2.Covariate]
    future_covariates: Mapping[str, Values] | Iterable[forecast_pb2.Covariate]
    transform: forecast_pb2.Transform | Mapping[str, Any]
    model: str | forecast_pb2.ModelSpec | Mapping[str, Any]
    liquidity_bucket: segments_pb2.LiquidityBucket | str
    category: str
    time_to_event: timedelta | Duration
    band: forecast_pb2.BandKind | str


class ScoreFilters(TypedDict, total=False):
    """Which scores to list, and how; see ``ListScoresRequest``."""

    window: str
    platform: str
    category: str
    tag: str
    liquidity_bucket: segments_pb2.LiquidityBucket | str | None
    tte_bucket: segments_pb2.TteBucket | str | None
    min_trust_score: float
    order_by: scoreboard_pb2.ScoreOrder | str
    page_size: int
    page_token: str


class ReliabilityFields(TypedDict, total=False):
    """Which reliability curve; see ``GetReliabilityRequest``."""

    window: str
    segment: segments_pb2.Segment | Mapping[str, Any] | None


class MarketFilters(TypedDict, total=False):
    """Which markets to list; see ``ListMarketsRequest``."""

    platform: str
    category: str
    status: market_pb2.MarketStatus | str | None
    event_id: str
    query: str
    page_size: int
    page_token: str


class PriceRange(TypedDict, total=False):
    """Which prices; see ``GetPriceHistoryRequest``."""

    start_time: Instant | None
    end_time: Instant | None
    page_size: int
    page_token: str


class PostmortemFilters(TypedDict, total=False):
    """Which post-mortems to list; see ``ListPostmortemsRequest``."""

    since: Instant | None
    page_size: int
    page_token: str


class AlertFilters(TypedDict, total=False):
    """Which alerts to list; see ``ListAlertsRequest``."""

    since: Instant | None
    min_severity: alert_pb2.AlertSeverity | str
    market_id: str
    page_size: int
    page_token: str


class WatchAlertsFields(TypedDict, total=False):
    """Which alerts to watch, and from where on; see ``WatchAlertsRequest``."""

    resume_token: str
    min_severity: alert_pb2.AlertSeverity | str
    market_ids: Iterable[str]


def forecast_request(
    market_id: str, values: Values, **fields: Unpack[ForecastFields]
) -> forecast_pb2.ForecastRequest:
    """A request for one forecast, as an item of a batch for example.

    Args:
        market_id: the market, for example "polymarket:512345".
        values: prices of YES, oldest first, in [0, 1]; None and NaN are missing.
        fields: of ForecastRequest.

    Raises:
        TypeError: a value is no number, or an instant is none.
        ValueError: a field is unknown, values have two dimensions, or a datetime has no time zone.
    """
    return build(forecast_pb2.ForecastRequest, {"market_id": market_id, "values": values, **fields})


def build(message: type[_Message], fields: Mapping[str, Any]) -> _Message:
    """A message with these fields; None leaves a field unset.

    Raises:
        TypeError: a value does not fit its field.
        ValueError: a field is unknown, or a value is out of its form.
    """
    numbers = {name: value for name, value in fields.items() if name in _NUMBERS}
    built = message(
        **{
            name: _converted(name, value)
            for name, value in fields.items()
            if value is not None and name not in _NUMBERS
        }
    )
    for name, value in numbers.items():
        if value is not None:
            put(built, name, value)
    return built


_NUMBERS = ("values", "quantiles")


def _converted(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return _timestamp(name, value)
    if isinstance(value, timedelta):
        duration = Duration()
        duration.FromTimedelta(value)
        return duration
    if name == "value_times":
        return [_converted(name, instant) for instant in value]
    if name == "model" and isinstance(value, str):
        return forecast_pb2.ModelSpec(name=value)
    if name.endswith("_covariates") and isinstance(value, Mapping):
        return [_covariate(key, numbers) for key, numbers in value.items()]
    return value


def _timestamp(name: str, instant: datetime) -> Timestamp:
    if instant.tzinfo is None:
        raise ValueError(f"{name}: a datetime needs a time zone, {instant} has none")
    stamp = Timestamp()
    stamp.FromDatetime(instant)
    return stamp


def _covariate(name: str, values: Values) -> forecast_pb2.Covariate:
    covariate = forecast_pb2.Covariate(name=name)
    put(covariate, "values", values)
    return covariate
