"""The link to Ray goes on whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from forecast_service.policy.forecaster import Forecaster
from forecast_service.settings import ForecastSettings
from gateway import ray_link

SETTINGS = ForecastSettings(ray_address="127.0.0.1:1")


class Backend:
    """Never asked."""

    served_by = "ray:test"

    async def answer(self, batches: Any, budget: float) -> list[Any]:
        raise AssertionError


class Cluster:
    """Stands in for Ray: whether it is there, what it lists, what raises, and what was done."""

    def __init__(self) -> None:
        self.reachable = True
        self.raising: dict[str, Exception] = {}
        self.done: list[str] = []

    def step(self, name: str, result: Any = None) -> Any:
        self.done.append(name)
        error = self.raising.pop(name, None)
        if error is not None:
            raise error
        return result


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()

    async def reachable(_address: str) -> bool:
        return bool(made.step("probe", made.reachable))

    listed = {"baseline": Backend(), "native": Backend()}
    monkeypatch.setattr(ray_link, "RETRY_SECONDS", 0.005)
    monkeypatch.setattr(ray_link, "_reachable", reachable)
    monkeypatch.setattr(ray_link, "_attach", lambda _settings: made.step("attach", listed))
    monkeypatch.setattr(ray_link, "_detach", lambda: made.step("detach"))
    monkeypatch.setattr(ray_link, "backends", lambda _settings: made.step("list", listed))
    return made


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 - what is waited for says nothing by itself
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("where", ["probe", "attach", "joined"])
async def test_an_error_while_joining_does_not_end_it(cluster: Cluster, where: str) -> None:
    cluster.raising[where] = ValueError("unforeseen")
    forecaster = Forecaster(SETTINGS, time.monotonic)
    link = asyncio.create_task(
        ray_link.keep_connected(SETTINGS, forecaster, lambda: cluster.step("joined"))
    )
    try:
        await until(lambda: forecaster.connected and cluster.done.count("probe") > 2)
        assert not link.done()
    finally:
        link.cancel()


async def test_an_error_while_letting_go_does_not_end_it(cluster: Cluster) -> None:
    forecaster = Forecaster(SETTINGS, time.monotonic)
    link = asyncio.create_task(ray_link.keep_connected(SETTINGS, forecaster, lambda: None))
    try:
        await until(lambda: forecaster.connected)
        cluster.raising["detach"] = RuntimeError("unforeseen")
        cluster.reachable = False
        await until(lambda: not forecaster.connected and "detach" in cluster.done)
        cluster.reachable = True
        await until(lambda: forecaster.connected)
    finally:
        link.cancel()


@pytest.mark.parametrize("address", ["auto", "6379", ":6379", "host:", "host:x", "host:65536"])
def test_an_address_that_is_no_host_and_port_is_refused(address: str) -> None:
    with pytest.raises(ValidationError, match="is no address as host:port"):
        ForecastSettings(ray_address=address)


@pytest.mark.parametrize("address", ["", "127.0.0.1:6379", "head.local:1", "[::1]:6379"])
def test_an_address_is_host_and_port_or_nothing(address: str) -> None:
    assert ForecastSettings(ray_address=address).ray_address == address
