"""Limits that gateways share through a real Redis, and keep when it is away."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from gateway.gcra import Limiter
from gateway.shared_limits import PAUSE_SECONDS, PREFIX, SharedLimits
from gateway.supervisor.ports import free_port

KEY = ("caller", "forecast.read")
LIMIT: dict[str, Any] = {"rate_per_minute": 60.0, "burst": 10}


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def redis_url(redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> str:
    port = free_port()
    redis_server(tmp_path_factory.mktemp("redis"), port)
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture
async def limits(redis_url: str, clock: Clock) -> Any:
    """Limits of two gateways on one empty Redis."""
    redis: Any = Redis.from_url(redis_url)
    await redis.flushdb()
    await redis.aclose()
    both = [SharedLimits(redis_url, Limiter(clock), clock) for _ in range(2)]
    yield both
    for one in both:
        await one.close()


async def test_two_gateways_share_one_bucket(limits: list[SharedLimits]) -> None:
    one, other = limits
    verdicts = [await (one, other)[n % 2].check(KEY, 1, **LIMIT) for n in range(12)]

    assert [verdict.allowed for verdict in verdicts] == [True] * 10 + [False] * 2
    assert [verdict.remaining for verdict in verdicts[:10]] == list(range(9, -1, -1))
    assert 0.5 < verdicts[-1].retry_after <= 1.0
    assert 9.0 < verdicts[-1].reset_after <= 10.0
    assert (one.stood_in, other.stood_in) == (0, 0)


async def test_many_at_once_take_exactly_the_burst(limits: list[SharedLimits]) -> None:
    asked = [limits[n % 2].check(KEY, 2, rate_per_minute=1.0, burst=50) for n in range(60)]
    verdicts = await asyncio.gather(*asked)
    assert sum(verdict.allowed for verdict in verdicts) == 25


async def test_a_refused_call_takes_nothing(limits: list[SharedLimits]) -> None:
    one, _ = limits
    assert (await one.check(KEY, 8, **LIMIT)).allowed
    assert not (await one.check(KEY, 5, **LIMIT)).allowed
    assert (await one.check(KEY, 2, **LIMIT)).allowed


async def test_callers_and_scopes_have_buckets_of_their_own(limits: list[SharedLimits]) -> None:
    one, _ = limits
    for key in (KEY, ("other", KEY[1]), (KEY[0], "scoreboard.read")):
        assert (await one.check(key, 10, **LIMIT)).allowed


async def test_what_can_never_pass_is_told_so(limits: list[SharedLimits]) -> None:
    verdict = await limits[0].check(KEY, 11, **LIMIT)
    assert (verdict.allowed, verdict.retry_after) == (False, float("inf"))


async def test_a_bucket_is_forgotten_when_it_is_full(
    limits: list[SharedLimits], redis_url: str
) -> None:
    await limits[0].check(KEY, 3, rate_per_minute=6000.0, burst=10)  # full again after 30 ms
    redis: Any = Redis.from_url(redis_url, decode_responses=True)
    end = time.monotonic() + 5
    while await redis.keys(f"{PREFIX}*"):
        assert time.monotonic() < end
        await asyncio.sleep(0.01)
    await redis.aclose()


async def test_the_bucket_in_redis_and_the_one_here_agree(limits: list[SharedLimits]) -> None:
    """The same costs at once, until both refuse: the same number pass."""
    here = Limiter(time.monotonic)
    costs = [1, 3, 2, 5, 1, 7, 4, 1, 2, 9, 1]
    there = [(await limits[0].check(KEY, cost, **LIMIT)).allowed for cost in costs]
    assert there == [here.check(KEY, cost, **LIMIT).allowed for cost in costs]


async def test_limits_stay_when_redis_goes_away_and_are_shared_again_when_it_returns(
    redis_server: Any, tmp_path: Path, clock: Clock
) -> None:
    port = free_port()
    process = redis_server(tmp_path, port)
    shared = SharedLimits(f"redis://127.0.0.1:{port}/0", Limiter(clock), clock)
    assert (await shared.check(KEY, 1, **LIMIT)).allowed
    process.kill()
    process.wait()

    began = time.perf_counter()
    verdicts = [await shared.check(KEY, 1, **LIMIT) for _ in range(200)]
    seconds = time.perf_counter() - began

    assert shared.away
    assert shared.stood_in == 200
    assert sum(verdict.allowed for verdict in verdicts) == 10  # of this process alone, and no more
    assert seconds < 1.0  # a dead Redis costs one call in a pause its wait
    redis_server(tmp_path, port)
    clock.now += PAUSE_SECONDS
    assert (await shared.check(KEY, 1, **LIMIT)).remaining == 9
    assert not shared.away
    await shared.close()


async def test_a_redis_that_is_silent_holds_a_call_up_for_a_moment_alone(clock: Clock) -> None:
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections and never says a word
    port = silent.getsockname()[1]
    shared = SharedLimits(f"redis://127.0.0.1:{port}/0", Limiter(clock), clock)

    began = time.perf_counter()
    verdict = await shared.check(KEY, 1, **LIMIT)

    assert verdict.allowed
    assert time.perf_counter() - began < 1.0
    assert shared.away
    await shared.close()
    silent.close()


async def test_an_answer_that_makes_no_sense_is_none(clock: Clock) -> None:
    def answer_zero() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            with connection:
                while connection.recv(65_536):
                    connection.sendall(b":0\r\n" * 8)

    server = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=answer_zero, daemon=True)
    thread.start()
    shared = SharedLimits(f"redis://127.0.0.1:{server.getsockname()[1]}/0", Limiter(clock), clock)

    async with asyncio.timeout(5):
        verdicts = await asyncio.gather(*(shared.check(KEY, 1, **LIMIT) for _ in range(12)))

    assert sum(verdict.allowed for verdict in verdicts) == 10
    await shared.close()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
