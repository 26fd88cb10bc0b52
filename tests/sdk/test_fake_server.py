"""The fake server answers as scripted, tells what it was asked, and refuses scripts that lie."""

from __future__ import annotations

import doctest
from typing import Any

import grpc
import pytest

from marketcal import Client, channel, errors, testing
from marketcal.testing import FakeServer, resumable
from marketcal.v1 import alert_pb2, market_pb2

MARKET = market_pb2.GetMarketResponse(market={"market_id": "m"})


@pytest.mark.parametrize("module", [testing, channel])
def test_examples_of_the_documentation_hold(module: Any) -> None:
    found = doctest.testmod(module)
    assert found.attempted > 0
    assert found.failed == 0


def test_answers_come_in_their_order_and_the_last_stays(server: FakeServer, use: Any) -> None:
    other = market_pb2.GetMarketResponse(market={"market_id": "n"})
    server.answer("GetMarket", MARKET, errors.MarketNotFound("gone"), other)

    def get(client: Any) -> Any:
        return client.get_market("x")

    assert use(server, get).market_id == "m"
    with pytest.raises(errors.MarketNotFound):
        use(server, get)
    assert [use(server, get).market_id for _ in range(2)] == ["n", "n"]
    server.answer("GetMarket", MARKET)
    assert use(server, get).market_id == "m"


def test_a_function_answers_by_the_request_and_may_raise(server: FakeServer, use: Any) -> None:
    def find(request: market_pb2.GetMarketRequest) -> market_pb2.GetMarketResponse:
        if request.market_id != "m":
            raise errors.MarketNotFound(f"no {request.market_id}")
        return MARKET

    server.answer("GetMarket", find)
    assert use(server, lambda client: client.get_market("m")) == MARKET.market
    with pytest.raises(errors.MarketNotFound, match="no n"):
        use(server, lambda client: client.get_market("n"))


def test_calls_are_recorded_with_what_came_along(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", MARKET)
    use(server, lambda client: client.get_market("m", timeout=3), key="mk_1")
    (call,) = server.calls
    assert (call.method, call.request.market_id) == ("GetMarket", "m")
    assert call.metadata["authorization"] == "Bearer mk_1"
    assert call.seconds == pytest.approx(3, abs=0.5)
    assert server.requests("ListMarkets") == []


def test_a_method_without_an_answer_says_how_to_set_one(server: FakeServer, use: Any) -> None:
    with pytest.raises(errors.MethodNotImplemented, match=r'server\.answer\("GetMarket", …\)'):
        use(server, lambda client: client.get_market("m"))


def test_a_method_that_is_not_there_is_refused(server: FakeServer) -> None:
    with pytest.raises(ValueError, match=r"there is no GetMarkets; there are .*ListMarkets"):
        server.answer("GetMarkets", MARKET)
    with pytest.raises(ValueError, match="there is no getMarket"):
        server.requests("getMarket")


@pytest.mark.parametrize(
    "path", ["/marketcal.v1.MarketService/GetMarkets", "/other.Service/GetMarket"]
)
def test_a_path_that_is_not_in_the_contract_is_unimplemented(path: str, server: FakeServer) -> None:
    with (
        grpc.insecure_channel(server.address) as raw,
        pytest.raises(grpc.RpcError) as refused,
    ):
        raw.unary_unary(path)(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_answer_of_another_method_is_refused_when_it_is_set(server: FakeServer) -> None:
    wrong: Any = market_pb2.ListMarketsResponse()
    with pytest.raises(TypeError, match="GetMarketResponse, not ListMarketsResponse"):
        server.answer("GetMarket", wrong)
    with pytest.raises(TypeError, match="is a stream"):
        server.answer("WatchAlerts", alert_pb2.WatchAlertsResponse())
    with pytest.raises(TypeError, match="WatchAlertsResponse, not GetMarketResponse"):
        server.answer("WatchAlerts", [MARKET])
    with pytest.raises(ValueError, match="at least one"):
        server.answer("GetMarket")


def test_a_function_that_answers_wrongly_is_told_so(server: FakeServer, use: Any) -> None:
    server.answer("GetMarket", lambda _: None)
    with pytest.raises(errors.InternalError, match="GetMarketResponse, not NoneType"):
        use(server, lambda client: client.get_market("m"))


def test_a_resumable_stream_keeps_given_tokens() -> None:
    first = alert_pb2.WatchAlertsResponse(missed=1, resume_token="here")
    stream = resumable([first, alert_pb2.WatchAlertsResponse(missed=2)])
    after = list(stream(alert_pb2.WatchAlertsRequest(resume_token="here")))
    assert [(message.missed, message.resume_token) for message in after] == [(2, "2")]
    with pytest.raises(errors.InvalidArgument, match="resume_token"):
        list(stream(alert_pb2.WatchAlertsRequest(resume_token="unknown")))


def test_servers_are_apart_and_end(until: Any) -> None:
    with FakeServer() as one, FakeServer() as other:
        one.answer("GetMarket", MARKET)
        with one.client() as client:
            client.get_market("m")
        assert other.calls == []
        assert one.address != other.address
    with Client(one.address) as late, pytest.raises(errors.Unavailable):
        late.get_market("m")
