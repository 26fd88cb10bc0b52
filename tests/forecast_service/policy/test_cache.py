"""An answer serves again only for the same question, and stands in only while it may."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import math
import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Bands
from forecast_service.models.catalog import CATALOG
from forecast_service.policy.cache import ForecastCache, input_key
from forecast_service.policy.decision import (
    Ask,
    BandKind,
    FallbackReason,
    Made,
    ModelFailed,
    inputs_of,
)
from forecast_service.policy.flights import Flights
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.settings import PolicySettings
from forecast_service.postprocess import WidthLimits
from forecast_service.segment import Tte, segment_of
from forecast_service.settings import ForecastSettings
from forecast_service.transform import IDENTITY

MakeAsk = Callable[..., Ask]


@pytest.fixture
def forecaster(clock: Any) -> Callable[..., Forecaster]:
    def make(backend: Any, **policy: Any) -> Forecaster:
        made = Forecaster(ForecastSettings(policy=policy), clock)
        made.connect({"native": backend})
        return made

    return make


async def state(made: Forecaster, ask: Ask) -> str:
    answer = await made.forecast(ask, 5.0)
    return f"{answer.cache.name} {answer.made.card.name} {answer.made.reason.name}"


async def test_the_same_question_is_a_hit_for_a_minute(
    forecaster: Any, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of()
    made = forecaster(model)
    assert await state(made, ask()) == "MISS thinker NONE"
    clock.ahead += 59.0
    assert await state(made, ask(market_id="another")) == "HIT thinker NONE"
    clock.ahead += 1.0
    assert await state(made, ask()) == "MISS thinker NONE"
    assert model.calls == 2


def differing(ask: MakeAsk) -> dict[str, Ask]:
    asked = ask()

    def with_query(**fields: Any) -> Ask:
        return asked._replace(query=dataclasses.replace(asked.query, **fields))

    version = asked.card.model_copy(update={"version": "4"})
    weights = asked.card.model_copy(update={"digest": f"sha256:{'1' * 64}"})
    return {
        "values": ask(values=[*[0.5] * 63, 0.6]),
        "length": ask(values=[0.5] * 63),
        "tte": asked._replace(series=dataclasses.replace(asked.series, steps_to_event=3.0)),
        "band": asked._replace(band=BandKind.RAW),
        "liquidity": asked._replace(segment=segment_of(2, Tte.UNSPECIFIED, "")),
        "category": asked._replace(segment=segment_of(0, Tte.UNSPECIFIED, "sports")),
        "version": asked._replace(card=version),
        "weights": asked._replace(card=weights),
        "model": with_query(model="other"),
        "horizon": with_query(horizon_steps=4),
        "levels": with_query(levels=(0.1, 0.5, 0.91)),
        "transform": with_query(transform=IDENTITY),
        "freq": with_query(freq_seconds=60),
        "limits": with_query(limits=WidthLimits(0.1, 0.8)),
    }


def test_whatever_the_answer_rests_on_is_part_of_the_key(ask: MakeAsk) -> None:
    others = differing(ask)
    keys = {input_key(ask()), *map(input_key, others.values())}
    assert len(keys) == len(others) + 1
    assert input_key(ask()) == input_key(ask(market_id="another", caller="another"))


async def test_a_stale_answer_stands_in_before_a_baseline_does(
    forecaster: Any, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of()
    made = forecaster(model)
    first = await made.forecast(ask(), 5.0)
    model.manner = RuntimeError("bug")
    later = ask(values=[*[0.4] * 50, math.nan, 0.4])

    clock.ahead += 119.0
    answer = await made.forecast(later, 5.0)
    assert answer.cache.name == "STALE"
    assert answer.made.reason is FallbackReason.NONE
    assert answer.earlier == inputs_of(first.series) == (64, 0.0)
    np.testing.assert_array_equal(answer.made.bands.quantiles, first.made.bands.quantiles)
    clock.ahead += 1.0
    assert await state(made, later) == "MISS ewma BACKEND_ERROR"


@pytest.mark.parametrize(
    "fields",
    [{"market_id": "another"}, {"caller": "another"}, {"horizon": 4}, {"band": BandKind.RAW}],
)
async def test_a_stale_answer_is_of_the_same_caller_market_and_query(
    fields: Any, forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    made = forecaster(model)
    await made.forecast(ask(), 5.0)
    model.manner = RuntimeError("bug")
    assert await state(made, ask(values=[0.4] * 64, **fields)) == "MISS ewma BACKEND_ERROR"


async def test_a_closed_gate_is_no_failure_and_takes_no_stale_answer(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of())
    await made.forecast(ask(), 5.0)
    assert await state(made, ask(values=[0.5] * 20)) == "MISS ewma TOO_FEW_POINTS"


async def test_a_fallback_serves_again_for_two_seconds_and_never_as_the_model(
    forecaster: Any, model_of: Any, ask: MakeAsk, clock: Any
) -> None:
    model = model_of(RuntimeError("bug"))
    made = forecaster(model)
    await made.forecast(ask(), 5.0)
    assert await state(made, ask()) == "HIT ewma BACKEND_ERROR"
    clock.ahead += 2.0
    assert await state(made, ask()) == "MISS ewma BACKEND_ERROR"
    clock.ahead += 2.0
    model.manner = "well"
    assert await state(made, ask()) == "MISS thinker NONE"


async def test_a_caller_in_haste_downgrades_nobody_else(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of())
    hasty = await made.forecast(ask(caller="hasty"), 0.02)
    assert hasty.made.reason is FallbackReason.DEADLINE
    assert await state(made, ask(caller="patient")) == "MISS thinker NONE"


async def test_a_model_that_hung_is_asked_again_by_those_with_more_time(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(["hangs", "well"]))
    assert (await made.forecast(ask(), 0.1)).made.reason is FallbackReason.DEADLINE
    assert await state(made, ask()) == "MISS thinker NONE"


async def test_remembered_numbers_cannot_be_changed(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of())
    for _ in range(2):
        bands = (await made.forecast(ask(), 5.0)).made.bands
        with pytest.raises(ValueError, match="read-only"):
            bands.quantiles[0, 0] = 0.0
        assert bands.quantiles.base is None


@pytest.mark.parametrize(("remembered", "states"), [(False, "NOT_CONSULTED"), (True, "HIT")])
async def test_baselines_are_remembered_only_when_a_setting_says_so(
    remembered: bool, states: str, forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(), cache_baselines=remembered)
    query = dataclasses.replace(ask().query, model="ewma")
    asked = ask(card=CATALOG["ewma"], query=query)
    await made.forecast(asked, 5.0)
    assert (await made.forecast(asked, 5.0)).cache.name == states


# Single flight


async def test_identical_questions_share_one_call(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    made = forecaster(model)
    answers = await asyncio.gather(*(made.forecast(ask(), 5.0) for _ in range(64)))
    assert model.sizes == [1]
    assert {answer.made.card.name for answer in answers} == {"thinker"}


async def test_one_who_leaves_takes_nobody_along(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    model = model_of()
    model.may_answer.clear()
    made = forecaster(model)
    tasks = [asyncio.create_task(made.forecast(ask(), 5.0)) for _ in range(4)]
    async with asyncio.timeout(20):
        await model.began.wait()
    tasks[0].cancel()
    await asyncio.sleep(0)
    model.may_answer.set()

    answers = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert [a.made.card.name for a in answers[1:]] == ["thinker"] * 3  # type: ignore[union-attr]
    assert model.calls == 1


async def test_a_call_that_nobody_waits_for_ends(clock: Any) -> None:
    flights, ended = Flights(clock), asyncio.Event()

    async def fly() -> Bands:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    tasks = [asyncio.create_task(flights.join(b"k", 5.0, fly)) for _ in range(3)]
    await asyncio.sleep(0.01)
    for task in tasks:
        task.cancel()
    async with asyncio.timeout(20):
        await ended.wait()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert len(flights) == 0


async def test_a_hasty_leader_does_not_shorten_the_time_of_others(clock: Any) -> None:
    flights, begun = Flights(clock), []

    async def fly(seconds: float) -> Bands:
        """A call that ends within the time of whoever began it, as those of a lane do."""
        begun.append(1)
        await asyncio.sleep(min(0.05, seconds))
        in_time = seconds >= 0.05
        raise ModelFailed(FallbackReason.BACKEND_ERROR if in_time else FallbackReason.DEADLINE)

    async def outcome(seconds: float) -> str:
        try:
            await flights.join(b"k", seconds, lambda: fly(seconds))
        except ModelFailed as failed:
            return failed.reason.name
        raise AssertionError

    found = await asyncio.gather(outcome(0.01), outcome(5.0), outcome(4.0))
    assert found == ["DEADLINE", "BACKEND_ERROR", "BACKEND_ERROR"]
    assert len(begun) == 2


# Memory


def made_of(horizon: int = 12) -> Made:
    bands = Bands(np.full((horizon, 3), 0.5), 0, np.zeros(4, dtype=np.int64), horizon, "test")
    return Made(bands, CATALOG["ewma"])


def test_the_least_recently_used_leaves_when_the_bytes_are_used_up(
    ask: MakeAsk, clock: Any
) -> None:
    cache = ForecastCache(PolicySettings(cache_bytes=20_000), clock)
    keys = [bytes([i]) * 16 for i in range(40)]
    for i, key in enumerate(keys):
        cache.put(key, ask(market_id=f"m{i}"), made_of())
        assert cache.fresh(keys[0]) is not None
        assert cache.size <= 20_000
    assert cache.fresh(keys[1]) is None
    assert cache.stale(ask(market_id="m1")) is None
    assert cache.stale(ask(market_id="m39")) is not None
    cache.put(b"x" * 16, ask(), made_of(2_000))
    assert cache.fresh(b"x" * 16) is None


def test_the_newest_answer_of_a_market_outlives_the_eviction_of_an_older_one(
    ask: MakeAsk, clock: Any
) -> None:
    cache = ForecastCache(PolicySettings(cache_bytes=6_000), clock)
    cache.put(b"1" * 16, ask(), made_of())
    cache.put(b"2" * 16, ask(), made_of())
    for name in "xy":
        cache.put(name.encode() * 16, ask(market_id=name), made_of())

    assert cache.fresh(b"1" * 16) is None
    assert cache.stale(ask()) is not None


def test_memory_stays_within_its_bound_over_many_markets(ask: MakeAsk, clock: Any) -> None:
    bound = 2 << 20
    cache = ForecastCache(PolicySettings(cache_bytes=bound), clock)
    asked, made = ask(), made_of()
    tracemalloc.start()
    try:
        for i in range(20_000):
            of_market = asked._replace(market_id=f"market-{i}")
            cache.put(i.to_bytes(16, "big"), of_market, made)
            if i == 5_000:
                settled = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert grown <= 1.1 * settled
    assert grown <= 1.2 * bound


async def test_distinct_markets_leave_nothing_behind_but_the_cache(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    made = forecaster(model_of(), cache_bytes=200_000)
    for start in range(0, 3_000, 100):
        asked = [ask(market_id=f"m{i}", values=[i / 3_000] * 40) for i in range(start, start + 100)]
        await asyncio.gather(*(made.forecast(a, 5.0) for a in asked))
    assert made._cache.size <= 200_000
    assert len(made._flights) == 0


@pytest.mark.soak
async def test_memory_stays_bounded_over_a_hundred_thousand_requests(
    forecaster: Any, model_of: Any, ask: MakeAsk
) -> None:
    """Distinct markets and prices; the process may not grow once the cache is full."""
    made = forecaster(model_of(), cache_bytes=8 << 20)
    resident = []
    for start in range(0, 100_000, 500):
        asked = [
            ask(market_id=f"m{i}", values=[i / 100_000] * 288) for i in range(start, start + 500)
        ]
        await asyncio.gather(*(made.forecast(a, 5.0) for a in asked))
        if start % 10_000 == 0:
            gc.collect()
            resident.append(_resident_mib())
    print(f"resident MiB each 10,000 requests: {[round(size) for size in resident]}")
    assert made._cache.size <= 8 << 20
    assert resident[-1] <= 1.05 * resident[3] + 2.0


def _resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / (1 << 20)
