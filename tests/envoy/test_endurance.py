"""Slow and greedy callers are cut off (minutes: `make soak`)."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

HEAD = b"POST /v1/forecasts HTTP/1.1\r\nhost: front\r\ncontent-type: application/json\r\n"


def seconds_until_closed(port: int, sent: bytes, most: float) -> tuple[float, bytes]:
    """How long a connection lives that has sent ``sent``, and what it was answered."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=most) as connection:
        connection.sendall(sent)
        answer = b""
        while piece := connection.recv(65_536):
            answer += piece
    return time.monotonic() - began, answer


@pytest.mark.soak
def test_headers_that_never_end_are_cut_off(front: Any) -> None:
    seconds, answer = seconds_until_closed(front.port, HEAD, 30)
    print(f"headers: {seconds:.1f} s")
    assert 8 < seconds < 15
    assert b" 408 " in answer.partition(b"\r\n")[0]


@pytest.mark.soak
def test_a_body_that_never_ends_is_cut_off(front: Any) -> None:
    begun = HEAD + b"content-length: 1000\r\n\r\n{"
    seconds, answer = seconds_until_closed(front.port, begun, 90)
    print(f"body: {seconds:.1f} s")
    assert 55 < seconds < 70
    assert b" 408 " in answer.partition(b"\r\n")[0]


def resident_mib(pid: int) -> float:
    """Memory of a process."""
    line = next(
        one for one in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in one
    )
    return int(line.split()[1]) / 1024


@pytest.mark.soak
def test_bodies_that_wait_do_not_fill_the_memory(
    start_envoy: Any, gateway: Any, as_viewer: Any, until: Any
) -> None:
    def small(text: str) -> str:
        return text.replace("max_heap_size_bytes: 1073741824", "max_heap_size_bytes: 209715200")

    chunk = b" " * (1 << 20)
    with ExitStack() as stack:
        front = start_envoy(stack, gateway.port, small)
        senders = stack.enter_context(ExitStack())
        largest = 0.0
        for _ in range(40):
            waiting = socket.create_connection(("127.0.0.1", front.port), timeout=20)
            senders.callback(waiting.close)
            try:
                waiting.sendall(HEAD + b"content-length: 25000000\r\n\r\n")
                for _ in range(20):
                    waiting.sendall(chunk)
            except OSError:
                pass  # it was cut off, as it should be
            largest = max(largest, resident_mib(front.process.pid))
        print(f"800 MiB offered, {largest:.0f} MiB held")
        assert largest < 500
        assert front.http.get("/v1/markets", headers=as_viewer).status_code == 503
        senders.close()
        until(lambda: front.http.get("/v1/markets", headers=as_viewer).status_code == 200)
