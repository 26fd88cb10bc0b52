"""A model is asked within its rules, and what stands in for it always says why."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Query
from forecast_service.in_process import local_backends
from forecast_service.models.catalog import CATALOG
from forecast_service.models.errors import ModelAway
from forecast_service.policy import baselines, deadline
from forecast_service.policy.breaker import BreakerState
from forecast_service.policy.decision import Answer, Ask, CacheState, FallbackReason
from forecast_service.policy.degradation import DegradationState
from forecast_service.policy.forecaster import Forecaster
from forecast_service.segment import Tte, segment_of
from forecast_service.settings import ForecastSettings
from forecast_service.transform import IDENTITY
from marketcal.errors import NotReady

NO_CACHE = {"cache_bytes": 0}
Make = Callable[..., Forecaster]
MakeAsk = Callable[..., Ask]


def told(answer: Answer) -> tuple[str, str, str]:
    """Who answered, why, and from where."""
    return answer.made.card.name, answer.made.reason.name, answer.cache.name


GOOD = ("thinker", "NONE", "MISS")


async def test_the_asked_model_answers(forecaster: Make, model_of: Any, ask: MakeAsk) -> None:
    answer = await forecaster(model_of()).forecast(ask(), 5.0)

    assert told(answer) == GOOD
    assert (answer.breaker, answer.degradation) == (BreakerState.CLOSED, DegradationState.NORMAL)


@pytest.mark.parametrize(
    ("manner", "reason"),
    [
        ("hangs", "DEADLINE"),
        ("garbage", "INVALID_OUTPUT"),
        (ConnectionError("gone"), "BACKEND_UNAVAILABLE"),
        (RuntimeError("bug"), "BACKEND_ERROR"),
        (asyncio.CancelledError(), "BACKEND_UNAVAILABLE"),
        (TimeoutError(), "DEADLINE"),
    ],
)
async def test_a_model_that_fails_is_replaced_and_the_answer_says_why(
    manner: Any, reason: str, forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(manner), policy={"model_seconds": 0.05})

    answer = await made.forecast(ask(), 5.0)

    assert told(answer) == ("ewma", reason, "MISS")
    assert answer.made.bands.served_by == "in-process"


async def test_a_family_that_is_not_connected_is_replaced(forecaster: Make, ask: MakeAsk) -> None:
    answer = await forecaster(None).forecast(ask(), 5.0)
    assert told(answer) == ("ewma", "BACKEND_UNAVAILABLE", "MISS")
    assert (answer.breaker, answer.degradation) == (None, None)


async def test_a_stand_in_answers_as_if_it_had_been_asked(
    forecaster: Make, ask: MakeAsk, card: Any
) -> None:
    """A context longer than the baseline's is cut to the baseline's own."""
    values = [0.5 + 0.1 * math.sin(i) for i in range(500)]
    made = forecaster(None)
    stood_in = await made.forecast(ask(values=values), 5.0)
    asked = ask(values=values[-288:])
    query = Query("ewma", 3, asked.query.levels, asked.query.transform)
    alone = await made.forecast(asked._replace(card=CATALOG["ewma"], query=query), 5.0)

    bands, wanted = stood_in.made.bands.quantiles, alone.made.bands.quantiles
    np.testing.assert_array_equal(bands, wanted)
    assert stood_in.series.values.size == 288


# Deadline


async def test_one_budget_bounds_the_model_and_leaves_enough_for_a_baseline(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of("hangs")
    began = time.monotonic()
    answer = await forecaster(model).forecast(ask(), 0.3)
    took = time.monotonic() - began

    assert answer.made.reason is FallbackReason.DEADLINE
    assert 0.2 <= model.budgets[0] <= 0.25
    assert took < 0.3


async def test_a_stand_in_answers_within_50_ms_of_giving_up(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    """The smallest of several is taken: a busy machine is not what is measured."""
    made = forecaster(model_of("hangs"), policy={"model_seconds": 0.1, **NO_CACHE})
    after = []
    for _ in range(4):
        began = time.monotonic()
        answer = await made.forecast(ask(), 5.0)
        after.append(time.monotonic() - began - 0.1)
        assert answer.made.reason is FallbackReason.DEADLINE
    assert min(after) < 0.05


async def test_without_time_for_the_model_a_baseline_answers_at_once(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    answer = await forecaster(model).forecast(ask(), 0.04)
    assert told(answer) == ("ewma", "DEADLINE", "MISS")
    assert model.calls == 0


async def test_a_callers_haste_says_nothing_about_the_backend(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of("hangs"), policy=NO_CACHE)
    for _ in range(8):
        answer = await made.forecast(ask(), 0.06)
    assert answer.breaker is BreakerState.CLOSED
    assert answer.degradation is DegradationState.NORMAL


# Gates


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"values": [0.5] * 31}, "TOO_FEW_POINTS"),
        ({"values": [0.5] * 32}, "NONE"),
        ({"values": [*[0.5] * 40, *[math.nan] * 13, 0.5]}, "GAP"),
        ({"values": [*[0.5] * 40, *[math.nan] * 13]}, "GAP"),
        ({"values": [*[0.5] * 40, *[math.nan] * 12, 0.5]}, "NONE"),
        ({"values": [*[0.5] * 40, math.nan, 0.5], "freq": "2h"}, "NONE"),
        ({"values": [*[0.5] * 40, math.nan, math.nan, 0.5], "freq": "2h"}, "GAP"),
        ({"segment": segment_of(1, Tte.UNSPECIFIED, "")}, "LOW_LIQUIDITY"),
        ({"segment": segment_of(2, Tte.UNSPECIFIED, "")}, "NONE"),
    ],
)
async def test_a_closed_gate_sends_to_the_baseline(
    fields: Any, reason: str, forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    answer = await forecaster(model).forecast(ask(**fields), 5.0)
    name = "thinker" if reason == "NONE" else "ewma"
    assert told(answer) == (name, reason, "MISS")
    assert model.calls == (reason == "NONE")


async def test_low_liquidity_may_be_sent_to_the_model_by_a_setting(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(), policy={"low_liquidity_to_baseline": False})
    assert told(await made.forecast(ask(segment=segment_of(1, Tte.LE_6H, "")), 5.0)) == GOOD


# Where it runs


async def test_never_in_process_means_that_no_stand_in_is_computed_here(
    forecaster: Make, ask: MakeAsk
) -> None:
    with pytest.raises(NotReady):
        await forecaster(None, in_process="never").forecast(ask(), 5.0)


@pytest.mark.parametrize("manner", ["hangs", TimeoutError()])
async def test_never_in_process_holds_when_the_model_used_up_the_time(
    manner: Any, clock: Any, model_of: Any, ask: MakeAsk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reserve is made longer: a busy machine is not what is tested."""
    for module in (deadline, baselines):
        monkeypatch.setattr(module, "BASELINE_SECONDS", 1.0)
    made = Forecaster(ForecastSettings(in_process="never"), clock)
    baseline = model_of(served_by="ray:b")
    made.connect({"native": model_of(manner), "baseline": baseline})
    answer = await made.forecast(ask(), 1.1)
    assert told(answer) == ("ewma", "DEADLINE", "MISS")
    assert answer.made.bands.served_by == "ray:b"


