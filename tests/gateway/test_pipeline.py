"""The rules around a handler, with handlers that wait, fail and talk."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest

from gateway.call import Call
from gateway.contract import read_methods
from gateway.deadlines import Deadlines
from gateway.gcra import Limiter
from gateway.interceptors.concurrency import Work
from gateway.interceptors.ratelimit import RateLimit
from gateway.interceptors.request_id import assign_request_id
from gateway.interceptors.streams import OpenStreams
from gateway.interceptors.telemetry import Telemetry
from gateway.pipeline import Pipeline, Sizes
from gateway.server import Gateway
from gateway.settings import load
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

MODELS = pb.ListModelsRequest()


class Panic(BaseException):
    """What a Rust extension raises when it panics: no Exception."""


@dataclass
class Service(forecast_pb2_grpc.ForecastServiceServicer):
    """Handlers that do what a test tells them to."""

    began: asyncio.Event = field(default_factory=asyncio.Event)
    may_end: asyncio.Event = field(default_factory=asyncio.Event)
    granted: list[float] = field(default_factory=list)
    peers: set[str] = field(default_factory=set)

    async def ListModels(self, request: Any, call: Any) -> pb.ListModelsResponse:  # noqa: N802
        """Ends when the test lets it."""
        self.granted.append(call.time_remaining())
        self.peers.add(call.context.peer())
        self.began.set()
        await self.may_end.wait()
        return pb.ListModelsResponse(next_page_token="done")

    async def GetModel(self, request: Any, call: Any) -> pb.GetModelResponse:  # noqa: N802
        """Fails in a way that nobody foresaw."""
        raise ZeroDivisionError(f"secret of {__file__}")

    async def BatchForecast(self, request: Any, call: Any) -> Any:  # noqa: N802
        """Fails like a Rust extension."""
        raise Panic(f"secret of {__file__}")

    async def WatchForecast(self, request: Any, call: Any) -> AsyncIterator[Any]:  # noqa: N802
        """One message, then a failure that nobody foresaw; or nothing more, without an end."""
        yield pb.WatchForecastResponse()
        if request.market_id == "endless":
            await asyncio.Event().wait()
        raise ZeroDivisionError(f"secret of {__file__}")

    async def Forecast(self, request: Any, call: Any) -> pb.ForecastResponse:  # noqa: N802
        """More than may be sent."""
        return pb.ForecastResponse(market_id="m" * 5_000)


@dataclass
class Served:
    """A gateway of `Service` alone."""

    port: int
    gateway: Gateway
    service: Service
    stub: Any
    loop: Any


@pytest.fixture
def serve(server_loop: Any, open_channel: Any) -> Iterator[Callable[..., Served]]:
    """Serves `Service` behind a pipeline with the given limits."""
    with ExitStack() as stack:

        def start(*, in_flight: int = 8, **given: float) -> Served:
            settings = load({"gateway": {"port": 0, "drain_seconds": 5.0} | given}).gateway
            pipeline = Pipeline(
                telemetry=Telemetry(),
                admissions=(),
                rate_limit=RateLimit(Limiter(time.monotonic)),
                checks=(),
                audit=lambda _call: nullcontext(),
                work=Work(least=in_flight, most=in_flight, max_wait=0.025, clock=time.monotonic),
                streams=OpenStreams(8, 8),
                deadlines=Deadlines(),
                sizes=Sizes(1 << 20, 4_096),
                clock=time.monotonic,
            )
            service = server_loop.call(Service)
            add = forecast_pb2_grpc.add_ForecastServiceServicer_to_server
            gateway = server_loop.call(
                Gateway, settings, pipeline, read_methods(), [(add, service)]
            )
            port = server_loop.run(gateway.start())
            stack.callback(lambda: server_loop.run(gateway.drain()))
            stack.callback(lambda: server_loop.call(service.may_end.set))
            channel = stack.enter_context(open_channel(f"127.0.0.1:{port}"))
            stub = forecast_pb2_grpc.ForecastServiceStub(channel)
            return Served(port, gateway, service, stub, server_loop)

        yield start


def test_an_unforeseen_error_says_a_fixed_sentence_and_the_request_id(
    serve: Callable[..., Served], refused: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stub = serve().stub
    with caplog.at_level(logging.ERROR, "gateway.errors"):
        refusal = refused(stub.GetModel, pb.GetModelRequest(name="x"))

    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert refusal.message == "something unforeseen happened; quote the request id"
    seen = repr(refusal)
    for leak in ("ZeroDivision", "secret", __file__, "Traceback", ".py"):
        assert leak not in seen
    logged = [record for record in caplog.records if record.exc_info]
    assert logged[0].__dict__["request_id"] == refusal.details["RequestInfo"].request_id
    assert refusal.trailers["x-request-id"] == refusal.details["RequestInfo"].request_id


def test_a_panic_of_an_extension_is_an_unforeseen_error_too(
    serve: Callable[..., Served], refused: Any
) -> None:
    refusal = refused(serve().stub.BatchForecast, pb.BatchForecastRequest(), timeout=1)

    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "secret" not in repr(refusal)


def test_an_unforeseen_error_within_a_stream_leaks_nothing_either(
    serve: Callable[..., Served], refused: Any, caplog: pytest.LogCaptureFixture
) -> None:
    stub = serve().stub
    with caplog.at_level(logging.CRITICAL, "gateway.errors"):
        refusal = refused(
            lambda request, **named: list(stub.WatchForecast(request, **named)),
            pb.WatchForecastRequest(market_id="m"),
        )

    assert (refusal.code, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "secret" not in repr(refusal)


def test_the_callers_request_id_comes_back_where_it_is_harmless(
    serve: Callable[..., Served], refused: Any
) -> None:
    stub = serve().stub
    request = pb.GetModelRequest(name="x")

    refusal = refused(stub.GetModel, request, (("x-request-id", "abc-1.2_Z"),))

    assert refusal.trailers["x-request-id"] == "abc-1.2_Z"


@pytest.mark.parametrize("sent", ["", "a" * 65, "a b", "id; drop", "<script>", "a%0d%0ab"])
def test_another_request_id_is_replaced(
    sent: str, serve: Callable[..., Served], refused: Any
) -> None:
    refusal = refused(
        serve().stub.GetModel, pb.GetModelRequest(name="x"), (("x-request-id", sent),)
    )

    assert refusal.trailers["x-request-id"] != sent
    assert len(str(refusal.trailers["x-request-id"])) == 32


@pytest.mark.parametrize("sent", ["a\nb", "a\r\nx-admin: 1", "id\n", b"bytes"])
def test_a_request_id_cannot_carry_a_line_break(sent: str | bytes) -> None:
    context: Any = None
    call = Call(next(iter(read_methods().values())), context, {"x-request-id": sent}, 0.0)

    assign_request_id(call)

    assert call.request_id != sent
    assert call.trailers == [("x-request-id", call.request_id)]


def test_a_call_above_what_may_be_under_way_is_told_to_come_back(
    serve: Callable[..., Served], refused: Any, until: Any
) -> None:
    served = serve(in_flight=1)
    held = [served.stub.ListModels.future(MODELS, timeout=20) for _ in range(2)]  # two always may
    until(lambda: len(served.service.granted) == 2)

    refusal = refused(served.stub.ListModels, MODELS)

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "OVERLOADED")
    assert refusal.details["RetryInfo"].retry_delay.ToTimedelta().total_seconds() == 0.1
    assert refusal.trailers["grpc-retry-pushback-ms"] == "100"
    assert refusal.trailers["retry-after"] == "1"
    served.loop.call(served.service.may_end.set)
    assert [call.result().next_page_token for call in held] == ["done", "done"]
    assert served.stub.ListModels(MODELS, timeout=20).next_page_token == "done"


def test_an_answer_above_the_limit_is_not_sent(serve: Callable[..., Served], refused: Any) -> None:
    refusal = refused(serve().stub.Forecast, pb.ForecastRequest(market_id="m", values=[0.5, 0.5]))

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert refusal.details["ErrorInfo"].metadata["limit"] == "response_bytes"


def test_a_deadline_is_cut_to_what_the_contract_grants(serve: Callable[..., Served]) -> None:
    served = serve()
    served.loop.call(served.service.may_end.set)

    served.stub.ListModels(MODELS, timeout=3_600)
    served.stub.ListModels(MODELS)
    served.stub.ListModels(MODELS, timeout=2)

    unbounded, absent, short = served.service.granted
    assert 4.0 < unbounded <= 5.0
    assert 4.0 < absent <= 5.0
    assert 1.0 < short < 3.0


def test_a_call_that_does_not_end_in_time_is_out_of_time(
    serve: Callable[..., Served], refused: Any, until: Any
) -> None:
    served = serve(in_flight=1)

    refusal = refused(served.stub.ListModels, MODELS, timeout=0.05)

    assert refusal.code == "DEADLINE_EXCEEDED"
    served.loop.call(served.service.may_end.set)

    def answers_again() -> bool:
        try:
            return bool(served.stub.ListModels(MODELS, timeout=20).next_page_token)
        except grpc.RpcError:
            return False

    until(answers_again)


def test_a_call_in_flight_is_completed_by_the_drain(serve: Callable[..., Served]) -> None:
    served = serve()
    first = served.stub.ListModels.future(MODELS, timeout=20)
    served.loop.run(served.service.began.wait())

    async def drain_while_it_ends() -> None:
        draining = asyncio.create_task(served.gateway.drain())
        await asyncio.sleep(0)
        served.service.may_end.set()
        await draining

    served.loop.run(drain_while_it_ends())

    assert first.result().next_page_token == "done"


def test_the_drain_sends_streams_elsewhere_at_once(
    serve: Callable[..., Served], read_refusal: Any
) -> None:
    served = serve(drain_seconds=30.0)
    watched = served.stub.WatchForecast(pb.WatchForecastRequest(market_id="endless"), timeout=20)
    next(watched)

    served.loop.run(served.gateway.drain())  # it waits 20 s at most, the stream would last longer

    with pytest.raises(grpc.RpcError) as caught:
        next(watched)
    refusal = read_refusal(caught.value)
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")
    assert "RetryInfo" in refusal.details


def test_calls_go_on_when_their_connection_has_reached_its_age(
    serve: Callable[..., Served], server_loop: Any
) -> None:
    served = serve(max_connection_seconds=0.2)
    server_loop.call(served.service.may_end.set)
    began, calls = time.monotonic(), 0

    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:  # as gRPC makes it
        stub = forecast_pb2_grpc.ForecastServiceStub(channel)
        while time.monotonic() - began < 1.5:
            assert stub.ListModels(MODELS, timeout=20).next_page_token == "done"
            calls += 1

    assert len(served.service.peers) > 2, "the server has closed no connection"
    assert calls > 100


def test_the_drain_ends_calls_that_outlast_it(serve: Callable[..., Served], refused: Any) -> None:
    served = serve(drain_seconds=0.05)
    first = served.stub.ListModels.future(MODELS, timeout=20)
    served.loop.run(served.service.began.wait())

    served.loop.run(served.gateway.drain())

    assert refused(lambda *_, **__: first.result(), MODELS).code in ("UNAVAILABLE", "CANCELLED")
