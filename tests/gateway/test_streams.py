"""Streams end with a status wherever they wait, and requests are read from known callers alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import grpc
import pytest

from gateway.call import Call, Identity
from gateway.contract import read_methods
from gateway.deadlines import Deadlines
from gateway.gcra import Limiter
from gateway.interceptors.concurrency import Work
from gateway.interceptors.errors import as_refusal
from gateway.interceptors.ratelimit import RateLimit
from gateway.interceptors.streams import OpenStreams
from gateway.interceptors.telemetry import Telemetry
from gateway.pipeline import Pipeline, Sizes
from gateway.server import Gateway
from gateway.settings import load
from marketcal.errors import CredentialMissing, Overloaded
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

WATCH = "/marketcal.v1.ForecastService/WatchForecast"
ASKED = pb.WatchForecastRequest(market_id="m")
FULL = pb.WatchForecastResponse(forecast=pb.ForecastResponse(market_id="x" * 200_000))


@dataclass
class Service(forecast_pb2_grpc.ForecastServiceServicer):
    """Sends large messages without an end, and takes its time when it is told to end."""

    tidy_seconds: float = 0.0
    tidying: asyncio.Event = field(default_factory=asyncio.Event)

    async def WatchForecast(self, request: Any, call: Any) -> AsyncIterator[Any]:  # noqa: N802
        """More than a reader who pauses can take."""
        try:
            while True:
                yield FULL
                await asyncio.sleep(0)
        finally:
            self.tidying.set()
            await asyncio.sleep(self.tidy_seconds)


@dataclass
class Served:
    """A gateway of `Service` alone, without keys: ``x-caller`` says who calls."""

    gateway: Gateway
    service: Service
    port: int


def admit(call: Call) -> None:
    caller = call.metadata.get("x-caller")
    if caller is None:
        raise CredentialMissing("say who you are")
    call.identity = Identity(str(caller), "viewer", frozenset(), 600, 100)


@pytest.fixture
def serve(server_loop: Any) -> Iterator[Callable[..., Served]]:
    with ExitStack() as stack:

        def start(*, watch_seconds: float = 60.0, tidy_seconds: float = 0.0) -> Served:
            settings = load({"gateway": {"port": 0, "drain_seconds": 8.0}}).gateway
            pipeline = Pipeline(
                telemetry=Telemetry(),
                admissions=(admit,),
                rate_limit=RateLimit(Limiter(time.monotonic)),
                checks=(),
                audit=lambda _call: nullcontext(),
                work=Work(least=8, most=8, max_wait=0.025, clock=time.monotonic),
                streams=OpenStreams(8, 4),
                deadlines=Deadlines(),
                sizes=Sizes(8 << 20, 4 << 20),
                clock=time.monotonic,
            )
            methods = read_methods()
            methods[WATCH] = replace(methods[WATCH], max_deadline=watch_seconds)
            service = server_loop.call(Service, tidy_seconds)
            add = forecast_pb2_grpc.add_ForecastServiceServicer_to_server
            gateway = server_loop.call(Gateway, settings, pipeline, methods, [(add, service)])
            port = server_loop.run(gateway.start())
            stack.callback(lambda: server_loop.run(gateway.drain()))
            return Served(gateway, service, port)

        yield start


def watch(port: int, stack: ExitStack, caller: str = "a") -> Any:
    options = [("grpc.use_local_subchannel_pool", 1)]
    channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}", options=options))
    stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
    stream = stub.WatchForecast(ASKED, metadata=(("x-caller", caller),), timeout=20)
    next(stream)
    return stream


def end_of(stream: Any) -> Any:
    """How a stream ended, after all that was on its way."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    return caught.value


def test_a_stream_that_waits_for_its_reader_hears_of_the_drain_in_full(
    serve: Callable[..., Served], server_loop: Any, read_refusal: Any
) -> None:
    served = serve()
    with ExitStack() as stack:
        stream = watch(served.port, stack)  # read no further: the server waits in a write
        draining = asyncio.run_coroutine_threadsafe(served.gateway.drain(), server_loop.loop)
        began = time.monotonic()
        refusal = read_refusal(end_of(stream))
        draining.result(20)

    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "DRAINING")
    assert "RetryInfo" in refusal.details
    assert time.monotonic() - began < 5  # it is over before the time for draining is


