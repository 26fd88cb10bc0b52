"""The breaker opens on failures and slowness, tries again with few, and never wedges."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecast_service.policy.breaker import Breaker, BreakerState, Permit
from forecast_service.policy.settings import PolicySettings


class Hands:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def breaker(hands: Hands) -> Breaker:
    return Breaker(PolicySettings(), hands)


def call(breaker: Breaker, hands: Hands, *, failed: bool, seconds: float = 0.01) -> None:
    began = hands.now
    hands.now += seconds
    breaker.record(began, failed=failed)


def trip(breaker: Breaker, hands: Hands) -> None:
    for _ in range(5):
        call(breaker, hands, failed=True)
    assert breaker.state is BreakerState.OPEN


def rest(hands: Hands) -> None:
    hands.now += 120.0


def test_fewer_than_five_calls_never_open_it(breaker: Breaker, hands: Hands) -> None:
    for _ in range(4):
        call(breaker, hands, failed=True)
    assert breaker.state is BreakerState.CLOSED
    call(breaker, hands, failed=True)
    assert breaker.state is BreakerState.OPEN


def test_it_opens_long_before_every_call_fails(breaker: Breaker, hands: Hands) -> None:
    for failed in (False, False, *[True] * 8):
        call(breaker, hands, failed=failed)
    assert breaker.state is BreakerState.OPEN


def test_failures_below_the_rate_leave_it_closed(breaker: Breaker, hands: Hands) -> None:
    for i in range(40):
        call(breaker, hands, failed=i % 4 != 0)
    assert breaker.state is BreakerState.CLOSED


def test_failures_that_are_too_old_do_not_count(breaker: Breaker, hands: Hands) -> None:
    for _ in range(4):
        call(breaker, hands, failed=True)
    hands.now += 60.0
    call(breaker, hands, failed=True)
    assert breaker.state is BreakerState.CLOSED


def test_slow_calls_open_it_though_they_answer(breaker: Breaker, hands: Hands) -> None:
    for _ in range(5):
        call(breaker, hands, failed=False, seconds=0.9)
    assert breaker.state is BreakerState.OPEN


def test_it_stays_open_for_two_minutes(breaker: Breaker, hands: Hands) -> None:
    trip(breaker, hands)
    hands.now += 119.9
    assert breaker.admit() is None
    hands.now += 0.2
    assert breaker.state is BreakerState.HALF_OPEN


def test_half_open_lets_through_a_bounded_number(breaker: Breaker, hands: Hands) -> None:
    trip(breaker, hands)
    rest(hands)
    permits = [breaker.admit() for _ in range(64)]
    assert sum(permit is not None for permit in permits) == 2
    assert breaker.state is BreakerState.HALF_OPEN


def test_two_successes_close_it(breaker: Breaker, hands: Hands) -> None:
    trip(breaker, hands)
    rest(hands)
    states = []
    for _ in range(2):
        permit = breaker.admit()
        assert permit is not None
        call(breaker, hands, failed=False)
        permit.release()
        states.append(breaker.state)
    assert states == [BreakerState.HALF_OPEN, BreakerState.CLOSED]


@pytest.mark.parametrize(("failed", "seconds"), [(True, 0.01), (False, 0.9)])
def test_a_failed_or_slow_trial_opens_it_again(
    failed: bool, seconds: float, breaker: Breaker, hands: Hands
) -> None:
    trip(breaker, hands)
    rest(hands)
    breaker.admit()
    call(breaker, hands, failed=failed, seconds=seconds)
    assert breaker.state is BreakerState.OPEN
    hands.now += 100.0
    assert breaker.admit() is None


def test_a_late_failure_of_before_does_not_end_a_trial(breaker: Breaker, hands: Hands) -> None:
    long_ago = hands.now
    trip(breaker, hands)
    rest(hands)
    assert breaker.state is BreakerState.HALF_OPEN
    breaker.record(long_ago, failed=True)
    assert breaker.state is BreakerState.HALF_OPEN


def test_a_permit_that_is_given_back_twice_counts_once(breaker: Breaker, hands: Hands) -> None:
    trip(breaker, hands)
    rest(hands)
    first, second = breaker.admit(), breaker.admit()
    assert first is not None
    assert second is not None
    first.release()
    first.release()
    assert breaker.admit() is not None
    assert breaker.admit() is None


def test_a_permit_that_nobody_gives_back_expires(breaker: Breaker, hands: Hands) -> None:
    trip(breaker, hands)
    rest(hands)
    assert breaker.admit()
    assert breaker.admit()
    assert breaker.admit() is None
    hands.now += 10.0
    assert breaker.admit() is not None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["admit", "good", "bad", "slow", "cancel", "forget", "wait", "late"]),
        st.integers(0, 7),
    ),
    max_size=120,
)


@given(STEPS)
def test_whatever_happens_a_healthy_backend_is_used_again(steps: list[tuple[str, int]]) -> None:
    """Any interleaving of trials, cancellations and losses ends closed once calls go well."""
    hands = Hands()
    breaker = Breaker(PolicySettings(), hands)
    held: list[tuple[Permit, float]] = []

    def settle(place: int, what: str) -> None:
        permit, began = held.pop(place % len(held))
        if what != "cancel":
            hands.now += 1.0 if what == "slow" else 0.0
            breaker.record(began, failed=what == "bad")
        if what != "forget":
            permit.release()

    acts: dict[str, Callable[[int], object]] = {
        "wait": lambda n: setattr(hands, "now", hands.now + 30.0 * n),
        "late": lambda n: breaker.record(hands.now - 200.0 - n, failed=True),
    }
    for what, n in steps:
        hands.now += 0.001
        if what in acts:
            acts[what](n)
        elif what == "admit":
            permit = breaker.admit()
            if permit is not None:
                held.append((permit, hands.now))
        elif held:
            settle(n, what)
    hands.now += 200.0
    for _ in range(30):
        hands.now += 0.01
        permit = breaker.admit()
        assert permit is not None
        breaker.record(hands.now, failed=False)
        permit.release()
    assert breaker.state is BreakerState.CLOSED


@pytest.mark.parametrize(
    ("seconds", "state"), [(1.5, BreakerState.CLOSED), (1.7, BreakerState.OPEN)]
)
def test_a_call_is_slow_from_a_share_of_the_longest_wait_on(
    seconds: float, state: BreakerState, hands: Hands
) -> None:
    breaker = Breaker(PolicySettings(model_seconds=2.0), hands)
    for _ in range(6):
        call(breaker, hands, failed=False, seconds=seconds)
    assert breaker.state is state
