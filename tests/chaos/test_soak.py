"""The full figures: replicas of both families are killed again and again under load."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import Counter
from typing import Any

import pytest

from forecast_service.models.catalog import Family
from forecast_service.policy.decision import FallbackReason

pytestmark = [pytest.mark.ray, pytest.mark.soak]
SECONDS, EVERY = 30.0, 5.0


class Load:
    """Callers that ask one after the other, and what they were told."""

    def __init__(self, cluster: Any, model: str) -> None:
        self.cluster = cluster
        self.model = model
        self.forecaster = cluster.forecaster()
        self.seen: Counter[tuple[str, str]] = Counter()
        self.seconds: list[float] = []

    async def ask_on(self, number: int, until: float) -> None:
        while time.monotonic() < until:
            ask = self.cluster.ask(self.model, market=str(number))
            began = time.monotonic()
            answer = await self.forecaster.forecast(ask, 1.0)
            self.seconds.append(time.monotonic() - began)
            self.seen[answer.made.bands.served_by, answer.made.reason.name] += 1
            await asyncio.sleep(0.01)

    async def kill_on(self, family: Family, until: float) -> int:
        kills = 0
        while time.monotonic() < until:
            await asyncio.sleep(EVERY)
            for pid in self.cluster.replicas(family):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        return kills

    async def run(self, family: Family) -> int:
        until = time.monotonic() + SECONDS
        askers = [asyncio.create_task(self.ask_on(number, until)) for number in range(16)]
        kills = await self.kill_on(family, until - EVERY)
        await asyncio.gather(*askers)
        return kills


@pytest.mark.parametrize(
    ("family", "model", "served_by"),
    [
        (Family.BASELINE, "ewma", "ray:Baselines"),
        (Family.TOLLAMA, "tollama-chronos2", "ray:Tollama"),
    ],
)
def test_every_request_is_answered_while_replicas_are_killed(
    cluster: Any, capsys: Any, family: Family, model: str, served_by: str
) -> None:
    cluster.tollama.manner.seconds = 0.01
    load = Load(cluster, model)
    kills = cluster.run(load.run(family))
    count, worst = len(load.seconds), max(load.seconds)
    with capsys.disabled():
        print(f"\n{family}: {kills} kills, {count} answers in {worst:.3f} s, {dict(load.seen)}")
    assert kills >= 2
    assert worst < 1.25
    assert load.seen[served_by, FallbackReason.NONE.name] > 100