async def test_never_in_process_lets_the_baselines_on_ray_stand_in(
    clock: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = Forecaster(ForecastSettings(in_process="never"), clock)
    made.connect({"native": model_of(RuntimeError()), "baseline": model_of(served_by="ray:b")})
    answer = await made.forecast(ask(), 5.0)
    assert told(answer) == ("ewma", "BACKEND_ERROR", "MISS")
    assert answer.made.bands.served_by == "ray:b"


@pytest.mark.parametrize("in_process", ["never", "when_ray_is_away"])
def test_no_model_is_loaded_into_this_process_beside_ray(in_process: Any) -> None:
    assert local_backends(ForecastSettings(in_process=in_process)) == {}
    assert set(local_backends(ForecastSettings(in_process="always"))) == {"native"}


async def test_a_model_of_this_process_answers_only_where_ray_is_never_asked(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    remote, local = model_of(served_by="ray:n"), model_of(served_by="here")

    async def served_by(made: Forecaster) -> str:
        return (await made.forecast(ask(), 5.0)).made.bands.served_by

    assert await served_by(forecaster(remote, local=local, in_process="always")) == "here"
    assert await served_by(forecaster(remote, local=local)) == "ray:n"
    answer = await forecaster(None, local=local).forecast(ask(), 5.0)
    assert told(answer) == ("ewma", "BACKEND_UNAVAILABLE", "MISS")
    assert answer.made.bands.served_by == "in-process"
    assert local.calls == 1


async def test_only_failures_of_ray_count_towards_joining_it_again(
    forecaster: Make, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    gone = ConnectionError("gone")
    slow, away, bug = TimeoutError(), ModelAway("503"), RuntimeError("bug")
    wanted_of = [(gone, "ray:n", 2), (gone, "http://peer", 0)]
    wanted_of += [(error, "ray:n", 0) for error in (slow, away, bug)]
    for error, served_by, wanted in wanted_of:
        made = forecaster(model_of(error, served_by), policy=NO_CACHE)
        for _ in range(2):
            await made.forecast(ask(), 5.0)
            await made.forecast(ask(), 5.0)
            clock.ahead += 5.0
        assert made.failures == wanted


async def test_what_a_model_did_is_counted(forecaster: Make, model_of: Any, ask: MakeAsk) -> None:
    made = forecaster(model_of(["well", RuntimeError("bug")]), policy=NO_CACHE)
    for _ in range(2):
        await made.forecast(ask(), 5.0)

    done, stood_in = made.statistics.of("thinker"), made.statistics.of("ewma")

    assert (done.requests, done.failures) == (2, 1)
    assert sum(bar.count for bar in done.batch_sizes.bars()) == 2
    assert (stood_in.requests, stood_in.failures) == (1, 0)
    assert made.statistics.of("auto").requests == 0


async def test_the_query_reaches_the_model_as_it_was_asked(
    forecaster: Make, model_of: Any, ask: MakeAsk
) -> None:
    asked = ask()
    query = Query("thinker", 7, (0.25, 0.75), IDENTITY)
    answer = await forecaster(model_of()).forecast(asked._replace(query=query), 5.0)
    assert answer.made.bands.quantiles.shape == (7, 2)
    assert answer.cache is CacheState.MISS
