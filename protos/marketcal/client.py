"""The Python client: one typed call per method, errors as `marketcal.errors`.

>>> with Client("127.0.0.1:50051", key="mk_…") as client:      # doctest: +SKIP
...     answer = client.forecast("polymarket:512345", [0.5, 0.52, 0.51], horizon_steps=12)
...     answer.quantile_paths[0].values
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Any

import grpc

from marketcal import status
from marketcal.v1 import (
    forecast_pb2,
    forecast_pb2_grpc,
    market_pb2,
    market_pb2_grpc,
    scoreboard_pb2,
    scoreboard_pb2_grpc,
)

DEFAULT_TIMEOUT = 10.0
"""Seconds that a call may take unless it says otherwise."""
_OPTIONS = [
    ("grpc.max_receive_message_length", 16 << 20),
    ("grpc.max_send_message_length", 16 << 20),
]


class Client:
    """A synchronous client of one gateway.

    Args:
        address: ``host:port``.
        key: API key; None sends none.
        timeout: seconds that a call may take.
    """

    def __init__(
        self, address: str, *, key: str | None = None, timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        self._channel = grpc.insecure_channel(address, options=_OPTIONS)
        self._metadata = (("authorization", f"Bearer {key}"),) if key else ()
        self._timeout = timeout
        self._forecasts = forecast_pb2_grpc.ForecastServiceStub(self._channel)
        self._scores = scoreboard_pb2_grpc.ScoreboardServiceStub(self._channel)
        self._markets = market_pb2_grpc.MarketServiceStub(self._channel)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection."""
        self._channel.close()

    def forecast(
        self, market_id: str, values: Iterable[float], **fields: Any
    ) -> forecast_pb2.ForecastResponse:
        """Quantile bands of one series; ``fields`` are those of ForecastRequest."""
        request = forecast_pb2.ForecastRequest(market_id=market_id, values=values, **fields)
        return self._call(self._forecasts.Forecast, request)

    def batch_forecast(
        self, items: Iterable[forecast_pb2.ForecastRequest]
    ) -> forecast_pb2.BatchForecastResponse:
        """Quantile bands of many series, each with its own answer or error."""
        return self._call(
            self._forecasts.BatchForecast, forecast_pb2.BatchForecastRequest(items=items)
        )

    def compare_forecasts(
        self,
        market_id: str,
        request: forecast_pb2.ForecastRequest,
        models: Iterable[str],
    ) -> forecast_pb2.CompareForecastsResponse:
        """One series forecast by several models, each with its own answer or error."""
        asked = forecast_pb2.CompareForecastsRequest(
            market_id=market_id,
            request=request,
            models=[forecast_pb2.ModelSpec(name=name) for name in models],
        )
        return self._call(self._forecasts.CompareForecasts, asked)

    def get_model(self, name: str) -> forecast_pb2.GetModelResponse:
        """One model, and what it has done since the server started."""
        return self._call(self._forecasts.GetModel, forecast_pb2.GetModelRequest(name=name))

    def list_models(self) -> Iterator[forecast_pb2.Model]:
        """All models."""
        return self._pages(self._forecasts.ListModels, forecast_pb2.ListModelsRequest(), "models")

    def list_scores(self, **filters: Any) -> Iterator[scoreboard_pb2.Score]:
        """Markets with their trust and scores; ``filters`` are the fields of ListScoresRequest."""
        request = scoreboard_pb2.ListScoresRequest(**filters)
        return self._pages(self._scores.ListScores, request, "scores")

    def calibration_quality(self, window: str = "") -> scoreboard_pb2.GetCalibrationQualityResponse:
        """Scores of all segments of a window."""
        request = scoreboard_pb2.GetCalibrationQualityRequest(window=window)
        return self._call(self._scores.GetCalibrationQuality, request)

    def reliability(self, **fields: Any) -> scoreboard_pb2.GetReliabilityResponse:
        """Reliability curve of a segment; ``fields`` are those of GetReliabilityRequest."""
        request = scoreboard_pb2.GetReliabilityRequest(**fields)
        return self._call(self._scores.GetReliability, request)

    def explain_trust(self, market_id: str) -> scoreboard_pb2.ExplainTrustResponse:
        """What each component of a market's trust contributes, and what it rests on."""
        request = scoreboard_pb2.ExplainTrustRequest(market_id=market_id)
        return self._call(self._scores.ExplainTrust, request)

    def list_markets(self, **filters: Any) -> Iterator[market_pb2.Market]:
        """Markets; ``filters`` are the fields of ListMarketsRequest."""
        return self._pages(
            self._markets.ListMarkets, market_pb2.ListMarketsRequest(**filters), "markets"
        )

    def get_market(self, market_id: str) -> market_pb2.Market:
        """One market."""
        answer = self._call(
            self._markets.GetMarket, market_pb2.GetMarketRequest(market_id=market_id)
        )
        market: market_pb2.Market = answer.market
        return market

    def price_history(self, market_id: str, **fields: Any) -> Iterator[market_pb2.PricePoint]:
        """Recorded prices of a market, oldest first."""
        request = market_pb2.GetPriceHistoryRequest(market_id=market_id, **fields)
        return self._pages(self._markets.GetPriceHistory, request, "points")

    def get_postmortem(self, market_id: str) -> market_pb2.Postmortem:
        """What happened in a resolved market, with the price's path and picture."""
        answer = self._call(
            self._markets.GetPostmortem, market_pb2.GetPostmortemRequest(market_id=market_id)
        )
        postmortem: market_pb2.Postmortem = answer.postmortem
        return postmortem

    def list_postmortems(self, **filters: Any) -> Iterator[market_pb2.Postmortem]:
        """Post-mortems, newest first; ``filters`` are the fields of ListPostmortemsRequest."""
        request = market_pb2.ListPostmortemsRequest(**filters)
        return self._pages(self._markets.ListPostmortems, request, "postmortems")

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise status.decode(error) from None

    def _pages(self, method: Any, request: Any, field: str) -> Iterator[Any]:
        while True:
            answer = self._call(method, request)
            yield from getattr(answer, field)
            if not answer.next_page_token:
                return
            request.page_token = answer.next_page_token
