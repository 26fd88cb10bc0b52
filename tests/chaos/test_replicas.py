"""Replicas die, hang and come back, and every request is answered meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import Any

import pytest

from forecast_service.models.catalog import Family

pytestmark = pytest.mark.ray


def test_a_killed_replica_costs_no_request_and_is_replaced(cluster: Any) -> None:
    forecaster = cluster.forecaster()
    (pid,) = cluster.replicas(Family.BASELINE)
    ask = cluster.ask("ewma")

    async def ask_on() -> list[str]:
        served: list[str] = []
        until = time.monotonic() + 3.0
        while time.monotonic() < until:
            answers = await asyncio.gather(*(forecaster.forecast(ask, 2.0) for _ in range(8)))
            served += [answer.made.bands.served_by for answer in answers]
            if len(served) == 80:
                os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.002)
        return served

    served = cluster.run(ask_on())
    assert served[0] == "ray:Baselines"
    assert set(served) <= {"ray:Baselines", "in-process"}
    cluster.until(lambda: any(new != pid for new in cluster.replicas(Family.BASELINE)))
    cluster.until(lambda: cluster.running(Family.BASELINE) == 1)
    forecaster = cluster.forecaster()
    cluster.until(
        lambda: cluster.answers(forecaster, [ask], 5.0)[0].made.bands.served_by == "ray:Baselines"
    )


def test_a_replica_that_hangs_is_not_waited_for(cluster: Any, stopped: Any) -> None:
    forecaster = cluster.forecaster(ray_seconds=0.3)
    (pid,) = cluster.replicas(Family.BASELINE)
    ask = cluster.ask("ewma")
    assert cluster.answers(forecaster, [ask], 2.0)[0].made.bands.served_by == "ray:Baselines"
    stopped(pid)
    began = time.monotonic()
    answers = cluster.answers(forecaster, [ask] * 20, 2.0)
    assert time.monotonic() - began < 1.0
    assert {answer.made.bands.served_by for answer in answers} == {"in-process"}


def test_calls_to_a_lost_replica_say_that_the_connection_is_lost(cluster: Any) -> None:
    from forecast_service.batch import gather

    ask = cluster.ask("ewma")
    backend = cluster.backends()[Family.BASELINE]
    batch = gather(ask.query, [ask.series])
    cluster.until(lambda: cluster.running(Family.BASELINE) == 1)
    cluster.run(backend.answer([batch], 5.0))
    (pid,) = cluster.replicas(Family.BASELINE)

    async def ask_while_it_dies() -> list[Any]:
        calls = [asyncio.create_task(backend.answer([batch] * 50, 20.0)) for _ in range(8)]
        await asyncio.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        return await asyncio.gather(*calls, return_exceptions=True)

    results = cluster.run(ask_while_it_dies())
    lost = [result for result in results if isinstance(result, BaseException)]
    assert all(isinstance(error, ConnectionError) for error in lost), lost
    cluster.until(lambda: cluster.running(Family.BASELINE) == 1)
