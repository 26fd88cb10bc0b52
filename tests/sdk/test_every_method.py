"""Both clients call every method of the contract, and say the same of each."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import marketcal
from marketcal import AsyncClient, Client, forecast_request
from marketcal.testing import METHODS, FakeServer
from marketcal.v1 import alert_pb2, forecast_pb2, market_pb2, scoreboard_pb2

CONTRACT = (alert_pb2, forecast_pb2, market_pb2, scoreboard_pb2)
DESCRIBED = {
    method.name: method
    for module in CONTRACT
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
}
WHEN = datetime(2026, 11, 20, 12, tzinfo=UTC)
ITEM = forecast_request("m", [0.5, 0.6])
CALLS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "Forecast": (
        lambda c: c.forecast("m", [0.25, 0.5], horizon_steps=2),
        {"market_id": "m", "values": [0.25, 0.5], "horizon_steps": 2},
    ),
    "BatchForecast": (lambda c: c.batch_forecast([ITEM]), {"items": [ITEM]}),
    "CompareForecasts": (
        lambda c: c.compare_forecasts("m", ITEM, ["a", "b"]),
        {"market_id": "m", "request": ITEM, "models": [{"name": "a"}, {"name": "b"}]},
    ),
    "WatchForecast": (
        lambda c: c.watch_forecast("m", quantiles=[0.5]), {"market_id": "m", "quantiles": [0.5]},
    ),
    "ListModels": (lambda c: c.list_models(page_size=3), {"page_size": 3}),
    "GetModel": (lambda c: c.get_model("ewma"), {"name": "ewma"}),
    "ListScores": (
        lambda c: c.list_scores(window="30d", tte_bucket="TTE_BUCKET_LE_6H"),
        {"window": "30d", "tte_bucket": 1},
    ),
    "GetReliability": (
        lambda c: c.reliability(segment={"category": "politics"}),
        {"segment": {"category": "politics"}},
    ),
    "GetCalibrationQuality": (lambda c: c.calibration_quality("30d"), {"window": "30d"}),
    "ExplainTrust": (lambda c: c.explain_trust("m"), {"market_id": "m"}),
    "ListMarkets": (lambda c: c.list_markets(query="rain", status=None), {"query": "rain"}),
    "GetMarket": (lambda c: c.get_market("m"), {"market_id": "m"}),
    "GetMarketMetrics": (
        lambda c: c.market_metrics("m", window="30d"), {"market_id": "m", "window": "30d"},
    ),
    "GetPriceHistory": (
        lambda c: c.price_history("m", start_time=WHEN),
        {"market_id": "m", "start_time": {"seconds": int(WHEN.timestamp())}},
    ),
    "GetPostmortem": (lambda c: c.get_postmortem("m"), {"market_id": "m"}),
    "ListPostmortems": (
        lambda c: c.list_postmortems(since=WHEN), {"since": {"seconds": int(WHEN.timestamp())}},
    ),
    "ListAlerts": (
        lambda c: c.list_alerts(min_severity="ALERT_SEVERITY_MED"), {"min_severity": 2},
    ),
    "WatchAlerts": (lambda c: c.watch_alerts(market_ids=["m"]), {"market_ids": ["m"]}),
    "AcknowledgeAlert": (lambda c: c.acknowledge_alert("a"), {"alert_id": "a"}),
}  # fmt: skip
PARTS = {
    "GetMarket": "market", "GetMarketMetrics": "score", "GetPostmortem": "postmortem",
    "AcknowledgeAlert": "alert", "ListModels": "models", "ListScores": "scores",
    "ListMarkets": "markets", "GetPriceHistory": "points", "ListPostmortems": "postmortems",
    "ListAlerts": "alerts",
}  # fmt: skip


def test_the_table_of_methods_is_that_of_the_contract() -> None:
    assert METHODS.keys() == DESCRIBED.keys()
    for name, method in METHODS.items():
        found = DESCRIBED[name]
        assert method.path == f"/{found.containing_service.full_name}/{name}"
        assert method.request.DESCRIPTOR is found.input_type
        assert method.response.DESCRIPTOR is found.output_type


@pytest.mark.parametrize("name", METHODS)
def test_a_call_sends_what_it_was_given_and_returns_what_was_answered(
    name: str, server: FakeServer, use: Any
) -> None:
    action, fields = CALLS[name]
    method = METHODS[name]
    part = method.response.DESCRIPTOR.fields_by_name.get(PARTS.get(name, ""))
    answer: Any = method.response()
    if part is not None and part.name.endswith("s"):
        getattr(answer, part.name).add()
    elif part is not None:
        getattr(answer, part.name).SetInParent()
    stream = DESCRIBED[name].server_streaming
    if name == "WatchAlerts":
        answer.missed = 3
    server.answer(name, [answer] if stream else answer)

    found = use(server, action)

    assert server.requests(name) == [method.request(**fields)]
    if stream:
        wanted: Any = [answer]
    elif part is None:
        wanted = answer
    else:
        wanted = getattr(answer, part.name)
    assert found == wanted


def test_both_clients_have_the_same_methods_with_the_same_arguments() -> None:
    def public(cls: type) -> dict[str, Any]:
        return {
            name: [
                (part.name, part.kind, part.default, part.annotation)
                for part in inspect.signature(function).parameters.values()
            ]
            for name, function in vars(cls).items()
            if inspect.isfunction(function) and not name.startswith("_")
        }

    assert public(Client) == public(AsyncClient)
    assert len(public(Client)) == len(DESCRIBED) + 1  # close


@pytest.mark.parametrize("cls", [Client, AsyncClient])
def test_every_public_name_is_explained(cls: type) -> None:
    functions = [value for name, value in vars(cls).items() if not name.startswith("_")]
    assert all(inspect.getdoc(function) for function in [cls, *functions])
    assert all(inspect.getdoc(getattr(marketcal, name)) for name in marketcal.__all__)


def test_a_list_is_read_page_by_page(server: FakeServer, use: Any) -> None:
    pages = {"": (["a", "b"], "x"), "x": ([], "y"), "y": (["c"], "")}

    def page(request: market_pb2.ListMarketsRequest) -> market_pb2.ListMarketsResponse:
        names, token = pages[request.page_token]
        return market_pb2.ListMarketsResponse(
            markets=[{"market_id": name} for name in names], next_page_token=token, total_size=3
        )

    server.answer("ListMarkets", page)
    found = use(server, lambda client: client.list_markets(category="politics"))
    assert [market.market_id for market in found] == ["a", "b", "c"]
    assert [r.category for r in server.requests("ListMarkets")] == ["politics"] * 3
    totals = use(server, lambda client: client.list_markets().pages())
    assert [answer.total_size for answer in totals] == [3, 3, 3]


def test_no_page_is_fetched_before_it_is_read(server: FakeServer) -> None:
    server.answer(
        "ListMarkets",
        market_pb2.ListMarketsResponse(markets=[{"market_id": "a"}], next_page_token="x"),
        market_pb2.ListMarketsResponse(markets=[{"market_id": "a"}], next_page_token="y"),
    )
    with server.client() as client:
        markets = client.list_markets()
        assert server.calls == []
        assert next(markets).market_id == "a"
        assert len(server.calls) == 1
        assert next(markets).market_id == "a"
        assert len(server.calls) == 2


def test_fields_take_what_python_has_for_them() -> None:
    request = forecast_request(
        "m", [0.5, 0.6], model="ewma", as_of_time=WHEN, time_to_event=timedelta(hours=1.5),
        value_times=[WHEN, WHEN + timedelta(minutes=5)], past_covariates={"volume": [1, None]},
        band="BAND_KIND_BOTH", transform={"eps": 0.001},
    )  # fmt: skip
    assert request.model.name == "ewma"
    assert request.as_of_time.ToDatetime(UTC) == WHEN
    assert request.time_to_event.ToTimedelta() == timedelta(hours=1.5)
    assert [time.ToDatetime(UTC).minute for time in request.value_times] == [0, 5]
    assert request.past_covariates[0].name == "volume"
    assert request.past_covariates[0].values[0] == 1.0
    assert request.band == forecast_pb2.BAND_KIND_BOTH
    assert request.transform.eps == 0.001


def test_a_time_without_its_zone_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match="as_of_time: a datetime needs a time zone"):
        forecast_request("m", [0.5], as_of_time=WHEN.replace(tzinfo=None))
    with pytest.raises(ValueError, match="value_times"):
        forecast_request("m", [0.5], value_times=[WHEN.replace(tzinfo=None)])


def test_an_unknown_field_is_refused_by_its_name() -> None:
    wrong: dict[str, Any] = {"horizon": 3}
    with pytest.raises(ValueError, match="horizon"):
        forecast_request("m", [0.5], **wrong)
