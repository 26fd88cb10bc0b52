"""CompatService: the old paths, answered by the v1 services."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from google.protobuf.message import Message

from gateway.compat import rows, translation
from gateway.compat.translation import Rename, renamed
from gateway.interceptors.validation import invalid, violations
from marketcal.errors import InvalidArgument, MethodNotImplemented
from marketcal.v1 import alert_pb2, legacy_pb2_grpc, market_pb2, scoreboard_pb2
from marketcal.v1 import legacy_pb2 as pb

MOST_ENTRIES = 500
"""Entries of an old list at most, as of a v1 page; v1 has the rest on further pages."""
MOST_ALERTS = 2_000
"""Alerts that are looked through for a total, four pages of v1; where there are more, the total is
this number and stands for "not counted to the end"."""

Method = Callable[[Any, Any], Awaitable[Any]]


class CompatService(legacy_pb2_grpc.CompatServiceServicer):
    """The API before v1.

    Args:
        forecasts: the v1 ForecastService.
        scores: the v1 ScoreboardService.
        markets: the v1 MarketService.
        alerts: the v1 AlertService.
        baseline: model that a comparison holds against the asked one.
    """

    def __init__(
        self, forecasts: Any, scores: Any, markets: Any, alerts: Any, *, baseline: str
    ) -> None:
        self._forecasts = forecasts
        self._scores = scores
        self._markets = markets
        self._alerts = alerts
        self._baseline = baseline

    async def TsfmForecast(
        self, request: pb.TsfmForecastRequest, call: Any
    ) -> pb.TsfmForecastResponse:
        """One series."""
        asked = translation.forecast_request(request)
        method = _implemented(self._forecasts, "Forecast")
        return translation.forecast_response(
            await _ask(method, asked, call, translation.names_of(asked))
        )

    async def MarketComparison(
        self, request: pb.MarketComparisonRequest, call: Any
    ) -> pb.MarketComparisonResponse:
        """One series, by the asked model and by a baseline; refused where either is."""
        asked = translation.comparison_request(request, self._baseline)
        rename = translation.below("forecast", translation.names_of(asked.request))
        method = _implemented(self._forecasts, "CompareForecasts")
        answer = await _ask(method, asked, call, rename)
        try:
            sides = [translation.compared(result) for result in answer.results]
        except InvalidArgument as error:
            raise renamed(error, rename) from error
        return pb.MarketComparisonResponse(tollama=sides[0], baseline=sides[1])

    async def Scoreboard(self, request: pb.ScoreboardRequest, call: Any) -> pb.ScoreboardResponse:
        """Markets by trust, the highest first."""
        asked = translation.scores_request(request)
        answer: scoreboard_pb2.ListScoresResponse = await _ask(
            _implemented(self._scores, "ListScores"), asked, call
        )
        items = [rows.score_row(score) for score in answer.scores]
        return pb.ScoreboardResponse(items=items, total=answer.total_size)

    async def Markets(self, request: pb.MarketsRequest, call: Any) -> pb.MarketsResponse:
        """Markets by id."""
        asked = translation.markets_request(request)
        answer: market_pb2.ListMarketsResponse = await _ask(
            _implemented(self._markets, "ListMarkets"), asked, call
        )
        items = [rows.market_row(market) for market in answer.markets]
        return pb.MarketsResponse(items=items, total=answer.total_size)

    async def Alerts(self, request: pb.AlertsRequest, call: Any) -> pb.AlertsResponse:
        """Alerts, the newest first; they are counted up to `MOST_ALERTS`."""
        asked = translation.alerts_request(request, MOST_ENTRIES)
        method = _implemented(self._alerts, "ListAlerts")
        found, whole = await _newest_alerts(method, asked, call, exact=bool(request.severity))
        shown = found[: min(request.limit or 50, MOST_ENTRIES)]
        total = len(found) if whole else MOST_ALERTS
        return pb.AlertsResponse(items=map(rows.alert_row, shown), total=total)

    async def MarketById(self, request: pb.MarketByIdRequest, call: Any) -> pb.MarketByIdResponse:
        """One market."""
        asked = market_pb2.GetMarketRequest(market_id=request.id)
        answer = await _ask(_implemented(self._markets, "GetMarket"), asked, call)
        return pb.MarketByIdResponse(market=rows.market_row(answer.market))

    async def MarketMetrics(
        self, request: pb.MarketMetricsRequest, call: Any
    ) -> pb.MarketMetricsResponse:
        """Trust of a market and the scores of its segment."""
        asked = market_pb2.GetMarketMetricsRequest(market_id=request.id)
        answer = await _ask(_implemented(self._markets, "GetMarketMetrics"), asked, call)
        return pb.MarketMetricsResponse(metrics=rows.score_row(answer.score))

    async def PostmortemById(
        self, request: pb.PostmortemByIdRequest, call: Any
    ) -> pb.PostmortemByIdResponse:
        """The post-mortem of one market as a text."""
        asked = market_pb2.GetPostmortemRequest(market_id=request.id)
        answer = await _ask(_implemented(self._markets, "GetPostmortem"), asked, call)
        return pb.PostmortemByIdResponse(
            market_id=answer.postmortem.market_id, content=rows.postmortem_text(answer.postmortem)
        )


def _implemented(servicer: Any, name: str) -> Method:
    """The method of a v1 service.

    Raises:
        MethodNotImplemented: only the generated base class has it.
    """
    method: Method = getattr(servicer, name)
    if str(method.__module__).startswith("marketcal.v1."):
        raise MethodNotImplemented(f"{name} is in the contract and not yet in this server")
    return method


async def _ask(
    method: Method, request: Message, call: Any, rename: Rename = translation.old_name
) -> Any:
    """What v1 answers to a request that keeps v1's rules; refusals name the old fields."""
    try:
        broken = violations(request)
        if broken:
            raise invalid(broken)
        return await method(request, call)
    except InvalidArgument as error:
        raise renamed(error, rename) from error


async def _newest_alerts(
    method: Method, request: alert_pb2.ListAlertsRequest, call: Any, *, exact: bool
) -> tuple[list[alert_pb2.Alert], bool]:
    """Those among the newest `MOST_ALERTS` that match, and whether there are no more."""
    found: list[alert_pb2.Alert] = []
    for _ in range(MOST_ALERTS // MOST_ENTRIES):
        answer: alert_pb2.ListAlertsResponse = await _ask(method, request, call)
        found += [
            alert for alert in answer.alerts
            if not exact or alert.severity == request.min_severity
        ]  # fmt: skip
        if not answer.next_page_token:
            return found, True
        request.page_token = answer.next_page_token
    return found, False
