"""A deployment grows with its load and shrinks to nothing, and no call fails meanwhile."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from forecast_service.batch import gather
from forecast_service.models.catalog import Family

pytestmark = pytest.mark.ray


def test_grows_from_none_to_two_replicas_and_back_without_a_failed_call(cluster: Any) -> None:
    assert cluster.running(Family.TOLLAMA) == 0
    cluster.tollama.manner.seconds = 0.05
    backend = cluster.backends()[Family.TOLLAMA]
    ask = cluster.ask("tollama-chronos2")
    batch = gather(ask.query, [ask.series])
    seen: list[int] = []
    done = asyncio.Event()

    async def one_caller() -> int:
        calls = 0
        while not done.is_set():
            (answer,) = await backend.answer([batch], 30.0)
            assert answer.quantiles.shape == (1, 6, 3)
            calls += 1
        return calls

    async def load() -> int:
        callers = [asyncio.create_task(one_caller()) for _ in range(12)]
        try:
            async with asyncio.timeout(35):
                while 2 not in seen:
                    seen.append(await asyncio.to_thread(cluster.running, Family.TOLLAMA))
                    await asyncio.sleep(0.2)
        finally:
            done.set()
        return sum(await asyncio.gather(*callers))

    assert cluster.run(load()) > 12
    assert seen.index(1) < seen.index(2)
    cluster.until(lambda: cluster.running(Family.TOLLAMA) == 0)
