"""A process behind that fails, or cannot be used: what callers hear, and what the log says."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import grpc
import jwt
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from gateway.forward import THIS_GATEWAY, Upstream
from gateway.handover import HEADER, Signer
from gateway.server_settings import UpstreamSettings
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc, legacy_pb2

SECRET = "e15b8d6a3f904c27a8e70d4b92c6f513"
SCORES = "marketcal.v1.ScoreboardService"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


class Bare(forecast_pb2_grpc.ForecastServiceServicer):
    """Refuses as no process of ours does: with a code and without details."""

    async def GetModel(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Ends with the code of which the request has the name."""
        await context.abort(grpc.StatusCode[request.name], "of the transport")

    async def WatchForecast(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One message, then the same."""
        yield pb.WatchForecastResponse()
        await context.abort(grpc.StatusCode[request.market_id], "of the transport")


@dataclass
class Watched(health_pb2_grpc.HealthServicer):
    """Notes who watches."""

    seen: list[dict[str, Any]] = field(default_factory=list)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802
        """Serves."""
        self.seen.append(dict(context.invocation_metadata()))
        yield health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING)


async def listen(stack: ExitStack, loop: Any, add: Callable[[grpc.aio.Server], None]) -> str:
    """Address of a server."""
    server = grpc.aio.server()
    add(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    stack.callback(lambda: loop.run(server.stop(0)))
    return f"127.0.0.1:{port}"


@pytest.fixture
def bare(server_loop: Any, stack: ExitStack) -> str:
    """Address of `Bare`."""
    add = forecast_pb2_grpc.add_ForecastServiceServicer_to_server
    return str(server_loop.run(listen(stack, server_loop, lambda server: add(Bare(), server))))


HEARD = {
    "UNIMPLEMENTED": ("UNIMPLEMENTED", "NOT_IMPLEMENTED"),
    "RESOURCE_EXHAUSTED": ("RESOURCE_EXHAUSTED", "TOO_LARGE"),
    "UNAUTHENTICATED": ("UNAVAILABLE", "NOT_READY"),
    "PERMISSION_DENIED": ("UNAVAILABLE", "NOT_READY"),
    "UNAVAILABLE": ("UNAVAILABLE", "NOT_READY"),
    "INTERNAL": ("INTERNAL", "INTERNAL"),
    "UNKNOWN": ("INTERNAL", "INTERNAL"),
    "NOT_FOUND": ("INTERNAL", "INTERNAL"),
    "DEADLINE_EXCEEDED": ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"),
}


def test_a_status_without_details_is_given_those_of_the_contract(
    serve_gateway: Any, stack: ExitStack, bare: str, refused: Any, read_refusal: Any, bearer: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    own = serve_gateway(stack, upstream={"forecast": bare, "secret": SECRET})
    stub: Any = forecast_pb2_grpc.ForecastServiceStub(own.channel)
    key = bearer(own.key("forecaster"))

    for name, heard in HEARD.items():
        told = refused(stub.GetModel, pb.GetModelRequest(name=name), key)
        assert (told.code, told.reason) == heard
        assert "RequestInfo" in told.details
        assert "www-authenticate" not in told.trailers
        assert "transport" not in told.message
        watched = stub.WatchForecast(
            pb.WatchForecastRequest(market_id=name), metadata=key, timeout=20
        )
        next(watched)
        with pytest.raises(grpc.RpcError) as caught:
            next(watched)
        at_the_end = read_refusal(caught.value)
        assert (at_the_end.code, at_the_end.reason) == heard

    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    to_put_right = set(HEARD) - {"UNAVAILABLE", "DEADLINE_EXCEEDED"}
    assert len(errors) == 2 * len(to_put_right)
    assert all(bare in text and "of the transport" in text for text in errors)


def test_an_address_at_which_something_else_answers_says_so(
    serve_gateway: Any, stack: ExitStack, refused: Any, bearer: Any
) -> None:
    reads = {"hosts": ["scoreboard"], "behind": True}
    wrong = serve_gateway(stack, gateway=reads, upstream={"secret": SECRET})
    own = serve_gateway(stack, upstream={"forecast": wrong.address, "secret": SECRET})
    stub: Any = forecast_pb2_grpc.ForecastServiceStub(own.channel)

    refusal = refused(stub.ListModels, pb.ListModelsRequest(), bearer(own.key("forecaster")))

    assert (refusal.code, refusal.reason) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


@pytest.mark.parametrize("gateway", [{"behind": True}, {}], ids=["wrong secret", "not behind"])
def test_a_process_that_does_not_trust_this_one_is_no_fault_of_the_callers_key(
    gateway: dict[str, Any], serve_gateway: Any, stack: ExitStack, refused: Any, bearer: Any,
    stubs_on: Any, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    behind = serve_gateway(stack, gateway=gateway, upstream={"secret": SECRET[::-1]})
    own = serve_gateway(stack, upstream={"forecast": behind.address, "secret": SECRET})
    stubs, key = stubs_on(own.channel), bearer(own.key("forecaster"))

    new = refused(stubs.forecasts.ListModels, pb.ListModelsRequest(), key)
    values = [0.4 + 0.001 * step for step in range(96)]
    request = legacy_pb2.TsfmForecastRequest(market_id="m", y=values, horizon_steps=3)
    old = refused(stubs.compat.TsfmForecast, request, key)

    for refusal in (new, old):
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
        assert "www-authenticate" not in refusal.trailers
        assert "retry-after" in refusal.trailers
    errors = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert all(behind.address in text and "trust" in text for text in errors)


def test_health_is_watched_in_the_gateways_own_name(
    serve_gateway: Any, server_loop: Any, stack: ExitStack, until: Any
) -> None:
    watched = Watched()
    add = health_pb2_grpc.add_HealthServicer_to_server
    address = server_loop.run(listen(stack, server_loop, lambda server: add(watched, server)))
    serve_gateway(stack, upstream={"scoreboard": address, "secret": SECRET})

    until(lambda: watched.seen)

    claims = jwt.decode(
        watched.seen[0][HEADER], SECRET, algorithms=["HS256"], audience="marketcal-upstream"
    )
    assert (claims["sub"], claims["scopes"]) == ("gateway", [])


def test_gateways_in_front_watch_health_beside_strangers_who_watch_as_much_as_they_may(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any
) -> None:
    limits = {"behind": True, "max_streams_per_caller": 2, "max_open_streams": 16}
    behind = serve_gateway(stack, gateway=limits, upstream={"secret": SECRET})
    health: Any = health_pb2_grpc.HealthStub(behind.channel)
    asked = health_pb2.HealthCheckRequest(service="")
    strangers = [health.Watch(asked, timeout=20) for _ in range(2)]
    assert [next(stream).status for stream in strangers] == [1, 1]
    with pytest.raises(grpc.RpcError):
        next(health.Watch(asked, timeout=20))
    signer = Signer(SECRET, lambda: datetime.now(UTC))

    sent = ((HEADER, signer.token(THIS_GATEWAY)),)
    fronts = [health.Watch(asked, metadata=sent, timeout=20) for _ in range(4)]

    assert [next(stream).status for stream in fronts] == [1] * 4
    for stream in (*strangers, *fronts):
        stream.cancel()


def test_health_does_not_flicker_when_connections_grow_old(
    serve_gateway: Any, stack: ExitStack, published: Any, until: Any
) -> None:
    behind = serve_gateway(
        stack,
        gateway={"hosts": ["scoreboard"], "behind": True, "max_connection_seconds": 0.5,
                 "connection_grace_seconds": 0.1},
        flows={"lake": str(published.lake)},
        upstream={"secret": SECRET},
    )  # fmt: skip
    front = serve_gateway(stack, upstream={"scoreboard": behind.address, "secret": SECRET})
    health: Any = health_pb2_grpc.HealthStub(front.channel)
    told: list[int] = []
    stream = health.Watch(health_pb2.HealthCheckRequest(service=SCORES), timeout=60)
    listener = threading.Thread(target=lambda: collect(stream, told), daemon=True)
    listener.start()
    until(lambda: told and told[-1] == health_pb2.HealthCheckResponse.SERVING)
    steady = len(told)
    watches = behind.parts.watch.telemetry.calls.methods["/grpc.health.v1.Health/Watch"]

    def ended() -> int:
        return sum(sum(one.counts) for one in watches.ended.values())

    before = ended()
    until(lambda: ended() >= before + 4)

    assert told[steady:] == []
    stream.cancel()
    listener.join(5)


def collect(stream: Any, told: list[int]) -> None:
    try:
        for answer in stream:
            told.append(answer.status)  # noqa: PERF401 - the test reads it meanwhile
    except grpc.RpcError:
        return


def test_what_goes_to_a_process_behind_goes_through_no_proxy(
    gateway: Any, server_loop: Any, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    """gRPC takes the proxy of the environment even for loopback, and it would see the handover."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.setblocking(False)
        for name in ("http_proxy", "https_proxy", "grpc_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        signer = Signer(SECRET, lambda: datetime.now(UTC))
        upstream = server_loop.call(Upstream, gateway.address, UpstreamSettings(), signer)
        told: list[bool] = []
        watching = server_loop.call(asyncio.ensure_future, upstream.watch(SCORES, told.append))
        until(lambda: told)
        server_loop.call(watching.cancel)
        server_loop.run(upstream.close())

        assert told[0], "the process itself has answered"
        with pytest.raises(BlockingIOError):
            proxy.accept()
