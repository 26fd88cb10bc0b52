"""Laws of the rate limiter."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.gcra import Limiter

RATES = st.floats(1.0, 100_000.0)
BURSTS = st.integers(1, 5_000)
CALLS = st.lists(
    st.tuples(st.floats(0.0, 30.0), st.integers(1, 200)), min_size=1, max_size=60
)  # (seconds since the last call, cost)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@given(rate=RATES, burst=BURSTS, calls=CALLS)
def test_no_window_lets_more_through_than_burst_and_rate_allow(
    rate: float, burst: int, calls: list[tuple[float, int]]
) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    passed: list[tuple[float, int]] = []
    for pause, cost in calls:
        clock.now += pause
        if limiter.check("me", cost, rate_per_minute=rate, burst=burst).allowed:
            passed.append((clock.now, cost))

    for first in range(len(passed)):
        spent = 0
        for now, cost in passed[first:]:
            spent += cost
            allowed = burst + rate / 60.0 * (now - passed[first][0])
            assert spent <= allowed * (1 + 1e-6) + 1e-3


@given(rate=RATES, burst=BURSTS, calls=CALLS)
def test_a_refused_call_costs_nothing(
    rate: float, burst: int, calls: list[tuple[float, int]]
) -> None:
    clock = Clock()
    with_refusals, without = Limiter(clock), Limiter(clock)
    for pause, cost in calls:
        clock.now += pause
        verdict = with_refusals.check("me", cost, rate_per_minute=rate, burst=burst)
        if verdict.allowed:
            assert without.check("me", cost, rate_per_minute=rate, burst=burst) == verdict


@given(rate=RATES, burst=BURSTS, spent=st.integers(1, 5_000), cost=st.integers(1, 5_000))
def test_the_call_passes_when_retry_after_is_over_and_not_before(
    rate: float, burst: int, spent: int, cost: int
) -> None:
    clock = Clock()
    limiter = Limiter(clock)
    limiter.check("me", min(spent, burst), rate_per_minute=rate, burst=burst)
    verdict = limiter.check("me", cost, rate_per_minute=rate, burst=burst)
    if verdict.allowed:
        return
    if cost > burst:
        assert verdict.retry_after == math.inf
        return
    began = clock.now
    clock.now = began + verdict.retry_after * 0.999 - 1e-6
    assert not limiter.check("me", cost, rate_per_minute=rate, burst=burst).allowed
    clock.now = began + verdict.retry_after + 1e-6
    assert limiter.check("me", cost, rate_per_minute=rate, burst=burst).allowed


@given(burst=BURSTS, cost=st.integers(1, 5_000))
def test_a_full_bucket_holds_exactly_the_burst(burst: int, cost: int) -> None:
    limiter = Limiter(Clock())
    verdict = limiter.check("me", cost, rate_per_minute=60.0, burst=burst)
    assert verdict.allowed == (cost <= burst)
    assert verdict.remaining == (burst - cost if verdict.allowed else burst)


def test_identities_have_buckets_of_their_own() -> None:
    limiter = Limiter(Clock())
    assert limiter.check("me", 1, rate_per_minute=1, burst=1).allowed
    assert not limiter.check("me", 1, rate_per_minute=1, burst=1).allowed
    assert limiter.check("you", 1, rate_per_minute=1, burst=1).allowed


def test_identities_are_bounded_and_the_idlest_is_forgotten() -> None:
    limiter = Limiter(Clock(), capacity=3)
    for name in ("a", "b", "c"):
        limiter.check(name, 1, rate_per_minute=1, burst=2)
    limiter.check("a", 1, rate_per_minute=1, burst=2)

    limiter.check("d", 1, rate_per_minute=1, burst=2)

    assert len(limiter) == 3
    assert not limiter.check("a", 1, rate_per_minute=1, burst=2).allowed
    assert limiter.check("b", 2, rate_per_minute=1, burst=2).allowed


@pytest.mark.parametrize("seconds", [1.0, 86_400.0 * 365])
def test_a_bucket_is_full_again_after_reset_after(seconds: float) -> None:
    clock = Clock()
    clock.now = seconds
    limiter = Limiter(clock)
    verdict = limiter.check("me", 5, rate_per_minute=60, burst=10)
    clock.now += verdict.reset_after
    assert limiter.check("me", 10, rate_per_minute=60, burst=10).allowed
