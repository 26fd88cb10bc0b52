"""The methods of the contract that the clients call: path and types of each, in one table.

A test holds the table against the descriptors of the contract.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

from google.protobuf.message import Message

from marketcal.v1 import alert_pb2, forecast_pb2, market_pb2, scoreboard_pb2

Request = TypeVar("Request", bound=Message)
Response = TypeVar("Response", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Response]):
    """One method.

    Attributes:
        path: ``/package.Service/Method``.
        request: class of the request.
        response: class of the answer, or of each message of a stream.
    """

    path: str
    request: type[Request]
    response: type[Response]


FORECAST = Method(
    "/marketcal.v1.ForecastService/Forecast",
    forecast_pb2.ForecastRequest,
    forecast_pb2.ForecastResponse,
)
BATCH_FORECAST = Method(
    "/marketcal.v1.ForecastService/BatchForecast",
    forecast_pb2.BatchForecastRequest,
    forecast_pb2.BatchForecastResponse,
)
COMPARE_FORECASTS = Method(
    "/marketcal.v1.ForecastService/CompareForecasts",
    forecast_pb2.CompareForecastsRequest,
    forecast_pb2.CompareForecastsResponse,
)
WATCH_FORECAST = Method(
    "/marketcal.v1.ForecastService/WatchForecast",
    forecast_pb2.WatchForecastRequest,
    forecast_pb2.WatchForecastResponse,
)
LIST_MODELS = Method(
    "/marketcal.v1.ForecastService/ListModels",
    forecast_pb2.ListModelsRequest,
    forecast_pb2.ListModelsResponse,
)
GET_MODEL = Method(
    "/marketcal.v1.ForecastService/GetModel",
    forecast_pb2.GetModelRequest,
    forecast_pb2.GetModelResponse,
)
LIST_SCORES = Method(
    "/marketcal.v1.ScoreboardService/ListScores",
    scoreboard_pb2.ListScoresRequest,
    scoreboard_pb2.ListScoresResponse,
)
GET_RELIABILITY = Method(
    "/marketcal.v1.ScoreboardService/GetReliability",
    scoreboard_pb2.GetReliabilityRequest,
    scoreboard_pb2.GetReliabilityResponse,
)
GET_CALIBRATION_QUALITY = Method(
    "/marketcal.v1.ScoreboardService/GetCalibrationQuality",
    scoreboard_pb2.GetCalibrationQualityRequest,
    scoreboard_pb2.GetCalibrationQualityResponse,
)
EXPLAIN_TRUST = Method(
    "/marketcal.v1.ScoreboardService/ExplainTrust",
    scoreboard_pb2.ExplainTrustRequest,
    scoreboard_pb2.ExplainTrustResponse,
)
LIST_MARKETS = Method(
    "/marketcal.v1.MarketService/ListMarkets",
    market_pb2.ListMarketsRequest,
    market_pb2.ListMarketsResponse,
)
GET_MARKET = Method(
    "/marketcal.v1.MarketService/GetMarket",
    market_pb2.GetMarketRequest,
    market_pb2.GetMarketResponse,
)
GET_MARKET_METRICS = Method(
    "/marketcal.v1.MarketService/GetMarketMetrics",
    market_pb2.GetMarketMetricsRequest,
    market_pb2.GetMarketMetricsResponse,
)
GET_PRICE_HISTORY = Method(
    "/marketcal.v1.MarketService/GetPriceHistory",
    market_pb2.GetPriceHistoryRequest,
    market_pb2.GetPriceHistoryResponse,
)
GET_POSTMORTEM = Method(
    "/marketcal.v1.MarketService/GetPostmortem",
    market_pb2.GetPostmortemRequest,
    market_pb2.GetPostmortemResponse,
)
LIST_POSTMORTEMS = Method(
    "/marketcal.v1.MarketService/ListPostmortems",
    market_pb2.ListPostmortemsRequest,
    market_pb2.ListPostmortemsResponse,
)
LIST_ALERTS = Method(
    "/marketcal.v1.AlertService/ListAlerts",
    alert_pb2.ListAlertsRequest,
    alert_pb2.ListAlertsResponse,
)
WATCH_ALERTS = Method(
    "/marketcal.v1.AlertService/WatchAlerts",
    alert_pb2.WatchAlertsRequest,
    alert_pb2.WatchAlertsResponse,
)
ACKNOWLEDGE_ALERT = Method(
    "/marketcal.v1.AlertService/AcknowledgeAlert",
    alert_pb2.AcknowledgeAlertRequest,
    alert_pb2.AcknowledgeAlertResponse,
)
