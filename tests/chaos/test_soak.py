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


@pytest.mark.parametrize("family", [Family.BASELINE, Family.TOLLAMA])
def test_every_request_is_answered_while_replicas_are_killed(
    cluster: Any, family: Family, capsys: Any
) -> None:
    cluster.tollama.manner.seconds = 0.01
    model = "ewma" if family is Family.BASELINE else "tollama-chronos2"
    forecaster = cluster.forecaster()
    seen: Counter[tuple[str, str]] = Counter()
    late: list[float] = []

    async def ask_on(number: int, until: float) -> None:
        while time.monotonic() < until:
            ask = cluster.ask(model, market=str(number))
            began = time.monotonic()
            answer = await forecaster.forecast(ask, 1.0)
            late.append(time.monotonic() - began)
            seen[answer.made.bands.served_by, answer.made.reason.name] += 1
            await asyncio.sleep(0.01)

    async def kill_on(until: float) -> int:
        kills = 0
        while time.monotonic() < until:
            await asyncio.sleep(EVERY)
            for pid in cluster.replicas(family):
                os.kill(pid, signal.SIGKILL)
                kills += 1
        return kills

    async def load() -> int:
        until = time.monotonic() + SECONDS
        askers = [asyncio.create_task(ask_on(number, until)) for number in range(16)]
        kills = await kill_on(until - EVERY)
        await asyncio.gather(*askers)
        return kills

    kills = cluster.run(load())
    worst = max(late)
    with capsys.disabled():
        print(
            f"\n{family}: {kills} kills, {sum(seen.values())} answers {dict(seen)}, {worst:.3f} s"
        )
    assert kills >= 2
    assert worst < 1.25
    assert seen[f"ray:{'Baselines' if family is Family.BASELINE else 'Tollama'}",
                FallbackReason.NONE.name] > 100  # fmt: skip
