"""gRPC and gRPC-Web through Envoy: messages, details and trailers pass as they are."""

from __future__ import annotations

import base64
import re
import struct
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from marketcal.errors import MarketNotFound, RateLimited
from marketcal.status import decode, decode_status
from marketcal.v1 import (
    alert_pb2,
    forecast_pb2,
    forecast_pb2_grpc,
    market_pb2,
    market_pb2_grpc,
)

VALUES = [0.4 + 0.001 * (i % 60) for i in range(96)]
REQUEST = forecast_pb2.ForecastRequest(
    market_id="polymarket:1", values=VALUES, model={"name": "ewma"}
)
MARKET = "/marketcal.v1.MarketService/GetMarket"
WATCH = "/marketcal.v1.ForecastService/WatchForecast"


@pytest.fixture(scope="module")
def channel(front: Any, open_channel: Any) -> Any:
    """A gRPC connection to Envoy."""
    with open_channel(f"127.0.0.1:{front.port}") as opened:
        yield opened


def metadata(headers: dict[str, str]) -> tuple[tuple[str, str], ...]:
    """Headers as metadata."""
    return tuple(headers.items())


def test_a_forecast_passes(channel: Any, gateway: Any, as_forecaster: Any) -> None:
    through, direct = (
        forecast_pb2_grpc.ForecastServiceStub(way).Forecast(
            REQUEST, metadata=metadata(as_forecaster)
        )
        for way in (channel, gateway.channel)
    )
    assert through.quantile_paths == direct.quantile_paths


def test_a_refusal_passes_with_details_and_trailers(
    channel: Any, gateway: Any, as_viewer: Any
) -> None:
    markets = market_pb2_grpc.MarketServiceStub(channel)
    with pytest.raises(grpc.RpcError) as caught:
        markets.GetMarket(
            market_pb2.GetMarketRequest(market_id="none"), metadata=metadata(as_viewer)
        )
    error = decode(caught.value)
    assert isinstance(error, MarketNotFound)
    assert error.resource == ("marketcal.v1.Market", "none")
    assert error.request_id

    limited = (("x-api-key", gateway.key("viewer", rate_per_minute=1, burst=1)),)
    markets.ListMarkets(market_pb2.ListMarketsRequest(), metadata=limited)
    with pytest.raises(grpc.RpcError) as caught:
        markets.ListMarkets(market_pb2.ListMarketsRequest(), metadata=limited)
    assert isinstance(decode(caught.value), RateLimited)
    trailers = dict(caught.value.trailing_metadata())
    assert 1 <= int(trailers["retry-after"]) <= 60


def test_a_stream_of_health_passes(channel: Any) -> None:
    stream = health_pb2_grpc.HealthStub(channel).Watch(
        health_pb2.HealthCheckRequest(service=""), timeout=20
    )
    assert next(stream).status == health_pb2.HealthCheckResponse.SERVING
    stream.cancel()


def test_a_large_batch_passes(channel: Any, as_forecaster: Any) -> None:
    item = forecast_pb2.ForecastRequest(market_id="m", values=VALUES * 200, model={"name": "ewma"})
    answer = forecast_pb2_grpc.ForecastServiceStub(channel).BatchForecast(
        forecast_pb2.BatchForecastRequest(items=[item] * 20), metadata=metadata(as_forecaster)
    )
    assert len(answer.results) == 20


def test_a_request_above_the_gateways_limit_is_refused_by_the_gateway(
    channel: Any, as_viewer: Any
) -> None:
    request = market_pb2.GetMarketRequest(market_id="m" * (9 << 20))
    with pytest.raises(grpc.RpcError) as caught:
        market_pb2_grpc.MarketServiceStub(channel).GetMarket(request, metadata=metadata(as_viewer))
    assert decode(caught.value).reason == "TOO_LARGE"


def test_a_gateway_that_is_gone_is_unavailable_in_words(
    start_envoy: Any, serve_gateway: Any, open_channel: Any, until: Any
) -> None:
    with ExitStack() as outer:
        with ExitStack() as inner:
            front = start_envoy(outer, serve_gateway(inner).port)
        markets = market_pb2_grpc.MarketServiceStub(
            outer.enter_context(open_channel(f"127.0.0.1:{front.port}"))
        )
        with pytest.raises(grpc.RpcError) as caught:
            markets.ListMarkets(market_pb2.ListMarketsRequest(), timeout=20)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "{" not in caught.value.details()


