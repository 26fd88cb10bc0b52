"""Streams go on by themselves: nothing is lost, nothing comes twice, and they know when to end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketcal import Backoff, errors
from marketcal.testing import FakeServer, resumable
from marketcal.v1 import alert_pb2, forecast_pb2
from marketcal.watching import Watching

LONG = 10.0
"""Seconds within which a watch of these tests has ended, or goes round in a circle."""


def alerts(count: int) -> list[alert_pb2.WatchAlertsResponse]:
    return [
        alert_pb2.WatchAlertsResponse(alert=alert_pb2.Alert(alert_id=f"a{number}"))
        for number in range(count)
    ]


def ids(messages: list[alert_pb2.WatchAlertsResponse]) -> list[str]:
    return [message.alert.alert_id for message in messages]


def test_a_watch_goes_on_behind_the_last_message(server: FakeServer, use: Any) -> None:
    server.answer("WatchAlerts", resumable(alerts(40), lose_after=7))
    found = use(server, lambda client: client.watch_alerts(market_ids=["m"], timeout=LONG))
    assert ids(found) == [f"a{number}" for number in range(40)]
    asked = server.requests("WatchAlerts")
    assert [request.resume_token for request in asked] == ["", "7", "14", "21", "28", "35"]
    assert all(list(request.market_ids) == ["m"] for request in asked)


def test_a_watch_survives_a_cut_connection(server: FakeServer, use: Any, cutter: Any) -> None:
    sent = resumable(alerts(30))

    def cut_sometimes(request: Any) -> Any:
        for place, message in enumerate(sent(request)):
            if place == 8:  # the messages before may or may not have come through
                cutter.cut()
            yield message

    server.answer("WatchAlerts", cut_sometimes)
    server.address = cutter.in_front_of(server.address)
    found = use(server, lambda client: client.watch_alerts(timeout=LONG))
    assert ids(found) == [f"a{number}" for number in range(30)]
    assert len(server.calls) >= 4


def test_a_caller_goes_on_from_a_token_of_another_process(server: FakeServer, use: Any) -> None:
    server.answer("WatchAlerts", resumable(alerts(5)))
    assert ids(use(server, lambda client: client.watch_alerts(resume_token="3"))) == ["a3", "a4"]


def test_a_message_with_a_token_alone_is_a_place_to_resume_from(
    server: FakeServer, use: Any
) -> None:
    """So nothing raised between the opening and the first loss is lost."""
    here = alert_pb2.WatchAlertsResponse(resume_token="now")
    server.answer("WatchAlerts", [here, errors.Draining("bye")], alerts(1))
    assert ids(use(server, lambda client: client.watch_alerts())) == ["a0"]
    assert [asked.resume_token for asked in server.requests("WatchAlerts")] == ["", "now"]


@pytest.mark.parametrize("method", ["watch_alerts", "watch_forecast"])
def test_a_refusal_ends_a_watch_with_its_class(method: str, server: FakeServer, use: Any) -> None:
    refused = errors.ScopeMissing("may not", metadata={"required_scope": "alert.read"})
    server.answer("WatchAlerts", refused)
    server.answer("WatchForecast", refused)
    market = ["m"] if method == "watch_forecast" else []
    with pytest.raises(errors.ScopeMissing):
        use(server, lambda client: getattr(client, method)(*market))
    assert len(server.calls) == 1


def test_bands_go_on_after_a_loss(server: FakeServer, use: Any) -> None:
    bars = [
        forecast_pb2.WatchForecastResponse(forecast=forecast_pb2.ForecastResponse(freq=freq))
        for freq in ("1m", "2m")
    ]
    server.answer("WatchForecast", [bars[0], errors.Draining("bye")], [bars[1]])
    found = use(server, lambda client: client.watch_forecast("m", horizon_steps=3, model="ewma"))
    assert [message.forecast.freq for message in found] == ["1m", "2m"]
    request = server.requests("WatchForecast")[1]
    assert (request.market_id, request.horizon_steps, request.model.name) == ("m", 3, "ewma")


def test_a_watch_gives_up_after_as_many_failures_in_a_row_as_it_was_told(
    server: FakeServer, use: Any
) -> None:
    server.answer("WatchAlerts", errors.Draining("bye"))
    backoff = Backoff(initial_seconds=0.001, attempts=3)
    with pytest.raises(errors.Draining):
        use(server, lambda client: client.watch_alerts(), backoff=backoff)
    assert len(server.calls) == 3


def test_a_watch_ends_with_the_time_that_it_was_given(
    server: FakeServer, use: Any, until: Any
) -> None:
    gone = []

    def quiet(request: Any) -> Any:
        until(lambda: bool(gone))
        return iter(())

    server.answer("WatchAlerts", quiet)
    with pytest.raises(errors.OutOfTime):
        use(server, lambda client: client.watch_alerts(timeout=0.2))
    gone.append(True)


def test_closing_the_client_ends_a_watch(server: FakeServer, until: Any) -> None:
    gone: list[bool] = []

    def one_and_then_silence(request: Any) -> Any:
        yield alerts(1)[0]
        until(lambda: bool(gone))

    server.answer("WatchAlerts", one_and_then_silence)
    client = server.client()
    watch = client.watch_alerts()
    assert next(watch).alert.alert_id == "a0"
    client.close()
    with pytest.raises(errors.CallCancelled):
        next(watch)
    gone.append(True)
    assert len(server.calls) == 1


async def test_a_cancelled_reader_leaves_its_watch(server: FakeServer, until: Any) -> None:
    gone: list[bool] = []

    def silence(request: Any) -> Any:
        until(lambda: bool(gone))
        return iter(())

    server.answer("WatchAlerts", silence)
    async with server.async_client() as client:
        reading = asyncio.ensure_future(anext(client.watch_alerts()))
        await asyncio.to_thread(until, lambda: bool(server.calls))
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    gone.append(True)
    assert len(server.calls) == 1


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def watching(timeout: float | None = None, **backoff: Any) -> tuple[Watching, Clock]:
    clock = Clock()
    chosen = Backoff(draw=lambda: 1.0, **backoff)
    return Watching(alert_pb2.WatchAlertsRequest(), chosen, timeout, now=clock), clock


def test_waits_double_until_something_comes() -> None:
    state, _ = watching(initial_seconds=1.0, max_seconds=5.0)
    lost = errors.Unavailable("lost")
    assert [state.delay_after(lost) for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    state.received(alerts(1)[0])
    assert state.delay_after(lost) == 1.0


def test_the_server_may_ask_for_a_longer_wait_and_none_goes_beyond_the_end() -> None:
    state, clock = watching(timeout=60.0, initial_seconds=1.0)
    assert state.delay_after(errors.RateLimited("used up", retry_after=20.0)) == 20.0
    clock.seconds += 50.0
    assert state.remaining() == 10.0
    assert state.delay_after(errors.RateLimited("used up", retry_after=20.0)) is None


def test_the_longest_stream_that_a_server_grants_is_no_end_for_one_without_a_limit() -> None:
    assert watching()[0].delay_after(errors.OutOfTime("a day")) is not None
    state, clock = watching(timeout=9.0)
    assert state.delay_after(errors.OutOfTime("the server's own, after one second")) is not None
    clock.seconds += 9.0
    assert state.delay_after(errors.OutOfTime("the caller's")) is None


@pytest.mark.parametrize(
    "error",
    [errors.TooManyFailedCredentials("x", retry_after=1.0), errors.InternalError("x"),
     errors.CallCancelled("x"), errors.InvalidArgument("x")],
)  # fmt: skip
def test_what_waiting_cannot_help_is_the_end(error: errors.MarketcalError) -> None:
    assert watching()[0].delay_after(error) is None


@pytest.mark.parametrize("code", ["INTERNAL", "UNKNOWN", "CANCELLED"])
def test_what_a_proxy_or_the_transport_says_of_a_lost_server_is_not_the_end(code: str) -> None:
    lost = errors.MarketcalError("RST_STREAM")
    lost.code = code
    assert watching()[0].delay_after(lost) is None
    lost.by_transport = True
    assert watching()[0].delay_after(lost) is not None


@pytest.mark.parametrize("code", [grpc.StatusCode.INTERNAL, grpc.StatusCode.CANCELLED])
def test_a_stream_that_ends_without_our_details_goes_on(
    code: grpc.StatusCode, serve_raw: Any, use: Any
) -> None:
    connections = []

    def stream(request: Any, context: Any) -> Any:
        connections.append(request)
        yield alert_pb2.WatchAlertsResponse(alert={"alert_id": "a"}, resume_token="1")
        if len(connections) == 1:
            context.abort(code, "gone")

    server = serve_raw(stream)
    found = use(server, lambda client: client.watch_alerts(timeout=LONG))
    assert ids(found) == ["a", "a"]
    assert [request.resume_token for request in connections] == ["", "1"]


def test_what_cannot_be_read_is_no_lost_connection(serve_raw: Any, use: Any) -> None:
    """Asking again would bring the same, without an end."""
    connections = []

    def stream(request: Any, context: Any) -> Any:
        connections.append(request)
        yield b"\xff\xff"

    with pytest.raises(errors.InternalError, match="cannot be read"):
        use(serve_raw(stream), lambda client: client.watch_alerts(timeout=LONG))
    assert len(connections) == 1


@pytest.fixture
def serve_raw(server: FakeServer) -> Iterator[Any]:
    """A server whose WatchAlerts is a bare gRPC function: its errors have no details of ours."""
    started: list[Any] = []

    def serve(stream: Any) -> Any:
        bare = grpc.server(ThreadPoolExecutor(4))
        handler = grpc.unary_stream_rpc_method_handler(
            stream,
            alert_pb2.WatchAlertsRequest.FromString,
            lambda sent: sent if isinstance(sent, bytes) else sent.SerializeToString(),
        )
        service = grpc.method_handlers_generic_handler(
            "marketcal.v1.AlertService", {"WatchAlerts": handler}
        )
        bare.add_generic_rpc_handlers((service,))
        server.address = f"127.0.0.1:{bare.add_insecure_port('127.0.0.1:0')}"
        bare.start()
        started.append(bare)
        return server

    yield serve
    for bare in started:
        bare.stop(None).wait(5)


def test_a_client_that_is_closed_between_two_attempts_ends_its_watch(server: FakeServer) -> None:
    server.answer("WatchAlerts", errors.Draining("bye"))
    client = server.client(backoff=Backoff(initial_seconds=0.2))
    closing = threading.Timer(0.05, client.close)
    closing.start()
    with pytest.raises(errors.CallCancelled):
        next(client.watch_alerts())
    closing.join()


@given(failures=st.integers(1, 10_000), draw=st.floats(0, 1, exclude_max=True))
def test_chance_spreads_waits_over_half_of_their_length(failures: int, draw: float) -> None:
    backoff = Backoff(initial_seconds=0.2, max_seconds=30.0, draw=lambda: draw)
    longest = min(30.0, 0.2 * 2.0 ** min(failures - 1, 60))
    assert longest / 2 <= backoff.seconds(failures) <= longest


@pytest.mark.parametrize(
    "wrong", [{"initial_seconds": 0.0}, {"initial_seconds": 31.0}, {"attempts": 0}]
)
def test_a_backoff_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Backoff(**wrong)
