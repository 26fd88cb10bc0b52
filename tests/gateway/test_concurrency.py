"""How much may be under way: enough for throughput, too little for a queue."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.call import Call, Identity
from gateway.contract import read_methods
from gateway.interceptors.concurrency import (
    ALWAYS,
    BEFORE,
    LONGEST_RETRY,
    RETRY_AFTER,
    InFlight,
    Place,
    Work,
)
from gateway.interceptors.streams import OpenStreams
from marketcal.errors import Overloaded

METHODS = read_methods()
FORECAST = METHODS["/marketcal.v1.ForecastService/Forecast"]
SCORES = METHODS["/marketcal.v1.ScoreboardService/ListScores"]


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def call_of(caller: str, method: Any = FORECAST, **metadata: str) -> Call:
    context: Any = None
    call = Call(method, context, dict(metadata), 0.0)
    call.identity = Identity(caller, "forecaster", frozenset(), 600, 100)
    return call


def limit_of(clock: Clock) -> InFlight:
    return InFlight(least=100, most=1_000, max_wait=0.02, clock=clock)


def enter(stack: ExitStack, limit: InFlight, caller: str, cost: int = 1, **metadata: str) -> Place:
    place = stack.enter_context(Place(limit, call_of(caller, **metadata)))
    place.grow(cost)
    return place


def refusal_of(limit: InFlight) -> Overloaded:
    """What a caller hears that comes when too much is under way; nothing is, afterwards."""
    with ExitStack() as stack:
        enter(stack, limit, "a", 75)
        enter(stack, limit, "b", 25)
        with pytest.raises(Overloaded) as caught:
            enter(stack, limit, "c")
    return caught.value


def test_callers_together_hold_the_limit_and_no_more(clock: Clock) -> None:
    limit = limit_of(clock)
    with ExitStack() as stack:
        enter(stack, limit, "a", 60)
        enter(stack, limit, "b", 40)
        with pytest.raises(Overloaded):
            enter(stack, limit, "c")
        assert limit.cost == 100
    assert limit.cost == 0
    assert limit.refused == 1


def test_one_caller_leaves_a_quarter_to_the_others(clock: Clock) -> None:
    limit = limit_of(clock)
    with ExitStack() as stack:
        for _ in range(75):
            enter(stack, limit, "greedy")
        with pytest.raises(Overloaded):
            enter(stack, limit, "greedy")
        for _ in range(25):
            enter(stack, limit, "modest")


def test_a_huge_call_counts_as_a_share_and_two_calls_always_may(clock: Clock) -> None:
    limit = limit_of(clock)
    with ExitStack() as stack:
        enter(stack, limit, "batch", 1_000)
        enter(stack, limit, "other", 25)
        assert limit.cost == 100
        with pytest.raises(Overloaded):
            enter(stack, limit, "third")
    with ExitStack() as stack:
        enter(stack, limit, "batch", 1_000)
        enter(stack, limit, "batch", 1_000)  # the next one is read while the first is computed
        with pytest.raises(Overloaded):
            enter(stack, limit, "batch")
    assert limit.cost == 0


def test_a_call_that_was_refused_before_comes_first(clock: Clock) -> None:
    limit = limit_of(clock)
    with ExitStack() as stack:
        enter(stack, limit, "a", 75)
        enter(stack, limit, "b", 25)
        with pytest.raises(Overloaded):
            enter(stack, limit, "c")
        enter(stack, limit, "c", **{BEFORE: "1"})


def test_the_limit_follows_what_is_done_while_busy(clock: Clock) -> None:
    limit = limit_of(clock)
    for _ in range(20):  # 50,000 a second, with pauses that count for nothing
        with Place(limit, call_of("a")) as place:
            place.grow(75)
            clock.now += 0.0015
        with Place(limit, call_of("a")) as place:
            place.grow(75)
            clock.now += 0.0015
        clock.now += 60.0
    for _ in range(40):
        with Place(limit, call_of("a")) as place:
            place.grow(75)
            clock.now += 0.0015
    assert 900 < limit.limit <= 1_000

    for _ in range(30):
        with Place(limit, call_of("a")) as place:
            place.grow(75)
            clock.now += 0.1  # 750 a second: fifteen in 20 ms, below the least
    assert limit.limit == 100


def test_a_refused_caller_hears_about_how_long_the_work_under_way_takes(clock: Clock) -> None:
    limit = limit_of(clock)
    assert refusal_of(limit).retry_after == RETRY_AFTER

    for _ in range(10):
        with Place(limit, call_of("a")) as place:
            place.grow(75)
            clock.now += 0.25  # 300 a second
    assert 0.3 < (refusal_of(limit).retry_after or 0) <= LONGEST_RETRY


def test_reads_go_on_while_forecasts_are_refused(clock: Clock) -> None:
    work = Work(least=4, most=4, max_wait=0.02, clock=clock)
    with ExitStack() as stack:
        for caller in "ab":
            stack.enter_context(work.hold(call_of(caller))).grow(2)
        with pytest.raises(Overloaded):
            stack.enter_context(work.hold(call_of("c")))
        stack.enter_context(work.hold(call_of("c", SCORES)))


def test_what_is_held_is_given_back_whatever_happens(clock: Clock) -> None:
    limit = limit_of(clock)

    def fail() -> None:
        with Place(limit, call_of("a")) as place:
            place.grow(50)
            raise ZeroDivisionError

    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            fail()
    refusal_of(limit)
    assert limit.cost == 0


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 300), st.booleans())))
def test_nobody_is_let_in_above_what_the_rules_allow(steps: list[tuple[str, int, bool]]) -> None:
    limit = limit_of(Clock())
    held: list[tuple[ExitStack, Place]] = []
    for caller, cost, ends in steps:
        if ends and held:
            held.pop(0)[0].close()
        stack, before = ExitStack(), limit.cost
        try:
            held.append((stack, enter(stack, limit, caller, cost)))
        except Overloaded:
            stack.close()
            assert limit.cost == before
            assert len(held) >= ALWAYS
            continue
        assert limit.cost == sum(place.cost for _, place in held)
        if len(held) > ALWAYS:
            assert limit.cost <= 100
            assert sum(place.cost for _, place in held if place.caller == caller) <= 75
    for stack, _ in held:
        stack.close()
    assert limit.cost == 0


def test_streams_are_bounded_in_all_and_by_caller() -> None:
    streams = OpenStreams(3, 2)
    with ExitStack() as stack:
        stack.enter_context(streams.hold(call_of("a")))
        stack.enter_context(streams.hold(call_of("a")))
        with pytest.raises(Overloaded, match="this caller"):
            stack.enter_context(streams.hold(call_of("a")))
        stack.enter_context(streams.hold(call_of("b")))
        with pytest.raises(Overloaded, match="too many streams"):
            stack.enter_context(streams.hold(call_of("c")))
    assert streams.count == 0
    with streams.hold(call_of("a")):
        assert streams.count == 1
