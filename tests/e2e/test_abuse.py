"""Callers that mean harm: the gateway stays up for the others, in bounded memory."""

from __future__ import annotations

import json
import os
import resource
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import grpc
import psutil
import pytest

from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

READY_SECONDS = 60.0
HANDSHAKE_SECONDS = 2.0
MIB = 1 << 20
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = struct.pack(">HBBBI", 0, 0, 4, 0, 0)
"""An empty SETTINGS frame (RFC 9113, 6.5)."""


@dataclass
class Served:
    """A gateway in a process of its own."""

    pid: int
    port: int
    key: str

    @property
    def memory(self) -> float:
        """Resident memory, MiB."""
        return psutil.Process(self.pid).memory_info().rss / MIB

    def channel(self, **options: Any) -> grpc.Channel:
        """A connection of its own."""
        own = {"grpc.use_local_subchannel_pool": 1, "grpc.enable_retries": 0,
               "grpc.max_send_message_length": -1, **options}  # fmt: skip
        return grpc.insecure_channel(f"127.0.0.1:{self.port}", options=list(own.items()))

    def ask(self, channel: grpc.Channel, *, timeout: float = 5.0) -> int:
        """Models that the gateway lists for a caller that behaves."""
        stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
        metadata = (("authorization", f"Bearer {self.key}"),)
        return len(
            stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=timeout).models
        )


def wait_for(condition: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("abuse")
    environment = {name: value for name, value in os.environ.items() if "MARKETCAL_" not in name}
    environment |= {
        "MARKETCAL_FORECAST__IN_PROCESS": "always",
        "MARKETCAL_GATEWAY__HANDSHAKE_SECONDS": str(HANDSHAKE_SECONDS),
    }
    marketcal = [sys.executable, "-m", "gateway.cli.main"]
    made = subprocess.run(
        [*marketcal, "keys", "create", "--role", "forecaster"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    ready = folder / "gateway.ready"
    process = subprocess.Popen(
        [*marketcal, "serve", "gateway", "--port", "0", "--ready-file", ready],
        cwd=folder, env=environment,
    )  # fmt: skip
    try:
        wait_for(ready.exists)
        port = int(json.loads(ready.read_text())["address"].rpartition(":")[2])
        yield Served(process.pid, port, made.stdout.strip())
        assert process.poll() is None, "the gateway has ended"
    finally:
        process.terminate()
        process.wait(30)


def test_a_compression_bomb_is_refused_before_it_unfolds(served: Served) -> None:
    bomb = bytes(400 * MIB)  # a thousandth of that on the way
    with served.channel() as channel, served.channel() as other:
        served.ask(other)
        before = served.memory
        send = channel.unary_unary(
            "/marketcal.v1.ForecastService/Forecast", request_serializer=None
        )
        with pytest.raises(grpc.RpcError) as caught:
            send(bomb, compression=grpc.Compression.Gzip, timeout=60,
                 metadata=(("authorization", f"Bearer {served.key}"),))  # fmt: skip

        error: Any = caught.value
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNIMPLEMENTED)
        assert served.memory - before < 100
        assert served.ask(other) > 0


def test_strangers_cannot_make_the_gateway_hold_their_requests(served: Served) -> None:
    large = bytes(15 * MIB)
    with served.channel() as channel, served.channel() as other:
        served.ask(other)
        before = served.memory
        send = channel.unary_unary("/marketcal.v1.ForecastService/Forecast")
        pending = [send.future(large, timeout=60) for _ in range(30)]
        codes = {call.code() for call in pending}

        assert codes == {grpc.StatusCode.UNAUTHENTICATED}
        assert served.memory - before < 100  # of 450 MiB that were offered
        assert served.ask(other) > 0


def test_huge_metadata_is_refused_and_the_connections_of_others_go_on(served: Served) -> None:
    with served.channel() as channel, served.channel() as other:
        assert served.ask(other) > 0
        stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
        for size in (20_000, 200_000, 4_000_000):
            with pytest.raises(grpc.RpcError) as caught:
                stub.ListModels(
                    pb.ListModelsRequest(), metadata=(("x-huge", "a" * size),), timeout=20
                )
            error: Any = caught.value
            assert error.code() in (
                grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.INTERNAL,  # the client's own words for a reset connection
            )  # fmt: skip
            assert served.ask(other) > 0


def test_connections_that_never_say_what_they_speak_are_closed(served: Served) -> None:
    with ExitStack() as stack, served.channel() as other:
        silent = [dial(served, stack) for _ in range(100)]
        for number, connection in enumerate(silent):
            connection.sendall(PREFACE[: number % len(PREFACE)])  # some begin, and then stop
        assert served.ask(other) > 0

        closed = [is_closed(connection, HANDSHAKE_SECONDS + 20) for connection in silent]

    assert all(closed)


@pytest.mark.parametrize(
    "connections", [1_000, pytest.param(10_000, marks=pytest.mark.soak)], ids=str
)
def test_idle_connections_cost_little_and_others_are_served(
    connections: int, served: Served
) -> None:
    allow_files(2 * connections)
    with ExitStack() as stack, served.channel() as other:
        served.ask(other)
        before = served.memory
        for _ in range(connections):
            connection = dial(served, stack)
            connection.sendall(PREFACE + SETTINGS)
            assert connection.recv(9), "the gateway did not answer with its settings"
        each = (served.memory - before) * 1024 / connections
        waits = []
        for _ in range(200):
            began = time.perf_counter()
            assert served.ask(other) > 0
            waits.append(time.perf_counter() - began)

    print(f"{connections:,} idle connections: {each:.0f} KiB each, "
          f"p50 {1e3 * sorted(waits)[100]:.2f} ms beside them")  # fmt: skip
    assert each < 128
    assert sorted(waits)[100] < 0.1


def dial(served: Served, stack: ExitStack) -> socket.socket:
    """A connection without a client."""
    connection = socket.create_connection(("127.0.0.1", served.port), timeout=20)
    return stack.enter_context(closing(connection))


def is_closed(connection: socket.socket, seconds: float) -> bool:
    """Whether the other side ends the connection within ``seconds``."""
    connection.settimeout(seconds)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


def allow_files(most: int) -> None:
    """Lets this process open so many files, or skips where the system does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < most:
        pytest.skip(f"the system allows {hard} open files")
    if soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
