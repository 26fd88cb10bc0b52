"""The synchronous client: one typed call per method, errors as `marketcal.errors`.

Made from ``aio.py`` by ``protos/derive.py``; change that one.

>>> with Client("127.0.0.1:50051", key="mk_…") as client:      # doctest: +SKIP
...     answer = client.forecast("polymarket:512345", [0.5, 0.52, 0.51], horizon_steps=12)
...     answer.quantile_paths[0].values
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, Unpack

from marketcal import methods, requests
from marketcal.channel import Tls
from marketcal.connection import Connection, Pages
from marketcal.series import Values
from marketcal.v1 import alert_pb2, forecast_pb2, market_pb2, scoreboard_pb2
from marketcal.watching import Backoff

_BACKOFF = Backoff()


class Client:
    """A synchronous client of one gateway.

    Every call takes ``timeout``, the seconds that it may take with all its retries; without one the
    client's holds, and without that the longest that the contract grants the method. A list has it
    for each of its pages. Calls raise `marketcal.errors.MarketcalError`.

    Args:
        address: ``host:port``, or another gRPC target such as ``unix:/run/marketcal.sock``.
        key: API key; None sends none.
        tls: True for TLS with the system's authorities, or a `Tls` for others and for mTLS.
        insecure: allows a connection in clear to another machine.
        timeout: seconds that a call may take; streams have no limit of their own.
        backoff: waiting times of streams that are opened again.

    Raises:
        ValueError: the connection would leave this machine in clear, or the key is malformed.
    """

    def __init__(
        self, address: str, *, key: str | None = None, tls: bool | Tls = False,
        insecure: bool = False, timeout: float | None = None, backoff: Backoff = _BACKOFF,
    ) -> None:  # fmt: skip
        self._connection = Connection(
            address, key=key, tls=tls, insecure=insecure, timeout=timeout, backoff=backoff
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; calls in flight, and later ones, raise CallCancelled."""
        self._connection.close()

    def forecast(
        self,
        market_id: str,
        values: Values,
        *,
        timeout: float | None = None,
        **fields: Unpack[requests.ForecastFields],
    ) -> forecast_pb2.ForecastResponse:
        """Quantile bands of one series.

        Args:
            market_id: the market, for example "polymarket:512345".
            values: prices of YES, oldest first, in [0, 1]; a list, a NumPy array or any iterable;
                None and NaN are missing.
            timeout: seconds.
            fields: of ForecastRequest.
        """
        request = requests.forecast_request(market_id, values, **fields)
        return self._connection.unary(methods.FORECAST, request, timeout)

    def batch_forecast(
        self, items: Iterable[forecast_pb2.ForecastRequest], *, timeout: float | None = None
    ) -> forecast_pb2.BatchForecastResponse:
        """Quantile bands of up to 1,000 series, each with its own answer or error.

        `marketcal.forecast_request` makes the items.
        """
        request = forecast_pb2.BatchForecastRequest(items=items)
        return self._connection.unary(methods.BATCH_FORECAST, request, timeout)

    def compare_forecasts(
        self,
        market_id: str,
        request: forecast_pb2.ForecastRequest,
        models: Iterable[str],
        *,
        timeout: float | None = None,
    ) -> forecast_pb2.CompareForecastsResponse:
        """One series forecast by 2 to 16 models, each with its own answer or error."""
        asked = forecast_pb2.CompareForecastsRequest(
            market_id=market_id,
            request=request,
            models=[forecast_pb2.ModelSpec(name=name) for name in models],
        )
        return self._connection.unary(methods.COMPARE_FORECASTS, asked, timeout)

    def watch_forecast(
        self,
        market_id: str,
        *,
        timeout: float | None = None,
        **fields: Unpack[requests.WatchForecastFields],
    ) -> Iterator[forecast_pb2.WatchForecastResponse]:
        """A new band at each closed bar of a market, from now on.

        After a lost connection it goes on with the next bar that closes; bars that closed in
        between are not sent. ``timeout`` is the time to watch, at the end of which OutOfTime is
        raised; None without end.
        """
        request = requests.build(
            forecast_pb2.WatchForecastRequest, {"market_id": market_id, **fields}
        )
        return self._connection.watch(methods.WATCH_FORECAST, request, timeout)

    def list_models(
        self, *, page_size: int = 0, timeout: float | None = None
    ) -> Pages[forecast_pb2.ListModelsResponse, forecast_pb2.Model]:
        """All models by name."""
        request = forecast_pb2.ListModelsRequest(page_size=page_size)
        return Pages(
            self._connection, methods.LIST_MODELS, request, lambda page: page.models, timeout
        )

    def get_model(
        self, name: str, *, timeout: float | None = None
    ) -> forecast_pb2.GetModelResponse:
        """One model, and what it has done since the server started."""
        request = forecast_pb2.GetModelRequest(name=name)
        return self._connection.unary(methods.GET_MODEL, request, timeout)

    def list_scores(
        self, *, timeout: float | None = None, **filters: Unpack[requests.ScoreFilters]
    ) -> Pages[scoreboard_pb2.ListScoresResponse, scoreboard_pb2.Score]:
        """Markets with their trust and the scores of their segment."""
        request = requests.build(scoreboard_pb2.ListScoresRequest, filters)
        return Pages(
            self._connection, methods.LIST_SCORES, request, lambda page: page.scores, timeout
        )

    def calibration_quality(
        self, window: str = "", *, timeout: float | None = None
    ) -> scoreboard_pb2.GetCalibrationQualityResponse:
        """Scores of all segments of a window such as "90d"."""
        request = scoreboard_pb2.GetCalibrationQualityRequest(window=window)
        return self._connection.unary(methods.GET_CALIBRATION_QUALITY, request, timeout)

    def reliability(
        self, *, timeout: float | None = None, **fields: Unpack[requests.ReliabilityFields]
    ) -> scoreboard_pb2.GetReliabilityResponse:
        """Reliability curve of a segment: what happened against what the price said."""
        request = requests.build(scoreboard_pb2.GetReliabilityRequest, fields)
        return self._connection.unary(methods.GET_RELIABILITY, request, timeout)

    def explain_trust(
        self, market_id: str, *, timeout: float | None = None
    ) -> scoreboard_pb2.ExplainTrustResponse:
        """What each component of a market's trust contributes, and what it rests on."""
        request = scoreboard_pb2.ExplainTrustRequest(market_id=market_id)
        return self._connection.unary(methods.EXPLAIN_TRUST, request, timeout)

    def list_markets(
        self, *, timeout: float | None = None, **filters: Unpack[requests.MarketFilters]
    ) -> Pages[market_pb2.ListMarketsResponse, market_pb2.Market]:
        """Markets by id."""
        request = requests.build(market_pb2.ListMarketsRequest, filters)
        return Pages(
            self._connection, methods.LIST_MARKETS, request, lambda page: page.markets, timeout
        )

    def get_market(self, market_id: str, *, timeout: float | None = None) -> market_pb2.Market:
        """One market."""
        request = market_pb2.GetMarketRequest(market_id=market_id)
        answer = self._connection.unary(methods.GET_MARKET, request, timeout)
        return answer.market

    def market_metrics(
        self, market_id: str, *, window: str = "", timeout: float | None = None
    ) -> scoreboard_pb2.Score:
        """Trust of a market and the scores of its segment in a window such as "90d"."""
        request = market_pb2.GetMarketMetricsRequest(market_id=market_id, window=window)
        answer = self._connection.unary(methods.GET_MARKET_METRICS, request, timeout)
        return answer.score

    def price_history(
        self,
        market_id: str,
        *,
        timeout: float | None = None,
        **fields: Unpack[requests.PriceRange],
    ) -> Pages[market_pb2.GetPriceHistoryResponse, market_pb2.PricePoint]:
        """Recorded prices of a market, oldest first."""
        request = requests.build(
            market_pb2.GetPriceHistoryRequest, {"market_id": market_id, **fields}
        )
        return Pages(
            self._connection, methods.GET_PRICE_HISTORY, request, lambda page: page.points, timeout
        )

    def get_postmortem(
        self, market_id: str, *, timeout: float | None = None
    ) -> market_pb2.Postmortem:
        """What happened in a resolved market, with the price's path and picture."""
        request = market_pb2.GetPostmortemRequest(market_id=market_id)
        answer = self._connection.unary(methods.GET_POSTMORTEM, request, timeout)
        return answer.postmortem

    def list_postmortems(
        self, *, timeout: float | None = None, **filters: Unpack[requests.PostmortemFilters]
    ) -> Pages[market_pb2.ListPostmortemsResponse, market_pb2.Postmortem]:
        """Post-mortems, newest first, without paths and pictures."""
        request = requests.build(market_pb2.ListPostmortemsRequest, filters)
        return Pages(
            self._connection,
            methods.LIST_POSTMORTEMS,
            request,
            lambda page: page.postmortems,
            timeout,
        )

    def list_alerts(
        self, *, timeout: float | None = None, **filters: Unpack[requests.AlertFilters]
    ) -> Pages[alert_pb2.ListAlertsResponse, alert_pb2.Alert]:
        """Stored alerts, newest first."""
        request = requests.build(alert_pb2.ListAlertsRequest, filters)
        return Pages(
            self._connection, methods.LIST_ALERTS, request, lambda page: page.alerts, timeout
        )

    def watch_alerts(
        self, *, timeout: float | None = None, **fields: Unpack[requests.WatchAlertsFields]
    ) -> Iterator[alert_pb2.WatchAlertsResponse]:
        """Alerts as they are raised, with a count in place of those that a slow reader missed.

        After a lost connection it goes on behind the last message, so nothing is lost and nothing
        comes twice; keep ``resume_token`` of the last message to go on in another process.
        ``timeout`` is the time to watch, at the end of which OutOfTime is raised; None without end.
        """
        request = requests.build(alert_pb2.WatchAlertsRequest, fields)
        return self._connection.watch(methods.WATCH_ALERTS, request, timeout)

    def acknowledge_alert(self, alert_id: str, *, timeout: float | None = None) -> alert_pb2.Alert:
        """Marks an alert as seen by the caller; once more changes nothing."""
        request = alert_pb2.AcknowledgeAlertRequest(alert_id=alert_id)
        answer = self._connection.unary(methods.ACKNOWLEDGE_ALERT, request, timeout)
        return answer.alert
