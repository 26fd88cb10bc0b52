"""The page of metrics over HTTP: little is understood, nobody holds it up, a taken port waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from typing import Any

import httpx
import pytest

from gateway.telemetry import scrape
from gateway.telemetry.scrape import CONNECTIONS, Scrape


@pytest.fixture
def serve() -> Iterator[Callable[..., Scrape]]:
    with ExitStack() as stack:

        def start(text: bytes = b"a 1\n", port: int = 0) -> Scrape:
            made = Scrape(lambda: text, "127.0.0.1", port)
            stack.callback(made.close)
            return made

        yield start


def url(served: Scrape, path: str = "/metrics") -> str:
    return f"http://127.0.0.1:{served.port.result(10)}{path}"


@pytest.mark.parametrize("path", ["/metrics", "/tsfm/metrics", "/metrics?name=a"])
def test_the_page_is_at_two_paths(serve: Any, path: str) -> None:
    answer = httpx.get(url(serve(), path))
    assert (answer.status_code, answer.text) == (200, "a 1\n")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert answer.headers["connection"] == "close"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/debug", "//metrics"])
def test_nothing_else_is_there(serve: Any, path: str) -> None:
    assert httpx.get(url(serve(), path)).status_code == 404


@pytest.mark.parametrize("method", ["POST", "HEAD", "PUT", "DELETE", "OPTIONS", "GETS"])
def test_it_can_be_read_and_nothing_else(serve: Any, method: str) -> None:
    answer = httpx.request(method, url(serve()))
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET")


def connected(served: Scrape) -> socket.socket:
    return socket.create_connection(("127.0.0.1", served.port.result(10)), timeout=20)


@pytest.mark.parametrize("sent", [b"\0" * 40_000, b"GET /metrics HTTP/1.1\r\nA: " + b"x" * 40_000])
def test_what_is_no_request_or_too_long_ends_the_connection(serve: Any, sent: bytes) -> None:
    with closing(connected(serve())) as peer:
        got = b"unread"
        try:
            peer.sendall(sent)
            got = peer.recv(100)
        except (ConnectionResetError, BrokenPipeError):
            got = b""
        assert got == b""


def test_slow_peers_are_cut_off_and_give_their_places_back(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scrape, "ANSWER_SECONDS", 0.3)
    served = serve(b"x" * 30_000_000)
    with ExitStack() as stack:
        for _ in range(CONNECTIONS // 2):
            stack.enter_context(closing(connected(served))).sendall(b"GET /me")
            reader = stack.enter_context(closing(connected(served)))
            reader.sendall(b"GET /metrics HTTP/1.1\r\n\r\n")  # and reads nothing
        deadline = time.monotonic() + 10
        while True:
            try:
                assert httpx.get(url(served), timeout=10).status_code == 200
                break
            except httpx.TransportError:
                assert time.monotonic() < deadline, "slow peers hold the page for ever"


def test_more_connections_than_there_are_places_are_closed_at_once(serve: Any) -> None:
    served = serve()
    with ExitStack() as stack:
        for _ in range(CONNECTIONS):
            stack.enter_context(closing(connected(served))).sendall(b"GET")
        deadline = time.monotonic() + 10
        refused = b"?"
        while refused and time.monotonic() < deadline:
            one = stack.enter_context(closing(connected(served)))
            try:
                refused = one.recv(1)
            except ConnectionResetError:
                refused = b""
        assert refused == b""


def test_a_taken_port_is_taken_over_when_it_is_free(
    serve: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Any
) -> None:
    monkeypatch.setattr(scrape, "RETRY_SECONDS", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        served = serve(port=port)
        until(lambda: "no metrics on" in caplog.text)
        assert not served.port.done()
    assert httpx.get(url(served)).status_code == 200
    assert served.port.result() == port
    assert caplog.text.count("no metrics on") == 1


def test_a_port_that_never_becomes_free_holds_up_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        served = Scrape(lambda: b"", "127.0.0.1", holder.getsockname()[1])
        began = time.monotonic()
        served.close()
        assert time.monotonic() - began < 2


def test_a_gateway_shows_its_metrics_while_it_serves(serve_gateway: Any) -> None:
    with ExitStack() as stack:
        gateway = serve_gateway(stack, telemetry={"prometheus_port": 0})
        page = httpx.get(url(gateway.parts.watch.scrape)).text
        assert "marketcal_streams_open 0.0" in page
    with pytest.raises(httpx.ConnectError):
        httpx.get(url(gateway.parts.watch.scrape))


def test_the_end_hangs_up_on_a_peer_that_says_nothing(until: Any) -> None:
    served = Scrape(lambda: b"", "127.0.0.1", 0)
    with closing(connected(served)) as silent:
        until(lambda: len(served._open) == 1)
        began = time.monotonic()
        served.close()
        assert time.monotonic() - began < 1.4
        silent.settimeout(5)
        with suppress(ConnectionResetError):
            assert silent.recv(1) == b""
