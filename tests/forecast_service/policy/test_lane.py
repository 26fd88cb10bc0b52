"""What stands before a backend keeps a sick one from callers, and lets a healthy one back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forecast_service.models.errors import ModelAway
from forecast_service.policy.breaker import BreakerState
from forecast_service.policy.decision import Answer, Ask, FallbackReason
from forecast_service.policy.degradation import DegradationState
from forecast_service.policy.forecaster import Forecaster
from marketcal.errors import InvalidArgument, Overloaded

NO_CACHE = {"cache_bytes": 0}
Make = Callable[..., Forecaster]
MakeAsk = Callable[..., Ask]
GOOD = ("thinker", "NONE", "MISS")


def told(answer: Answer) -> tuple[str, str, str]:
    """Who answered, why, and from where."""
    return answer.made.card.name, answer.made.reason.name, answer.cache.name


async def test_an_open_breaker_is_not_asked_and_recovers_through_trials(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of(RuntimeError("bug"))
    made = forecaster(model, policy=NO_CACHE)
    for _ in range(5):
        await made.forecast(ask(), 5.0)
    answer = await made.forecast(ask(), 5.0)
    assert told(answer) == ("ewma", "BREAKER_OPEN", "MISS")
    assert (answer.breaker, model.calls) == (BreakerState.OPEN, 5)

    clock.ahead += 120.0
    model.manner = "well"
    states = [(await made.forecast(ask(), 5.0)).breaker for _ in range(3)]

    assert states == [BreakerState.HALF_OPEN, BreakerState.CLOSED, BreakerState.CLOSED]


async def test_a_burst_that_fails_together_is_one_failure(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(RuntimeError("bug")), policy=NO_CACHE)
    asked = [ask(values=[i / 100] * 40) for i in range(1, 65)]
    answers = await asyncio.gather(*(made.forecast(a, 5.0) for a in asked))

    assert {told(a) for a in answers} == {("ewma", "BACKEND_ERROR", "MISS")}
    assert answers[-1].breaker is BreakerState.CLOSED


async def test_a_burst_on_a_half_open_breaker_is_answered_and_does_not_open_it(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of(RuntimeError("bug"))
    made = forecaster(model, policy=NO_CACHE)
    for _ in range(5):
        await made.forecast(ask(), 5.0)
    clock.ahead += 120.0
    model.manner = "well"
    asked = [ask(values=[i / 100] * 40) for i in range(1, 65)]

    answers = await asyncio.gather(*(made.forecast(a, 5.0) for a in asked))

    reasons = [a.made.reason for a in answers]
    assert reasons.count(FallbackReason.BREAKER_OPEN) == 62
    assert (await made.forecast(ask(), 5.0)).breaker is not BreakerState.OPEN


async def test_a_trial_that_is_cancelled_before_it_is_sent_gives_its_permit_back(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    """The pool has seen three come together: it holds two back for a moment."""
    model = model_of(RuntimeError("bug"))
    made = forecaster(model, policy=NO_CACHE)
    three = [ask(values=[price] * 40) for price in (0.3, 0.4, 0.5)]
    for _ in range(5):
        await asyncio.gather(*(made.forecast(a, 5.0) for a in three))
    clock.ahead += 120.0
    calls, model.manner = model.calls, "well"
    tasks = [asyncio.create_task(made.forecast(a, 5.0)) for a in three[:2]]
    for _ in range(2):
        await asyncio.sleep(0)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert model.calls == calls
    assert told(await made.forecast(ask(), 5.0)) == GOOD


async def test_trials_that_are_cancelled_never_wedge_the_breaker(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of(RuntimeError("bug"))
    made = forecaster(model, policy=NO_CACHE, parallel_batches=4)
    for _ in range(5):
        await made.forecast(ask(), 5.0)
    clock.ahead += 120.0
    model.manner = "well"
    random = np.random.default_rng(1)
    for _ in range(30):
        model.may_answer.clear()
        tasks = [
            asyncio.create_task(made.forecast(ask(values=[float(p)] * 40), 5.0))
            for p in random.uniform(0.1, 0.9, 6)
        ]
        for _ in range(int(random.integers(0, 6))):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        model.may_answer.set()
        await asyncio.gather(*tasks, return_exceptions=True)
    answers = [await made.forecast(ask(), 5.0) for _ in range(4)]
    assert answers[-1].breaker is BreakerState.CLOSED


async def test_a_lost_connection_is_tried_once_more_while_all_is_well(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of([ConnectionError("reset"), "well"])
    assert told(await forecaster(model).forecast(ask(), 5.0)) == GOOD
    assert model.calls == 2
    gone = model_of(ConnectionError("gone"))
    answer = await forecaster(gone).forecast(ask(), 5.0)
    assert answer.made.reason is FallbackReason.BACKEND_UNAVAILABLE
    assert gone.calls == 2


async def test_no_other_failure_is_tried_again(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of(RuntimeError("bug"))
    await forecaster(model).forecast(ask(), 5.0)
    assert model.calls == 1


async def degraded(made: Forecaster, ask: MakeAsk, model: Any, manners: list[Any]) -> None:
    """Lets calls end as ``manners`` say."""
    for manner in manners:
        model.manner = manner
        await made.forecast(ask(), 5.0)


async def test_a_degraded_backend_gets_less_time_and_no_second_try(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    made = forecaster(model, policy=NO_CACHE)
    bug = RuntimeError("bug")
    await degraded(made, ask, model, ["well", "well", "well", bug, bug])
    calls, model.manner = model.calls, ConnectionError("reset")

    answer = await made.forecast(ask(), 5.0)

    assert answer.degradation is DegradationState.DEGRADED
    assert model.calls == calls + 1
    assert model.budgets[-1] <= 0.5 < model.budgets[0]


async def test_a_backend_that_mostly_fails_is_only_probed(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    made = forecaster(model, policy={**NO_CACHE, "probe_every": 5})
    bug = RuntimeError("bug")
    await degraded(made, ask, model, ["well", "well", "well", *[bug] * 7])
    calls, model.manner = model.calls, "well"

    answers = [await made.forecast(ask(), 5.0) for _ in range(10)]

    assert [a.made.reason.name for a in answers] == ([*["DEGRADED"] * 4, "NONE"] * 2)
    assert model.calls == calls + 2
    assert answers[0].degradation is DegradationState.BASELINE_ONLY
    for _ in range(200):
        answer = await made.forecast(ask(), 5.0)
    assert answer.degradation is DegradationState.NORMAL


async def test_the_callers_fault_is_not_the_backends(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(InvalidArgument.of("values", "refused")), policy=NO_CACHE)
    for _ in range(8):
        with pytest.raises(InvalidArgument):
            await made.forecast(ask(), 5.0)
    made_well = await made.forecast(ask(values=[0.5] * 8), 5.0)
    assert made_well.breaker is BreakerState.CLOSED


async def test_a_full_queue_is_overload_and_not_the_backends_fault(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    model.may_answer.clear()
    made = forecaster(model, policy=NO_CACHE, max_queue=2, max_batch=1)
    asked = [ask(values=[i / 100] * 40) for i in range(1, 21)]
    tasks = [asyncio.create_task(made.forecast(a, 5.0)) for a in asked]
    for _ in range(5):
        await asyncio.sleep(0)
    model.may_answer.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)

    refused = [a for a in answers if isinstance(a, Overloaded)]
    assert refused
    assert all(error.retry_after for error in refused)
    assert (await made.forecast(ask(), 5.0)).breaker is BreakerState.CLOSED


async def test_a_model_that_is_away_is_not_asked_twice(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    """The way to its replica is well, and the model has just asked to be left alone."""
    model = model_of(ModelAway("503"))
    answer = await forecaster(model).forecast(ask(), 5.0)
    assert answer.made.reason is FallbackReason.BACKEND_UNAVAILABLE
    assert model.calls == 1


@pytest.mark.parametrize("budget", [0.06, 0.4, 0.55])
async def test_callers_with_less_than_the_whole_wait_do_not_open_the_breaker(
    budget: float, forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(TimeoutError()), policy=NO_CACHE)
    for _ in range(8):
        answer = await made.forecast(ask(), budget)
    assert answer.breaker is BreakerState.CLOSED
    assert answer.degradation is DegradationState.NORMAL


async def test_the_whole_wait_without_an_answer_opens_the_breaker(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(TimeoutError()), policy=NO_CACHE)
    for _ in range(5):
        answer = await made.forecast(ask(), 5.0)
    assert answer.breaker is BreakerState.OPEN


async def test_being_listed_again_does_not_close_an_open_breaker(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    made = forecaster(model_of(RuntimeError("bug")), policy=NO_CACHE)
    for _ in range(5):
        await made.forecast(ask(), 5.0)

    listed_again = model_of(served_by="another way")
    made.connect({"native": listed_again, "tollama": model_of()})

    assert told(await made.forecast(ask(), 5.0)) == ("ewma", "BREAKER_OPEN", "MISS")
    clock.ahead += 120.0
    answer = await made.forecast(ask(), 5.0)
    assert answer.made.bands.served_by == "another way"


async def test_a_backend_that_was_away_starts_anew(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(RuntimeError("bug")), policy=NO_CACHE)
    for _ in range(5):
        await made.forecast(ask(), 5.0)
    made.connect(None)
    made.connect({"native": model_of()})
    assert told(await made.forecast(ask(), 5.0)) == GOOD
