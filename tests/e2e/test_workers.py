"""Several gateway processes on one port: replaced under load, started again, ended together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import psutil
import pytest

from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

READY_SECONDS = 60.0


@dataclass
class Served:
    """A started `marketcal serve gateway --workers 2`."""

    process: subprocess.Popen[bytes]
    address: str
    key: str

    @property
    def workers(self) -> set[int]:
        """Process ids of the workers."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("workers")
    environment = {name: value for name, value in os.environ.items() if "MARKETCAL_" not in name}
    environment["MARKETCAL_FORECAST__IN_PROCESS"] = "always"
    marketcal = [sys.executable, "-m", "gateway.cli.main"]
    made = subprocess.run(
        [*marketcal, "keys", "create", "--role", "forecaster", "--rate", "1e7", "--burst", "9999"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    ready = folder / "gateway.ready"
    process = subprocess.Popen(
        [*marketcal, "serve", "gateway", "--port", "0", "--workers", "2", "--ready-file", ready],
        cwd=folder, env=environment,
    )  # fmt: skip
    try:
        wait_for(ready.exists)
        address = json.loads(ready.read_text())["address"]
        yield Served(process, address, made.stdout.strip())
    finally:
        process.terminate()
        process.wait(30)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


class Load(threading.Thread):
    """Calls one after the other, on connections that are made anew now and then.

    The channel has no retry policy: a call that any server refuses counts as failed.
    """

    def __init__(self, served: Served) -> None:
        super().__init__(daemon=True)
        self.served = served
        self.ended = threading.Event()
        self.met: Counter[str] = Counter()

    def run(self) -> None:
        """Calls until the test ends it."""
        while not self.ended.is_set():
            with grpc.insecure_channel(
                self.served.address,
                options=[("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)],
            ) as channel:
                stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
                for _ in range(50):
                    self.met[self._call(stub)] += 1

    def _call(self, stub: Any) -> str:
        metadata = (("authorization", f"Bearer {self.served.key}"),)
        try:
            stub.ListModels(
                pb.ListModelsRequest(), metadata=metadata, timeout=20, wait_for_ready=True
            )
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "answered"

    def stop(self) -> Counter[str]:
        """What it met."""
        self.ended.set()
        self.join(30)
        return self.met


def test_workers_are_replaced_under_load_and_no_call_fails(served: Served) -> None:
    before = served.workers
    assert len(before) == 2
    loads = [Load(served) for _ in range(4)]
    for load in loads:
        load.start()

    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: len(served.workers - before) == 2 and len(served.workers) == 2)

    met = sum((load.stop() for load in loads), Counter())
    assert set(met) == {"answered"}
    assert met["answered"] > 1_000


def test_a_worker_that_is_killed_is_started_again(served: Served) -> None:
    killed = sorted(served.workers)[0]

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: killed not in served.workers and len(served.workers) == 2)
    load = Load(served)
    load.start()
    wait_for(lambda: load.met["answered"] > 200)
    assert set(load.stop()) == {"answered"}


def test_workers_end_with_the_process_that_started_them(served: Served) -> None:
    workers = served.workers  # the last test of this module: nobody is left to serve another

    served.process.kill()
    served.process.wait(10)

    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))
