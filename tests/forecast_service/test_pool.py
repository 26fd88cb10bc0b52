"""The pool: many callers, few calls, and nobody suffers for another."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Bands, Batch, BatchAnswer, InvalidAnswerError, Query
from forecast_service.in_process import InProcess
from forecast_service.models.baselines import answer
from forecast_service.pool import Pool
from forecast_service.series import Series, series_of
from forecast_service.transform import LOGIT
from marketcal.errors import Overloaded


def query(horizon: int = 3) -> Query:
    return Query("last_value", horizon, (0.1, 0.5, 0.9), LOGIT)


def series(price: float = 0.5) -> Series:
    return series_of([price] * 8, "5m")


class Recorder:
    """A backend that answers truly, as the test lets it, and remembers what it was asked."""

    served_by = "test"

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.spoil: Callable[[list[BatchAnswer]], Any] = lambda answers: answers

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        self.sizes.append(sum(batch.values.shape[0] for batch in batches))
        self.began.set()
        await self.may_answer.wait()
        return list(self.spoil([answer(batch) for batch in batches]))


def pool_of(backend: Any, *, batch: int = 512, queue: int = 4_096, parallel: int = 1) -> Pool:
    return Pool(
        backend, time.monotonic, max_batch=batch, max_queue=queue, parallel_batches=parallel
    )


async def outcomes(futures: Sequence[asyncio.Future[Bands]]) -> list[Bands | BaseException]:
    async with asyncio.timeout(20):
        return await asyncio.gather(*futures, return_exceptions=True)


async def test_what_comes_together_travels_together() -> None:
    backend = Recorder()
    pool = pool_of(backend)

    await outcomes([pool.submit(query(), series(i / 100)) for i in range(1, 65)])

    assert sum(backend.sizes) == 64
    assert len(backend.sizes) <= 4


async def test_what_comes_while_all_slots_are_taken_gathers() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend)
    first = pool.submit(query(), series())
    await backend.began.wait()
    rest = []
    for i in range(1, 41):
        rest.append(pool.submit(query(1 + i % 3), series(i / 100)))
        await asyncio.sleep(0)
    backend.may_answer.set()

    bands = await outcomes([first, *rest])

    assert backend.sizes == [1, 40]
    assert all(isinstance(band, Bands) for band in bands)


async def test_a_lone_caller_does_not_wait_for_others() -> None:
    pool = pool_of(InProcess())

    async with asyncio.timeout(20):
        bands = await pool.submit(query(), series(0.3))

    assert bands.served_by == "in-process"
    assert bands.quantiles.shape == (3, 3)


async def test_everybody_gets_the_answer_to_the_own_question() -> None:
    pool = pool_of(InProcess(), batch=7, parallel=3)
    asked = [(1 + i % 4, i / 200) for i in range(1, 200)]

    answers = await outcomes([pool.submit(query(h), series(p)) for h, p in asked])

    for (horizon, price), bands in zip(asked, answers, strict=True):
        assert isinstance(bands, Bands)
        assert bands.quantiles.shape == (horizon, 3)
        alone = answer(Batch(query(horizon), np.full((1, 8), price))).quantiles[0]
        np.testing.assert_array_equal(bands.quantiles, alone)


async def test_a_batch_is_never_larger_than_allowed() -> None:
    backend = Recorder()
    pool = pool_of(backend, batch=5)

    await outcomes([pool.submit(query(), series()) for _ in range(23)])

    assert max(backend.sizes) <= 5
    assert sum(backend.sizes) == 23


async def test_a_full_queue_refuses_and_says_when_to_come_back() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend, queue=2)
    first = pool.submit(query(), series())
    await backend.began.wait()
    waiting = [pool.submit(query(), series()) for _ in range(2)]

    with pytest.raises(Overloaded) as caught:
        pool.submit(query(), series())

    assert caught.value.retry_after
    backend.may_answer.set()
    assert all(isinstance(band, Bands) for band in await outcomes([first, *waiting]))


async def test_a_cancelled_series_leaves_its_batch() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend)
    first = pool.submit(query(), series())
    await backend.began.wait()
    waiting = [pool.submit(query(), series()) for _ in range(6)]
    for future in waiting[::2]:
        future.cancel()
    backend.may_answer.set()

    kept = await outcomes([first, *waiting[1::2]])

    assert backend.sizes == [1, 3]
    assert all(isinstance(band, Bands) for band in kept)


async def test_a_series_that_is_cancelled_on_the_way_harms_nobody() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend)
    futures = [pool.submit(query(), series()) for _ in range(4)]
    await backend.began.wait()
    futures[1].cancel()
    backend.may_answer.set()

    answers = await outcomes(futures)

    assert [type(a) for a in answers] == [Bands, asyncio.CancelledError, Bands, Bands]


async def test_a_budget_that_ends_is_a_timeout_for_its_caller_alone() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend)
    patient = pool.submit(query(), series(), 20.0)
    hasty = pool.submit(query(), series(), 0.0)

    with pytest.raises(TimeoutError):
        await hasty
    backend.may_answer.set()
    assert isinstance((await outcomes([patient]))[0], Bands)


async def test_an_error_of_the_backend_reaches_its_callers_and_the_pool_goes_on() -> None:
    backend = Recorder()
    pool = pool_of(backend)

    def explode(_answers: list[BatchAnswer]) -> list[BatchAnswer]:
        raise ConnectionError("gone")

    for _ in range(3):
        backend.spoil = explode
        failed = await outcomes([pool.submit(query(), series()) for _ in range(3)])
        assert all(isinstance(error, ConnectionError) for error in failed)
        backend.spoil = lambda answers: answers
        assert isinstance((await outcomes([pool.submit(query(), series())]))[0], Bands)


SPOILS: dict[str, Callable[[np.ndarray[Any, Any]], np.ndarray[Any, Any]]] = {
    "another shape": lambda bands: bands[:, :-1],
    "fewer series": lambda bands: bands[:0],
    "not a number": lambda bands: bands * np.nan,
    "above one": lambda bands: bands + 1.0,
    "crossing": lambda bands: bands[:, :, ::-1],
}


@pytest.mark.parametrize("name", SPOILS)
async def test_garbage_is_never_passed_on(name: str) -> None:
    backend = Recorder()
    backend.spoil = lambda answers: [
        BatchAnswer(SPOILS[name](a.quantiles), a.flags, a.adjusted, a.effective_horizon)
        for a in answers
    ]

    found = await outcomes([pool_of(backend).submit(query(), series(0.4)) for _ in range(2)])

    assert all(isinstance(error, InvalidAnswerError) for error in found)


@pytest.mark.parametrize("answers", [[], None])
async def test_too_few_answers_are_an_error(answers: Any) -> None:
    backend = Recorder()
    backend.spoil = lambda _: answers

    found = await outcomes([pool_of(backend).submit(query(), series())])

    assert isinstance(found[0], Exception)


@pytest.mark.parametrize("bad", [0, 1, 2])
async def test_a_bad_batch_fails_only_its_own_items(bad: int) -> None:
    backend = Recorder()

    def spoil_one(answers: list[BatchAnswer]) -> list[BatchAnswer]:
        spoiled = answers[bad]
        answers[bad] = BatchAnswer(
            spoiled.quantiles * np.nan, spoiled.flags, spoiled.adjusted, spoiled.effective_horizon
        )
        return answers

    backend.spoil = spoil_one
    pool = pool_of(backend)
    futures = [pool.submit(query(1 + i), series()) for i in range(3)]

    found = await outcomes(futures)

    assert [isinstance(a, Bands) for a in found] == [i != bad for i in range(3)]


async def test_a_backend_that_hangs_does_not_keep_its_slot_for_ever() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend, parallel=1)
    with pytest.raises(TimeoutError):
        await pool.submit(query(), series(), 0.02)
    backend.answer = InProcess().answer  # type: ignore[method-assign]

    assert isinstance((await outcomes([pool.submit(query(), series(), 0.5)]))[0], Bands)


async def test_callers_who_gave_up_do_not_fill_the_queue() -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend, queue=2)
    first = pool.submit(query(), series())
    await backend.began.wait()
    for future in [pool.submit(query(), series()) for _ in range(2)]:
        future.cancel()
    await asyncio.sleep(0)

    try:
        waiting = pool.submit(query(), series())
    finally:
        backend.may_answer.set()
        await outcomes([first])
    assert isinstance((await outcomes([waiting]))[0], Bands)


async def test_batches_are_bounded_by_the_numbers_in_their_answers() -> None:
    """512 series × 2,016 steps × 99 levels would be 800 MB for each array on the way."""
    backend = Recorder()
    levels = tuple(i / 100 for i in range(1, 100))
    asked = Query("last_value", 2_016, levels, LOGIT)

    await outcomes([pool_of(backend).submit(asked, series()) for _ in range(1)])
    pool = pool_of(backend)
    await outcomes([pool.submit(asked, series()) for _ in range(8)])

    assert max(backend.sizes) * 2_016 * 99 <= 800_000


class Shapes(Recorder):
    """A backend that remembers the shapes of its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        self.shapes += [batch.values.shape for batch in batches]
        return await super().answer(batches, budget)


