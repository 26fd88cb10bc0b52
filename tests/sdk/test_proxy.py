"""What stays on this machine goes through no proxy: it would read the key and the answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from marketcal import channel
from marketcal.testing import FakeServer
from marketcal.v1 import market_pb2


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A proxy that the environment names for everything; nobody answers there."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        for name in ("grpc_proxy", "http_proxy", "https_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{listening.getsockname()[1]}")
        for name in ("no_proxy", "no_grpc_proxy"):
            monkeypatch.delenv(name, raising=False)
        yield listening


def test_calls_to_this_machine_go_past_the_proxy_of_the_environment(
    server: FakeServer, use: Any, proxy: socket.socket
) -> None:
    server.answer("GetMarket", market_pb2.GetMarketResponse(market={"market_id": "m"}))

    market = use(server, lambda client: client.get_market("m", timeout=5))

    assert market.market_id == "m"
    with pytest.raises(BlockingIOError):
        proxy.accept()


@pytest.mark.parametrize(
    ("address", "past_it"),
    [("127.0.0.1:1", True), ("unix:/run/a", True), ("gateway.example:1", False)],
)
def test_calls_beyond_this_machine_may_need_the_proxy(address: str, past_it: bool) -> None:
    chosen = dict(channel.options(address, False))

    assert (chosen.get("grpc.enable_http_proxy") == 0) is past_it
