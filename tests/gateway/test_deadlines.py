"""Many calls share a timer, and each ends on its own."""

from __future__ import annotations

import asyncio
import time

import pytest

from gateway.deadlines import RESOLUTION_SECONDS, Deadlines


async def test_a_body_that_runs_too_long_is_ended_a_tenth_of_a_second_late_at_most() -> None:
    deadlines = Deadlines()
    began = time.monotonic()

    with pytest.raises(TimeoutError):
        async with deadlines.within(0.2):
            await asyncio.sleep(10)

    assert 0.2 <= time.monotonic() - began < 0.2 + RESOLUTION_SECONDS + 0.5


async def test_a_body_that_ends_in_time_is_left_alone() -> None:
    deadlines = Deadlines()
    async with deadlines.within(0.05):
        pass

    await asyncio.sleep(0.25)  # the timer has come by; it must cancel nobody

    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_time_that_is_over_ends_the_body_at_its_first_pause() -> None:
    with pytest.raises(TimeoutError):
        async with Deadlines().within(-1.0):
            await asyncio.sleep(10)


async def test_calls_of_one_timer_end_and_go_on_by_themselves() -> None:
    deadlines = Deadlines()

    async def run(seconds: float, work: float) -> str:
        try:
            async with deadlines.within(seconds):
                await asyncio.sleep(work)
        except TimeoutError:
            return "ended"
        return "done"

    met = await asyncio.gather(run(0.1, 5), run(0.1, 0), run(5, 0.3), run(0.1, 5))

    assert met == ["ended", "done", "done", "ended"]


async def test_a_cancellation_from_elsewhere_stays_one() -> None:
    deadlines = Deadlines()

    async def body() -> None:
        async with deadlines.within(0.1):
            await asyncio.sleep(10)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_error_of_the_body_passes_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Deadlines().within(1.0):
            raise ZeroDivisionError
