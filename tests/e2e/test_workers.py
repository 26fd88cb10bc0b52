"""Several processes on one port: replaced under load, started again, ended together."""

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
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from marketcal import Client, errors
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc

READY_SECONDS = 60.0
POLICY = resources.files("marketcal").joinpath("service_config.json").read_text()
SECRET = "9d41f6c05ba74e7e8f23c8d6a10b57e2"
VALUES = [0.4 + 0.001 * (step % 60) for step in range(96)]
BATCH = [pb.ForecastRequest(market_id=f"m{i}", values=VALUES, horizon_steps=2) for i in range(20)]


@dataclass
class Served:
    """A started `marketcal serve ROLE --workers 2`."""

    process: subprocess.Popen[bytes]
    address: str
    key: str

    @property
    def workers(self) -> set[int]:
        """Process ids of the workers."""
        return {child.pid for child in psutil.Process(self.process.pid).children()}


@contextmanager
def serving(role: str, folder: Path, **settings: str) -> Iterator[Served]:
    """Two workers of a role."""
    environment = {name: value for name, value in os.environ.items() if "MARKETCAL_" not in name}
    environment |= {"MARKETCAL_FORECAST__IN_PROCESS": "always", **settings}
    marketcal = [sys.executable, "-m", "gateway.cli.main"]
    made = subprocess.run(
        [*marketcal, "keys", "create", "--role", "forecaster", "--rate", "1e7", "--burst", "9999"],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    ready = folder / f"{role}.ready"
    process = subprocess.Popen(
        [*marketcal, "serve", role, "--port", "0", "--workers", "2", "--ready-file", ready],
        cwd=folder, env=environment,
    )  # fmt: skip
    try:
        wait_for(ready.exists)
        address = json.loads(ready.read_text())["address"]
        yield Served(process, address, made.stdout.strip())
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving("gateway", tmp_path_factory.mktemp("workers")) as started:
        yield started


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < end, "the condition did not come true in time"
        threading.Event().wait(0.02)


class Load(threading.Thread):
    """Makes calls until the test ends it, and counts how they ended."""

    def __init__(self, served: Served) -> None:
        super().__init__(daemon=True)
        self.served = served
        self.ended = threading.Event()
        self.met: Counter[str] = Counter()

    def stop(self) -> Counter[str]:
        """What it met."""
        self.ended.set()
        self.join(30)
        return self.met


class PolicyLoad(Load):
    """Calls one after the other, on connections that are made anew now and then.

    A channel as any language makes it, with the published retry policy and nothing else of ours.
    """

    def run(self) -> None:
        """Calls until the test ends it."""
        while not self.ended.is_set():
            with grpc.insecure_channel(
                self.served.address,
                options=[("grpc.use_local_subchannel_pool", 1), ("grpc.service_config", POLICY)],
            ) as channel:
                stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)
                for _ in range(50):
                    self.met[self._call(stub)] += 1

    def _call(self, stub: Any) -> str:
        metadata = (("authorization", f"Bearer {self.served.key}"),)
        try:
            stub.ListModels(pb.ListModelsRequest(), metadata=metadata, timeout=20)
        except grpc.RpcError as error:
            return f"{error.code().name}: {error.details()}"
        return "answered"


class ClientLoad(Load):
    """Forecasts, each followed by a batch of twenty, by the client as it comes."""

    def run(self) -> None:
        """Calls until the test ends it; every eighth connection is a new one."""
        while not self.ended.is_set():
            with Client(self.served.address, key=self.served.key) as client:
                for _ in range(8):
                    self.met[self._call(client)] += 1

    def _call(self, client: Client) -> str:
        try:
            client.forecast("m", VALUES, horizon_steps=2)
            results = client.batch_forecast(BATCH).results
        except errors.MarketcalError as error:
            return f"{type(error).__name__}: {error.message}"
        failed = [one.error.message for one in results if not one.HasField("forecast")]
        return failed[0] if failed else "answered"


def test_workers_are_replaced_under_load_and_no_call_fails(served: Served) -> None:
    before = served.workers
    assert len(before) == 2
    by_policy, by_client = started(PolicyLoad, served), started(ClientLoad, served)

    served.process.send_signal(signal.SIGHUP)
    wait_for(lambda: not before & served.workers and len(served.workers) == 2)

    met_by_policy = sum((load.stop() for load in by_policy), Counter())
    met_by_client = sum((load.stop() for load in by_client), Counter())
    assert set(met_by_policy) == {"answered"}
    assert met_by_policy["answered"] > 1_000
    assert set(met_by_client) == {"answered"}
    assert met_by_client["answered"] > 50


def started(kind: type[Load], served: Served) -> list[Load]:
    loads = [kind(served) for _ in range(2)]
    for load in loads:
        load.start()
    return loads


def test_a_worker_that_is_killed_is_started_again(served: Served) -> None:
    killed = sorted(served.workers)[0]

    os.kill(killed, signal.SIGKILL)

    wait_for(lambda: killed not in served.workers and len(served.workers) == 2)
    load = PolicyLoad(served)
    load.start()
    wait_for(lambda: load.met["answered"] > 200)
    assert set(load.stop()) == {"answered"}


def test_workers_end_with_the_process_that_started_them(served: Served) -> None:
    workers = served.workers  # the last test of this module: nobody is left to serve another

    served.process.kill()
    served.process.wait(10)

    wait_for(lambda: not any(psutil.pid_exists(pid) for pid in workers))


def test_workers_have_the_role_of_the_process_that_started_them(tmp_path: Path) -> None:
    calibration = serving("calibration-service", tmp_path, MARKETCAL_UPSTREAM__SECRET=SECRET)
    with calibration as served, grpc.insecure_channel(served.address) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        listed = health.List(health_pb2.HealthListRequest(), timeout=20, wait_for_ready=True)

    hosted = {name.removeprefix("marketcal.v1.") for name in listed.statuses if "." in name}
    assert {name for name in hosted if not name.startswith("grpc.")} == {
        "AlertService", "MarketService", "ScoreboardService",
    }  # fmt: skip