def test_a_stream_that_waits_for_its_reader_ends_with_its_time(
    serve: Callable[..., Served], read_refusal: Any
) -> None:
    served = serve(watch_seconds=0.5)
    with ExitStack() as stack:
        refusal = read_refusal(end_of(watch(served.port, stack)))

    assert (refusal.code, refusal.reason) == ("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED")


def test_a_stream_that_is_ending_when_the_drain_begins_does_not_stop_it(
    serve: Callable[..., Served], server_loop: Any
) -> None:
    served = serve(watch_seconds=0.3, tidy_seconds=0.6)
    with ExitStack() as stack:
        stream = watch(served.port, stack)
        server_loop.run(served.service.tidying.wait())

        server_loop.run(served.gateway.drain())

        assert end_of(stream).code() in (
            grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE,
        )  # fmt: skip


def test_streams_of_a_credential_that_has_ended_end(
    serve: Callable[..., Served], server_loop: Any, read_refusal: Any
) -> None:
    served = serve()
    with ExitStack() as stack:
        revoked, other = (watch(served.port, stack, caller) for caller in ("a", "b"))

        server_loop.call(served.gateway.end_streams_of, lambda name: name == "a")

        refusal = read_refusal(end_of(revoked))
        assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_REVOKED")
        assert next(other).forecast.market_id == FULL.forecast.market_id


def test_a_strangers_request_is_refused_before_it_is_sent(serve: Callable[..., Served]) -> None:
    """The request never ends: a server that reads it first would never answer."""
    served = serve()
    never = asyncio.Event()

    async def requests() -> AsyncIterator[bytes]:
        await never.wait()
        yield b""

    async def ask() -> Any:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{served.port}") as channel:
            call = channel.stream_unary("/marketcal.v1.ForecastService/Forecast")
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await call(requests(), timeout=10)
            return caught.value.code()

    assert asyncio.run(ask()) is grpc.StatusCode.UNAUTHENTICATED


def test_a_call_without_a_request_is_refused(serve: Callable[..., Served]) -> None:
    served = serve()
    with grpc.insecure_channel(f"127.0.0.1:{served.port}") as channel:
        call = channel.stream_unary("/marketcal.v1.ForecastService/Forecast")
        with pytest.raises(grpc.RpcError) as caught:
            call(iter(()), metadata=(("x-caller", "a"),), timeout=10)
    error: Any = caught.value
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_for_a_caller_who_has_gone_is_no_fault_of_the_server(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """gRPC says so with an error of its own, where it comes before the cancellation."""
    context: Any = None
    call = Call(read_methods()[WATCH], context, {}, 0.0)
    assert as_refusal(grpc.aio.InternalError("execute_batch"), call).code == "CANCELLED"
    assert caplog.text == ""
    assert as_refusal(RuntimeError("of the handler"), call).code == "INTERNAL"
    assert "unforeseen" in caplog.text


def test_streams_that_need_no_key_do_not_take_the_room_of_those_that_do() -> None:
    methods = read_methods()
    context: Any = None
    known = Call(methods[WATCH], context, {}, 0.0, identity=Identity("k", "v", frozenset(), 1, 1))
    streams = OpenStreams(16, 4)

    def stranger(number: int) -> Call:
        call = Call(replace(methods[WATCH], scope=None), context, {}, 0.0)
        call.identity = Identity(f"stranger {number}", "", frozenset(), 1, 1)
        return call

    with ExitStack() as stack:
        for number in range(2):
            stack.enter_context(streams.hold(stranger(number)))
        with pytest.raises(Overloaded):
            stack.enter_context(streams.hold(stranger(2)))
        stack.enter_context(streams.hold(known))
        assert streams.count == 3