def framed(message: bytes) -> bytes:
    """A message as gRPC-Web frames it."""
    return b"\0" + struct.pack(">I", len(message)) + message


def unframed(body: bytes) -> tuple[list[bytes], dict[str, str]]:
    """Messages and trailers of a gRPC-Web body."""
    messages: list[bytes] = []
    trailers: dict[str, str] = {}
    while body:
        kind, length = body[0], struct.unpack(">I", body[1:5])[0]
        payload, body = body[5 : 5 + length], body[5 + length :]
        if kind & 0x80:
            lines = payload.decode().strip().split("\r\n")
            trailers |= {name: value for name, _, value in (one.partition(":") for one in lines)}
        else:
            messages.append(payload)
    return messages, trailers


def call_web(front: Any, path: str, message: bytes, headers: Any, *, text: bool) -> Any:
    """Messages and trailers (headers where there is no body) of a gRPC-Web call."""
    kind = "application/grpc-web-text" if text else "application/grpc-web+proto"
    body = base64.b64encode(framed(message)) if text else framed(message)
    answer = front.http.post(
        path, content=body,
        headers=headers | {"content-type": kind, "accept": kind, "x-grpc-web": "1"},
    )  # fmt: skip
    assert answer.status_code == 200
    content = answer.content
    if text:  # pieces, each with a padding of its own
        content = b"".join(map(base64.b64decode, re.findall(rb"[^=]+=*", content)))
    messages, trailers = unframed(content)
    return messages, dict(answer.headers) | trailers


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_grpc_web_answers(text: bool, front: Any, as_viewer: Any, market_id: str) -> None:
    request = market_pb2.GetMarketRequest(market_id=market_id).SerializeToString()
    messages, trailers = call_web(front, MARKET, request, as_viewer, text=text)
    assert trailers["grpc-status"].strip() == "0"
    assert market_pb2.GetMarketResponse.FromString(messages[0]).market.market_id == market_id


@pytest.mark.parametrize("text", [False, True], ids=["binary", "text"])
def test_grpc_web_refuses_with_details(text: bool, front: Any, as_viewer: Any) -> None:
    request = market_pb2.GetMarketRequest(market_id="none").SerializeToString()
    messages, trailers = call_web(front, MARKET, request, as_viewer, text=text)
    assert (messages, trailers["grpc-status"].strip()) == ([], "5")
    raw = trailers["grpc-status-details-bin"].strip()
    status = status_pb2.Status.FromString(base64.b64decode(raw + "=" * (-len(raw) % 4)))
    assert isinstance(decode_status(status), MarketNotFound)


def test_a_refused_stream_over_grpc_web_says_why(front: Any, as_forecaster: Any) -> None:
    request = forecast_pb2.WatchForecastRequest(market_id="m", model={"name": "none"})
    messages, trailers = call_web(
        front, WATCH, request.SerializeToString(), as_forecaster, text=False
    )
    assert (messages, trailers["grpc-status"].strip()) == ([], "5")


def test_alerts_arrive_over_grpc_web_as_they_are_raised(
    front: Any, as_viewer: Any, gateway: Any, raise_alerts: Any
) -> None:
    kind = {"content-type": "application/grpc-web+proto", "accept": "application/grpc-web+proto"}
    asked = framed(alert_pb2.WatchAlertsRequest(market_ids=["web:1"]).SerializeToString())
    with front.http.stream(
        "POST", "/marketcal.v1.AlertService/WatchAlerts", content=asked, headers=as_viewer | kind
    ) as answer:
        parts = answer.iter_raw()
        (first,), _ = unframed(next(parts))
        assert not alert_pb2.WatchAlertsResponse.FromString(first).HasField("alert")
        [alert_id] = raise_alerts(gateway, market_id="web:1")
        (second,), _ = unframed(next(parts))
    assert alert_pb2.WatchAlertsResponse.FromString(second).alert.alert_id == alert_id


def test_a_stream_over_grpc_web_arrives_while_it_goes_on(front: Any) -> None:
    kind = {"content-type": "application/grpc-web+proto"}
    path = "/grpc.health.v1.Health/Watch"
    with front.http.stream("POST", path, content=framed(b""), headers=kind) as answer:
        first = next(answer.iter_raw())
    messages, _ = unframed(first)
    assert health_pb2.HealthCheckResponse.FromString(messages[0]).status == 1


def test_a_method_that_does_not_exist_is_the_gateways_to_refuse(channel: Any) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/marketcal.v1.NoService/NoMethod")(b"", timeout=20)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
