"""A gateway dies behind Envoy: a watch finds its successor and goes on behind its last message."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from marketcal import AsyncClient, Backoff, Client, errors

PATIENT = Backoff(initial_seconds=0.05, max_seconds=0.2)
LONG = 20.0
SERVER = """
import sys, threading
from marketcal import errors
from marketcal.testing import FakeServer
from marketcal.v1 import alert_pb2

def two_alerts_and_then_silence(request):
    for number in (1, 2):
        token = str(int(request.resume_token or 0) + number)
        yield alert_pb2.WatchAlertsResponse(alert={"alert_id": token}, resume_token=token)
    threading.Event().wait(60)

made = FakeServer()
port = made._server.add_insecure_port("127.0.0.1:" + sys.argv[1])
with made as server:
    server.answer("ListModels", errors.CredentialMissing("no key"))
    server.answer("WatchAlerts", two_alerts_and_then_silence)
    print(port, flush=True)
    sys.stdin.read()
"""


def without_health_checks(text: str) -> str:
    """The file for a server without the health service."""
    return text[: text.index("    health_checks:")] + text[text.index("    circuit_breakers:") :]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


@pytest.fixture
def start_server(stack: ExitStack) -> Callable[[int], tuple[subprocess.Popen[str], int]]:
    """Starts a server of alerts as a process of its own: on a port, or on a free one for 0."""

    def start(port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(port)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        stack.enter_context(process)
        stack.callback(process.kill)
        assert process.stdout is not None
        return process, int(process.stdout.readline())

    return start


def test_a_watch_goes_on_when_the_gateway_behind_envoy_is_killed(
    start_server: Any, start_envoy: Any, stack: ExitStack
) -> None:
    process, port = start_server(0)
    front = start_envoy(stack, port, without_health_checks)
    client = stack.enter_context(Client(f"127.0.0.1:{front.port}", backoff=PATIENT))
    watch = client.watch_alerts(timeout=LONG)
    assert [next(watch).alert.alert_id for _ in range(2)] == ["1", "2"]
    for after in (2, 4):
        process.kill()
        process.wait(LONG)
        process, _ = start_server(port)
        assert [next(watch).alert.alert_id for _ in range(2)] == [str(after + 1), str(after + 2)]


async def test_closing_the_client_behind_envoy_still_ends_a_watch(
    start_server: Any, start_envoy: Any, stack: ExitStack
) -> None:
    _, port = start_server(0)
    front = start_envoy(stack, port, without_health_checks)
    client = AsyncClient(f"127.0.0.1:{front.port}", backoff=PATIENT)
    watch = client.watch_alerts(timeout=LONG)
    assert (await anext(watch)).alert.alert_id == "1"
    assert (await anext(watch)).alert.alert_id == "2"
    await client.close()
    with pytest.raises(errors.CallCancelled):
        await anext(watch)
