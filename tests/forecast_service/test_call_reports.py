"""What is told of each call to a backend: how it went, for whom, and in whose time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Bands, Batch, BatchAnswer, InvalidAnswerError, Query
from forecast_service.models.baselines import answer
from forecast_service.models.errors import ModelAway, ModelLate, ModelRefused
from forecast_service.pool import CallReport, Pool
from forecast_service.series import Series, series_of
from forecast_service.transform import LOGIT


def query(horizon: int = 3) -> Query:
    return Query("last_value", horizon, (0.1, 0.5, 0.9), LOGIT)


def series(price: float = 0.5) -> Series:
    return series_of([price] * 8, "5m")


class Recorder:
    """A backend that answers truly, as the test lets it."""

    served_by = "test"

    def __init__(self) -> None:
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.spoil: Callable[[list[BatchAnswer]], Any] = lambda answers: answers

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        await self.may_answer.wait()
        return list(self.spoil([answer(batch) for batch in batches]))


async def outcomes(futures: Sequence[asyncio.Future[Any]]) -> list[Any]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*futures, return_exceptions=True)


async def watched(backend: Any, *asked: tuple[Query, Series], budget: float | None) -> CallReport:
    """What is told of the one call that carries all series."""
    calls: list[CallReport] = []
    pool = Pool(
        backend, time.monotonic, max_batch=len(asked), max_queue=99, parallel_batches=1,
        watch=calls.append,
    )  # fmt: skip
    await outcomes([pool.submit(*one, budget) for one in asked])
    async with asyncio.timeout(20):
        while pool._running:
            await asyncio.gather(*pool._running, return_exceptions=True)
    assert len(calls) == 1
    return calls[0]


async def test_a_call_is_reported_once_with_its_parts() -> None:
    asked = [(query(1), series()), (query(2), series()), (query(2), series(0.4))]
    call = await watched(Recorder(), *asked, budget=9.0)
    assert call.error is None
    assert [(p.model, p.series, p.failures) for p in call.parts] == [
        ("last_value", 1, 0), ("last_value", 2, 0),
    ]  # fmt: skip
    assert 0.0 <= call.seconds < call.budget <= 9.0


async def test_a_call_has_failed_only_when_no_series_has_an_answer() -> None:
    backend = Recorder()
    backend.spoil = lambda answers: [
        answers[0],
        BatchAnswer(answers[1].quantiles * np.nan, *_rest(answers[1])),
    ]
    asked = [(query(1), series()), (query(2), series())]
    call = await watched(backend, *asked, budget=None)
    assert call.error is None
    assert [part.failures for part in call.parts] == [0, 1]

    backend.spoil = lambda answers: [BatchAnswer(a.quantiles * np.nan, *_rest(a)) for a in answers]
    call = await watched(backend, *asked, budget=None)
    assert isinstance(call.error, InvalidAnswerError)


@pytest.mark.parametrize(
    ("error", "counts"),
    [(ModelLate("late"), True), (ModelAway("away"), True), (RuntimeError("bug"), True),
     (ModelRefused("no"), False), (InvalidAnswerError("?"), False)],
)  # fmt: skip
async def test_a_batch_that_failed_by_the_backend_s_fault_fails_its_call(
    error: Exception, counts: bool
) -> None:
    backend = Recorder()
    backend.spoil = lambda answers: [answers[0], error]
    calls: list[CallReport] = []
    pool = Pool(
        backend, time.monotonic, max_batch=2, max_queue=9, parallel_batches=1, watch=calls.append
    )
    asked = [pool.submit(query(steps), series()) for steps in (1, 2)]

    good, bad = await outcomes(asked)

    assert isinstance(good, Bands)
    assert bad is error
    assert [call.error for call in calls] == [error if counts else None]
    assert [part.failures for part in calls[0].parts] == [0, 1]


def _rest(given: BatchAnswer) -> tuple[Any, ...]:
    return given.flags, given.adjusted, given.effective_horizon


async def test_a_call_that_ran_out_of_time_is_reported_with_its_budget() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    call = await watched(backend, (query(), series()), budget=0.02)
    assert isinstance(call.error, TimeoutError)
    assert call.budget <= 0.02
    assert call.parts[0].failures == 1


async def test_a_cancellation_by_the_backend_is_a_lost_connection() -> None:
    """The caller did not leave, and must not look as if."""
    backend = Recorder()

    def cancel(_answers: list[BatchAnswer]) -> list[BatchAnswer]:
        raise asyncio.CancelledError

    backend.spoil = cancel
    found = await outcomes([_pool(backend).submit(query(), series())])
    assert isinstance(found[0], ConnectionError)


def _pool(backend: Any) -> Pool:
    return Pool(backend, time.monotonic, max_batch=1, max_queue=1, parallel_batches=1)
