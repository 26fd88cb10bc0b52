"""A replica: many batches in a call, each with its own result, and a health that is true."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Batch, BatchAnswer, InvalidAnswerError, Query
from forecast_service.envelope import (
    pack,
    pack_answer,
    pack_failure,
    unpack,
    unpack_result,
)
from forecast_service.models import port
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.models.errors import ModelAway, ModelError, ModelLate, ModelRefused
from forecast_service.models.port import RawBands
from forecast_service.replica import Replica, Sick
from forecast_service.transform import LOGIT


class Told:
    """A model that behaves as it is told."""

    def __init__(self, manner: Callable[[], None] = lambda: None) -> None:
        self.manner = manner
        self.budgets: list[float] = []

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        self.budgets.append(budget)
        self.manner()
        rows, steps = batch.values.shape[0], batch.query.horizon_steps
        return RawBands(np.full((rows, steps, 1), 0.5), np.array([0.5]))


def batch(model: str = "ewma", rows: int = 1) -> Batch:
    return Batch(Query(model, 3, (0.1, 0.5, 0.9), LOGIT), np.full((rows, 40), 0.5))


def raising(error: Exception) -> Callable[[], None]:
    def manner() -> None:
        raise error

    return manner


@pytest.fixture
def made() -> Iterator[Callable[..., Replica]]:
    """Makes replicas that are closed at the end."""
    open_ones: list[Replica] = []

    def make(
        models: dict[str, Any], canaries: tuple[Batch, ...] = (), threads: int = 2, **named: float
    ) -> Replica:
        open_ones.append(Replica(models, canaries, threads=threads, **named))
        return open_ones[-1]

    yield make
    for replica in open_ones:
        replica.close()


async def results(replica: Replica, *batches: Batch, budget: float = 5.0) -> list[Any]:
    packed = await replica.answer([pack(one) for one in batches], budget)
    return [unpack_result(one) for one in packed]


async def test_answers_every_batch_of_a_call(made: Any) -> None:
    replica = made({"ewma": BASELINE_MODEL, "last_value": BASELINE_MODEL})
    first, second = await results(replica, batch(rows=3), batch("last_value"))
    assert (first.quantiles.shape, second.quantiles.shape) == ((3, 3, 3), (1, 3, 3))


@pytest.mark.parametrize(
    ("error", "known"),
    [(TimeoutError("late"), ModelLate), (ModelAway("no"), ModelAway),
     (ModelRefused("no"), ModelRefused), (InvalidAnswerError("?"), InvalidAnswerError),
     (ZeroDivisionError("x"), ModelError)],
)  # fmt: skip
async def test_a_batch_that_fails_does_not_fail_the_others(
    made: Any, error: Exception, known: type[Exception]
) -> None:
    replica = made({"bad": Told(raising(error)), "good": Told()})
    good, bad, last = await results(replica, batch("good"), batch("bad"), batch("good"))
    assert isinstance(good, BatchAnswer)
    assert type(bad) is known
    assert isinstance(last, BatchAnswer)


async def test_a_model_that_is_not_there_is_refused(made: Any) -> None:
    (refused,) = await results(made({}), batch("ewma"))
    assert isinstance(refused, ModelRefused)


async def test_a_model_is_told_what_is_left_of_the_budget(made: Any) -> None:
    slow = Told(lambda: time.sleep(0.05))
    await results(made({"slow": slow}), batch("slow"), batch("slow"), budget=1.0)
    assert 0.9 < slow.budgets[0] <= 1.0
    assert slow.budgets[1] <= 0.95


async def test_a_batch_whose_turn_comes_too_late_is_not_computed(made: Any) -> None:
    slow = Told(lambda: time.sleep(0.1))
    given = await results(made({"slow": slow}), batch("slow"), batch("slow"), budget=0.05)
    assert [type(one) for one in given] == [BatchAnswer, ModelLate]
    assert len(slow.budgets) == 1


async def test_calls_are_computed_by_a_bounded_number_of_threads(made: Any) -> None:
    at_once, most = 0, 0
    lock, may_go, two = threading.Lock(), threading.Event(), threading.Event()

    def wait() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        if at_once == 2:
            two.set()
        may_go.wait(5)
        with lock:
            at_once -= 1

    replica = made({"slow": Told(wait)}, threads=2)
    calls = [asyncio.create_task(results(replica, batch("slow"))) for _ in range(6)]
    assert await asyncio.to_thread(two.wait, 5)
    may_go.set()
    await asyncio.gather(*calls)
    assert most == 2


async def test_a_busy_replica_is_well(made: Any) -> None:
    may_go = threading.Event()
    models = {"slow": Told(lambda: bool(may_go.wait(5)) and None), "ewma": BASELINE_MODEL}
    replica = made(models, (batch("ewma"),), threads=1)
    call = asyncio.create_task(results(replica, batch("slow")))
    await asyncio.sleep(0)
    await replica.check_health()
    may_go.set()
    await call


async def test_a_replica_whose_model_fails_later_is_sick(made: Any) -> None:
    model = Told()
    replica = made({"told": model}, (batch("told"),))
    await replica.check_health()
    model.manner = raising(RuntimeError("broken"))
    with pytest.raises(Sick, match=r"told cannot answer its canary.*broken"):
        await replica.check_health()


async def test_a_canary_has_a_time_limit(made: Any) -> None:
    may_go, model = threading.Event(), Told()
    replica = made({"told": model}, (batch("told"),), health_seconds=0.05)
    model.manner = lambda: bool(may_go.wait(5)) and None
    with pytest.raises(Sick, match="no canary within"):
        await replica.check_health()
    may_go.set()


def test_a_replica_that_cannot_answer_its_canary_does_not_become_ready() -> None:
    with pytest.raises(Sick):
        Replica({"told": Told(raising(ValueError("x")))}, (batch("told"),), threads=1)


def test_a_batch_survives_the_way() -> None:
    sent = Batch(batch().query, batch().values, np.array([3.0]))
    came = unpack(pack(sent))
    assert came.query == sent.query
    assert came.steps_to_event is sent.steps_to_event
    answer = port.answer(BASELINE_MODEL, sent, 1.0)
    same = unpack_result(pack_answer(answer))
    assert isinstance(same, BatchAnswer)
    assert same.quantiles is answer.quantiles


def test_a_failure_keeps_its_sentence() -> None:
    assert str(unpack_result(pack_failure(ModelAway("gone")))) == "gone"
    assert "ZeroDivision" in str(unpack_result(pack_failure(ZeroDivisionError("x"))))


def test_the_series_that_a_model_refuses_are_not_numbers() -> None:
    asked = batch(rows=3)
    raw = RawBands(
        np.array([[[0.2, 0.5, 0.8]]] * 2 + [[[np.nan] * 3]]),
        np.array([0.1, 0.5, 0.9]),
        refused=np.array([False, False, True]),
    )
    answer = port.complete(asked, raw)
    assert np.isfinite(answer.quantiles[:2]).all()
    assert np.isnan(answer.quantiles[2]).all()


def test_a_series_without_finite_numbers_fails_alone() -> None:
    bands = np.array([[[0.2, 0.5, 0.8]]] * 3)
    bands[1, 0, 2] = np.inf
    bands[2] = np.nan
    levels, refused = np.array([0.1, 0.5, 0.9]), np.array([False, False, True])

    for marked in (None, refused):
        answer = port.complete(batch(rows=3), RawBands(bands, levels, refused=marked))
        assert np.isfinite(answer.quantiles[0]).all()
        assert np.isnan(answer.quantiles[1:]).all()


def test_an_answer_without_any_finite_series_is_none() -> None:
    raw = RawBands(np.full((2, 1, 1), np.nan), np.array([0.5]))
    with pytest.raises(InvalidAnswerError, match="not finite"):
        port.complete(batch(rows=2), raw)
