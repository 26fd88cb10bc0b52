"""A Ray cluster of its own with the baselines and a tollama-like server behind it."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.tollama_like import Manner, TollamaLike, running
from forecast_service import serving
from forecast_service.batch import Query
from forecast_service.models.catalog import Family, served
from forecast_service.policy.decision import Answer, Ask
from forecast_service.policy.forecaster import Forecaster
from forecast_service.series import series_of
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT

SECONDS = 40.0
"""Anything awaited here may take so long; none comes near it."""
_NUMBERS = itertools.count()
MODELS = ("tollama-chronos2", "tollama-timesfm-2.5", "tollama-mock")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The cluster lives from its first test to the end: nobody shall be measured beside it."""
    items.sort(key=lambda item: Path(__file__).parent in item.path.parents)


@dataclass
class Cluster:
    """The deployed platform.

    Attributes:
        settings: what was deployed.
        tollama: the server behind the family tollama.
        run: runs a coroutine on the loop of the callers.
    """

    settings: ForecastSettings
    tollama: TollamaLike
    run: Callable[[Awaitable[Any]], Any]

    def app(self, family: Family) -> str:
        """Name of a family's application."""
        return serving.app_name(self.settings, family)

    def backends(self) -> dict[str, serving.RayBackend]:
        """Fresh backends of all families."""
        found: dict[str, serving.RayBackend] = self.run(self._backends())
        return found

    async def _backends(self) -> dict[str, serving.RayBackend]:
        return serving.backends(self.settings)

    def forecaster(self, **settings: Any) -> Forecaster:
        """A forecaster that has seen nothing yet."""
        own = self.settings.model_copy(update=settings)

        async def made() -> Forecaster:
            forecaster = Forecaster(own, time.monotonic)
            forecaster.connect(serving.backends(own))
            return forecaster

        forecaster: Forecaster = self.run(made())
        return forecaster

    def ask(self, model: str, market: str = "m") -> Ask:
        """A good request, with prices that nobody asked about before."""
        card = served(self.settings)[model]
        first = 0.3 + 1e-6 * next(_NUMBERS)
        series = series_of([first + 0.001 * (i % 50) for i in range(96)], "5m")
        return Ask(market, card, Query(model, 6, (0.1, 0.5, 0.9), LOGIT), series)

    def replicas(self, family: Family) -> list[int]:
        """Processes of a family's replicas."""
        title = f"ServeReplica:{self.app(family)}:".encode()
        found = []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and title in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
        return found

    def running(self, family: Family) -> int:
        """Replicas that Serve says are running."""
        from ray import serve

        (deployment,) = serve.status().applications[self.app(family)].deployments.values()
        return int(deployment.replica_states.get("RUNNING", 0))

    def until(self, condition: Callable[[], bool], seconds: float = SECONDS) -> float:
        """Waits until a condition holds; returns after how long."""
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, "the condition did not come true in time"
            threading.Event().wait(0.1)
        return time.monotonic() - began

    def answers(self, forecaster: Forecaster, asks: list[Ask], budget: float) -> list[Answer]:
        """The answers to requests made at once."""

        async def gathered() -> list[Answer]:
            return await asyncio.gather(*(forecaster.forecast(ask, budget) for ask in asks))

        answers: list[Answer] = self.run(gathered())
        return answers


@pytest.fixture(scope="session")
def tollama() -> Iterator[TollamaLike]:
    """The server; its manner is put back by `calm`."""
    with running(Manner(seconds=0.0)) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(server_loop: Any, tollama: TollamaLike) -> Iterator[Cluster]:
    """Ray with the applications deployed; delays are short, so that a test can wait for them."""
    settings = ForecastSettings(
        app_name="chaos",
        models=MODELS,
        default_model="ewma",
        tollama_url=tollama.url,
        replica_cpus=0.1,
        upscale_seconds=0.5,
        downscale_seconds=1.5,
        load_window_seconds=1.5,
        parallel_batches=8,
    )

    def run(work: Awaitable[Any]) -> Any:
        async def awaited() -> Any:
            return await work

        return asyncio.run_coroutine_threadsafe(awaited(), server_loop.loop).result(SECONDS)

    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    _, folder = serving.start_cluster()
    try:
        serving.deploy(settings)
        yield Cluster(settings, tollama, run)
    finally:
        serving.stop_cluster(folder)
        for number, handler in handlers.items():
            signal.signal(number, handler)


@pytest.fixture(autouse=True)
def calm(tollama: TollamaLike) -> Iterator[None]:
    """Each test begins and ends with a server that behaves."""
    yield
    tollama.manner = Manner(seconds=0.0)


@pytest.fixture
def stopped() -> Iterator[Callable[[int], None]]:
    """Stops a process where it stands; it goes on when the test ends."""
    pids: list[int] = []

    def stop(pid: int) -> None:
        pids.append(pid)
        os.kill(pid, signal.SIGSTOP)

    yield stop
    for pid in pids:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue  # Serve gave it up
