"""Real processes: the last spans arrive, the log is JSON, workers have ports of their own."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from marketcal import Client

SECONDS = 60.0
VALUES = [0.4, 0.41, 0.43, 0.42] * 24


class Process:
    """A gateway as a process of its own."""

    def __init__(self, folder: Path, *arguments: str, **settings: str) -> None:
        self.folder, self.ready = folder, folder / "ready"
        own = {
            "GATEWAY__ANONYMOUS_ROLE": "forecaster", "GATEWAY__DRAIN_NOTICE_SECONDS": "0",
            "CONTROL__URL": f"sqlite:///{folder}/control.db", "FLOWS__LAKE": str(folder / "lake"),
            "FORECAST__IN_PROCESS": "always", "TELEMETRY__PROMETHEUS_PORT": "0",
        }  # fmt: skip
        named = {f"MARKETCAL_{name}": value for name, value in (own | settings).items()}
        command = [sys.executable, "-m", "gateway.cli.main", "serve", "gateway", "--port", "0",
                   "--ready-file", str(self.ready), *arguments]  # fmt: skip
        with (folder / "log").open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=os.environ | named, stdout=subprocess.DEVNULL, stderr=log
            )

    @property
    def address(self) -> str:
        deadline = time.monotonic() + SECONDS
        while not self.ready.exists():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)
        return str(json.loads(self.ready.read_text())["address"])

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def end(self) -> float:
        """Sends SIGTERM; the seconds until the end."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(SECONDS) == 0, self.log
        return time.monotonic() - began


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    with ExitStack() as stack:

        def begin(*arguments: str, **settings: str) -> Process:
            made = Process(tmp_path, *arguments, **settings)
            stack.callback(made.process.wait, 20)
            stack.callback(made.process.kill)
            return made

        yield begin


def test_the_last_spans_and_figures_arrive_when_a_process_is_told_to_end(
    start: Callable[..., Process], collector: Any
) -> None:
    served = start(
        TELEMETRY__OTLP_ENDPOINT=collector.url, TELEMETRY__SAMPLE_RATIO="1",
        TELEMETRY__METRICS_SECONDS="3600", TELEMETRY__ACCESS_LOG="all",
    )  # fmt: skip
    with Client(served.address) as client:
        client.forecast("mine", VALUES)
        took = served.end()  # within the second that a span may wait

    assert took < 4
    (span,) = collector.named("marketcal.v1.ForecastService/Forecast")
    assert "rpc.server.duration" in collector.metrics
    records = [json.loads(line) for line in served.log.splitlines()]
    (access,) = [facts for facts in records if facts["logger"] == "gateway.access"]
    assert access["trace_id"] == span.trace
    assert access["request_id"] == span.attributes["marketcal.request_id"]
    assert {"time", "level", "logger", "message"} <= set.intersection(*map(set, records))


def test_a_dead_collector_holds_up_no_end(start: Callable[..., Process]) -> None:
    served = start(TELEMETRY__OTLP_ENDPOINT="http://127.0.0.1:9", TELEMETRY__SAMPLE_RATIO="1")
    with Client(served.address) as client:
        client.forecast("mine", VALUES)
        assert served.end() < 4


def consecutive_ports() -> int:
    """A port that is free, as is the next one."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
            try:
                with socket.create_server(("127.0.0.1", port + 1)):
                    return port
            except OSError:
                continue


def test_each_worker_shows_its_own_figures_also_after_it_was_replaced(
    start: Callable[..., Process], until: Any
) -> None:
    port = consecutive_ports()
    served = start("--workers", "2", TELEMETRY__PROMETHEUS_PORT=str(port))
    assert served.address

    def began(place: int) -> str | None:
        try:
            page = httpx.get(f"http://127.0.0.1:{port + place}/metrics").text
        except httpx.TransportError:
            return None
        (line,) = [x for x in page.splitlines() if x.startswith("process_start_time_seconds")]
        return line

    until(lambda: None not in (began(0), began(1)))
    before = [began(0), began(1)]
    served.process.send_signal(signal.SIGHUP)
    until(lambda: served.log.count(" is process ") == 2)
    until(lambda: not {None, *before} & {began(0), began(1)})
    served.end()
