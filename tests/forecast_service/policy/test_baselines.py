"""Where a baseline is computed: Ray first, this process when Ray is away, slow or wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Batch, BatchAnswer, Query
from forecast_service.models.baselines import answer
from forecast_service.models.catalog import CATALOG
from forecast_service.policy import baselines
from forecast_service.policy.baselines import AWAY_SECONDS
from forecast_service.policy.decision import Ask
from forecast_service.policy.forecaster import Forecaster
from forecast_service.series import series_of
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT
from marketcal.errors import NotReady, OutOfTime

QUERY = Query("last_value", 3, (0.1, 0.5, 0.9), LOGIT)
ASK = Ask("m", CATALOG["last_value"], QUERY, series_of([0.5] * 8, "5m"))


class Clock:
    """Monotonic seconds that a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Ray:
    """A backend that behaves as it is told."""

    served_by = "ray:test"

    def __init__(self, manner: str = "well") -> None:
        self.manner = manner
        self.calls = 0

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        self.calls += 1
        if self.manner == "raises":
            raise ConnectionError("actor died")
        if self.manner == "hangs":
            await asyncio.Event().wait()
        given = [answer(batch) for batch in batches]
        if self.manner == "garbage":
            return [
                BatchAnswer(a.quantiles * np.nan, a.flags, a.adjusted, a.effective_horizon)
                for a in given
            ]
        return given


def forecaster(clock: Clock, backend: Ray | None, **settings: Any) -> Forecaster:
    made = Forecaster(ForecastSettings(**settings), clock)
    made.connect(None if backend is None else {"baseline": backend})
    return made


async def served_by(made: Forecaster, budget: float = 5.0) -> str:
    return (await made.forecast(ASK, budget)).made.bands.served_by


async def test_ray_answers_while_it_is_there() -> None:
    assert await served_by(forecaster(Clock(), Ray())) == "ray:test"


async def test_this_process_answers_while_ray_is_away() -> None:
    made = forecaster(Clock(), None)
    assert await served_by(made) == "in-process"
    assert not made.connected
    made.connect({"baseline": Ray()})
    assert made.connected
    assert await served_by(made) == "ray:test"


@pytest.mark.parametrize("manner", ["raises", "garbage", "hangs"])
async def test_this_process_answers_within_the_budget_when_ray_fails(manner: str) -> None:
    ray = Ray(manner)
    made = forecaster(Clock(), ray)

    async with asyncio.timeout(2.0):
        assert await served_by(made, budget=0.3) == "in-process"
    assert ray.calls == 1


@pytest.mark.parametrize("manner", ["raises", "garbage", "hangs"])
async def test_ray_is_left_alone_for_a_while_and_then_answers_again(manner: str) -> None:
    ray, clock = Ray(manner), Clock()
    made = forecaster(clock, ray)
    await served_by(made, budget=0.4)
    ray.manner = "well"

    assert await served_by(made) == "in-process"
    assert ray.calls == 1
    clock.ahead += AWAY_SECONDS
    assert await served_by(made) == "ray:test"


async def test_ray_that_is_joined_again_answers_at_once() -> None:
    made = forecaster(Clock(), Ray("hangs"))
    assert await served_by(made, budget=0.4) == "in-process"
    assert made.failures == 1

    made.connect({"baseline": Ray()})

    assert await served_by(made) == "ray:test"
    assert made.failures == 0


async def test_a_hang_of_ray_is_overcome_however_often_it_comes() -> None:
    ray, clock = Ray("hangs"), Clock()
    made = forecaster(clock, ray)
    for _ in range(4):
        assert await served_by(made, budget=0.4) == "in-process"
        clock.ahead += AWAY_SECONDS
    ray.manner = "well"

    assert await served_by(made) == "ray:test"


async def test_a_callers_haste_is_not_held_against_ray() -> None:
    made = forecaster(Clock(), Ray())

    assert await served_by(made, budget=0.01) == "in-process"

    assert await served_by(made) == "ray:test"


@pytest.mark.parametrize("manner", ["raises", "garbage", "hangs"])
async def test_never_in_process_means_not_ready_when_ray_fails(manner: str) -> None:
    made = forecaster(Clock(), Ray(manner), in_process="never")

    with pytest.raises(NotReady) as caught:
        await served_by(made, budget=0.2)

    assert caught.value.retry_after == AWAY_SECONDS


async def test_never_in_process_means_not_ready_when_ray_is_away() -> None:
    with pytest.raises(NotReady):
        await served_by(forecaster(Clock(), None, in_process="never"))


async def test_never_in_process_means_out_of_time_when_none_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing is kept for this process, however long its share."""
    monkeypatch.setattr(baselines, "BASELINE_SECONDS", 1.0)
    ray = Ray()
    made = forecaster(Clock(), ray, in_process="never")
    assert await served_by(made, budget=1.0) == "ray:test"
    with pytest.raises(OutOfTime):
        await served_by(made, budget=0.0)


async def test_always_in_process_never_asks_ray() -> None:
    ray = Ray()
    assert await served_by(forecaster(Clock(), ray, in_process="always")) == "in-process"
    assert ray.calls == 0


async def test_a_budget_that_is_spent_still_leaves_time_for_a_baseline() -> None:
    assert await served_by(forecaster(Clock(), None), budget=0.0) == "in-process"


async def test_a_fault_of_this_process_is_not_hidden() -> None:
    """An unforeseen error goes up to the edge as it is, and no error becomes an empty answer."""
    unknown = Query("no such model", 3, (0.5,), LOGIT)
    made = forecaster(Clock(), None)

    with pytest.raises(Exception, match="no such model") as caught:
        await made.forecast(ASK._replace(query=unknown), 5.0)

    assert not isinstance(caught.value, OutOfTime)
