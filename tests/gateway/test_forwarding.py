"""A service that another process answers: the same to callers as one that is answered here."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.handover import HEADER
from gateway.supervisor.ports import free_port
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc, legacy_pb2, market_pb2, scoreboard_pb2

SECRET = "b7f2c4d98e0a41369f5be2d17c6a8043"
MODELS = pb.ListModelsRequest()
FORECASTS = "marketcal.v1.ForecastService"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@dataclass
class Behind(forecast_pb2_grpc.ForecastServiceServicer):
    """A process behind that notes what reaches it and does what the test says."""

    seen: list[dict[str, Any]] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    cancelled: threading.Event = field(default_factory=threading.Event)
    sent: int = 0

    async def ListModels(self, request: Any, context: Any) -> pb.ListModelsResponse:  # noqa: N802
        """Answers with a field that no contract knows and a trailer."""
        self.seen.append(dict(context.invocation_metadata()))
        self.left.append(context.time_remaining())
        context.set_trailing_metadata((("x-degraded", "stale"), ("odd-bin", b"\x00\xff")))
        return pb.ListModelsResponse.FromString(b"\x12\x04done\xfa\x3f\x03new")

    async def GetModel(self, request: Any, context: Any) -> pb.GetModelResponse:  # noqa: N802
        """Refuses with details of its own."""
        details = (("grpc-status-details-bin", b"\x08\x05\x12\x03who"), ("why", "because"))
        await context.abort(grpc.StatusCode.NOT_FOUND, "who", details)
        raise AssertionError

    async def Forecast(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Waits until the caller goes away."""
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    async def WatchForecast(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Three messages and a refusal, or messages without an end."""
        endless = request.market_id == "endless"
        try:
            while endless or self.sent < 3:
                self.sent += 1
                yield pb.WatchForecastResponse(
                    forecast=pb.ForecastResponse(market_id=str(self.sent))
                )
                await asyncio.sleep(0.001)
        except (asyncio.CancelledError, GeneratorExit):
            self.cancelled.set()
            raise
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED, "enough",
            (("grpc-status-details-bin", b"\x08\x08\x12\x06enough"), ("left", "0")),
        )  # fmt: skip


@dataclass
class Front:
    """A gateway before `Behind`, and a stub on it."""

    behind: Behind
    gateway: Any
    stub: Any
    key: Any


@pytest.fixture
def front(serve_gateway: Any, server_loop: Any, stack: ExitStack, bearer: Any) -> Front:
    behind = server_loop.call(Behind)
    port = server_loop.run(listen(behind, stack, server_loop))
    gateway = serve_gateway(stack, upstream={"forecast": f"127.0.0.1:{port}", "secret": SECRET})
    stub = forecast_pb2_grpc.ForecastServiceStub(gateway.channel)
    return Front(behind, gateway, stub, bearer(gateway.key("forecaster")))


async def listen(behind: Behind, stack: ExitStack, loop: Any) -> int:
    server = grpc.aio.server()
    forecast_pb2_grpc.add_ForecastServiceServicer_to_server(behind, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.callback(lambda: loop.run(server.stop(0)))
    return port


def test_bytes_pass_as_they_are_in_both_directions(front: Front, open_channel: Any) -> None:
    send = front.gateway.channel.unary_unary(f"/{FORECASTS}/ListModels")
    answer, call = send.with_call(b"\xfa\x3f\x03new", metadata=front.key, timeout=20)

    assert answer == b"\x12\x04done\xfa\x3f\x03new"
    trailers = dict(call.trailing_metadata())
    assert trailers["x-degraded"] == "stale"
    assert trailers["odd-bin"] == b"\x00\xff"
    assert len(trailers["x-request-id"]) == 32


def test_metadata_passes_and_the_credential_does_not(front: Front) -> None:
    sent = (*front.key, ("x-mine", "1"), ("x-request-id", "mine-1"), ("odd-bin", b"\x00\xfe"),
            ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))  # fmt: skip
    front.stub.ListModels(MODELS, metadata=sent, timeout=20)

    seen = front.behind.seen[0]
    assert seen["x-mine"] == "1"
    assert seen["odd-bin"] == b"\x00\xfe"
    assert seen["x-request-id"] == "mine-1"
    assert seen["traceparent"].split("-")[1] == "0af7651916cd43dd8448eb211c80319c"
    assert "authorization" not in seen
    assert "x-api-key" not in seen
    claims = jwt.decode(seen[HEADER], SECRET, algorithms=["HS256"], audience="marketcal-upstream")
    assert claims["sub"] == front.key[0][1].split("_")[1]
    assert "forecast.read" in claims["scopes"]
    assert front.key[0][1] not in str(seen)


def test_what_a_caller_says_of_itself_under_the_handovers_name_is_not_passed(front: Front) -> None:
    front.stub.ListModels(
        MODELS, metadata=(*front.key, ("x-forwarded-for", "10.1.1.1")), timeout=20
    )

    assert front.behind.seen[0]["x-forwarded-for"] == "127.0.0.1"


def test_the_deadline_passes_cut_to_what_the_contract_grants(front: Front) -> None:
    front.stub.ListModels(MODELS, metadata=front.key, timeout=2)
    front.stub.ListModels(MODELS, metadata=front.key)

    short, clamped = front.behind.left
    assert 1.0 < short < 2.5
    assert 4.0 < clamped < 5.5


def test_a_refusal_passes_with_its_details_and_trailers(front: Front) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        front.stub.GetModel(pb.GetModelRequest(name="x"), metadata=front.key, timeout=20)

    error: Any = caught.value
    assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "who")
    trailers = dict(error.trailing_metadata())
    assert trailers["grpc-status-details-bin"] == b"\x08\x05\x12\x03who"
    assert trailers["why"] == "because"


def test_a_stream_passes_with_the_refusal_at_its_end(front: Front) -> None:
    watched = front.stub.WatchForecast(
        pb.WatchForecastRequest(market_id="m"), metadata=front.key, timeout=20
    )
    told = [next(watched).forecast.market_id for _ in range(3)]
    with pytest.raises(grpc.RpcError) as caught:
        next(watched)

    assert told == ["1", "2", "3"]
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(error.trailing_metadata())["left"] == "0"
    assert front.behind.sent == 3


@pytest.mark.parametrize("kind", ["unary", "stream"])
def test_a_caller_that_goes_away_is_gone_behind_too(
    kind: str, front: Front, until: Callable[..., None]
) -> None:
    if kind == "unary":
        values = [0.5, 0.5]
        pending = front.stub.Forecast.future(
            pb.ForecastRequest(market_id="m", values=values), metadata=front.key, timeout=20
        )
        front.stub.ListModels(MODELS, metadata=front.key, timeout=20)  # that one is under way
    else:
        pending = front.stub.WatchForecast(
            pb.WatchForecastRequest(market_id="endless"), metadata=front.key, timeout=20
        )
        next(pending)
    pending.cancel()

    until(front.behind.cancelled.is_set)


def test_rules_of_the_gateway_come_before_forwarding(
    front: Front, refused: Any, bearer: Any
) -> None:
    assert refused(front.stub.ListModels, MODELS).reason == "CREDENTIAL_MISSING"
    viewer = bearer(front.gateway.key("viewer"))
    assert refused(front.stub.ListModels, MODELS, viewer).reason == "SCOPE_MISSING"
    narrow = bearer(front.gateway.key("forecaster", rate_per_minute=1, burst=3))
    four = pb.BatchForecastRequest(items=[pb.ForecastRequest()] * 4)
    assert refused(front.stub.BatchForecast, four, narrow).reason == "TOO_LARGE"
    assert front.behind.seen == []


def test_a_process_behind_that_is_away_is_not_ready(
    serve_gateway: Any, stack: ExitStack, refused: Any, bearer: Any, until: Callable[..., None]
) -> None:
    own = serve_gateway(stack, upstream={"forecast": f"127.0.0.1:{free_port()}", "secret": SECRET})
    stub = forecast_pb2_grpc.ForecastServiceStub(own.channel)

    refusal = refused(stub.ListModels, MODELS, bearer(own.key("forecaster")))

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
    assert "RetryInfo" in refusal.details
    assert "127.0.0.1" not in refusal.message


def test_health_of_a_forwarded_service_is_that_of_the_process_behind(
    serve_gateway: Any, stack: ExitStack, published: Any, until: Callable[..., None]
) -> None:
    with ExitStack() as behind_stack:
        behind = serve_gateway(
            behind_stack,
            gateway={"hosts": ["scoreboard", "market"], "behind": True},
            flows={"lake": str(published.lake)},
            upstream={"secret": SECRET},
        )
        front = serve_gateway(
            stack,
            upstream={"scoreboard": behind.address, "market": behind.address, "secret": SECRET},
        )
        health = health_pb2_grpc.HealthStub(front.channel)
        asked = health_pb2.HealthCheckRequest(service="marketcal.v1.ScoreboardService")

        until(lambda: health.Check(asked, timeout=20).status == 1)
    until(lambda: health.Check(asked, timeout=20).status == 2)


def test_reads_and_older_paths_answer_the_same_from_behind(
    serve_gateway: Any, stack: ExitStack, published: Any, stubs_on: Any, bearer: Any, gateway: Any,
    stubs: Any, as_viewer: Any, until: Callable[..., None],
) -> None:  # fmt: skip
    lake = {"lake": str(published.lake)}
    behind = serve_gateway(
        stack,
        gateway={"hosts": ["scoreboard", "market"], "behind": True},
        flows=lake,
        upstream={"secret": SECRET},
    )
    until(lambda: behind.parts.publication.ready)
    front = serve_gateway(
        stack,
        upstream={"scoreboard": behind.address, "market": behind.address, "secret": SECRET},
    )
    forwarded, key = stubs_on(front.channel), bearer(front.key("viewer"))

    asked = scoreboard_pb2.ListScoresRequest(page_size=20)
    here = stubs.scores.ListScores(asked, metadata=as_viewer, timeout=20)
    there = forwarded.scores.ListScores(asked, metadata=key, timeout=20)
    assert [score.market_id for score in there.scores] == [s.market_id for s in here.scores]
    one = market_pb2.GetMarketRequest(market_id=here.scores[0].market_id)
    assert forwarded.markets.GetMarket(one, metadata=key, timeout=20) == stubs.markets.GetMarket(
        one, metadata=as_viewer, timeout=20
    )
    old = legacy_pb2.MarketByIdRequest(id=here.scores[0].market_id)
    assert forwarded.compat.MarketById(old, metadata=key, timeout=20) == stubs.compat.MarketById(
        old, metadata=as_viewer, timeout=20
    )