async def test_series_of_very_different_length_do_not_pad_each_other() -> None:
    backend = Shapes()
    backend.may_answer.clear()
    pool = pool_of(backend)
    first = pool.submit(query(), series())
    await backend.began.wait()
    lengths = (8, 60, 64, 65, 288, 289, 500, 2_000)
    asked = [series_of([0.5] * n, "5m", context_steps=4_096) for n in lengths]
    rest = [pool.submit(query(), item) for item in asked]
    backend.may_answer.set()

    assert all(isinstance(band, Bands) for band in await outcomes([first, *rest]))

    assert backend.sizes == [1, 8]
    assert sorted(backend.shapes[1:]) == [(1, 65), (1, 288), (1, 2_000), (2, 500), (3, 64)]


@pytest.mark.parametrize("name", ["not a number", "above one", "crossing"])
async def test_one_bad_series_of_a_batch_fails_alone(name: str) -> None:
    backend = Recorder()
    backend.may_answer.clear()
    pool = pool_of(backend)
    first = pool.submit(query(), series())
    await backend.began.wait()
    futures = [pool.submit(query(), series(0.1 + i / 10)) for i in range(5)]

    def spoil(answers: list[BatchAnswer]) -> list[BatchAnswer]:
        bands = answers[0].quantiles.copy()
        if bands.shape[0] == 5:
            bands[3:4] = SPOILS[name](bands[3:4])
        a = answers[0]
        return [BatchAnswer(bands, a.flags, a.adjusted, a.effective_horizon)]

    backend.spoil = spoil
    backend.may_answer.set()
    found = await outcomes([first, *futures])

    assert [isinstance(a, Bands) for a in found] == [True, True, True, True, False, True]
    assert isinstance(found[4], InvalidAnswerError)
