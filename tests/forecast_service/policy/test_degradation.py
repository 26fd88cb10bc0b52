"""Each state of a backend follows from its failure rate and changes what is done."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecast_service.policy.breaker import BreakerState, Rates
from forecast_service.policy.degradation import Degradation, DegradationState
from forecast_service.policy.settings import PolicySettings

NORMAL, DEGRADED, BASELINE_ONLY = DegradationState


def walk(*rates: float, calls: int = 20) -> list[DegradationState]:
    degradation = Degradation(PolicySettings())
    return [degradation.state(BreakerState.CLOSED, Rates(calls, rate, 0.0)) for rate in rates]


def test_a_rising_failure_rate_goes_through_the_states_at_their_thresholds() -> None:
    assert walk(0.0, 0.29, 0.3, 0.69, 0.7) == [NORMAL, NORMAL, DEGRADED, DEGRADED, BASELINE_ONLY]


def test_a_state_is_left_only_well_below_the_rate_that_led_to_it() -> None:
    way_back = walk(0.75, 0.6, 0.56, 0.55, 0.2, 0.16, 0.15)
    assert way_back == [*[BASELINE_ONLY] * 3, DEGRADED, DEGRADED, DEGRADED, NORMAL]


def test_a_rate_at_the_edge_does_not_flap() -> None:
    assert walk(0.3, 0.29, 0.3, 0.28, 0.31) == [DEGRADED] * 5


def test_a_few_calls_say_nothing() -> None:
    assert walk(1.0, 0.5, calls=4) == [NORMAL, NORMAL]


def test_a_window_without_failures_is_normal_however_few_calls_it_holds() -> None:
    degradation = Degradation(PolicySettings())
    degradation.state(BreakerState.CLOSED, Rates(20, 0.75, 0.0))
    assert degradation.state(BreakerState.CLOSED, Rates(0, 0.0, 0.0)) is NORMAL


@pytest.mark.parametrize("breaker", [BreakerState.OPEN, BreakerState.HALF_OPEN])
def test_while_the_breaker_is_not_closed_baselines_answer(breaker: BreakerState) -> None:
    degradation = Degradation(PolicySettings())
    assert degradation.state(breaker, Rates(0, 0.0, 0.0)) is BASELINE_ONLY
    assert degradation.state(BreakerState.CLOSED, Rates(1, 0.0, 0.0)) is NORMAL


def test_each_state_differs_from_the_others_in_what_it_does() -> None:
    settings = PolicySettings()
    degradation = Degradation(settings)
    normal, degraded, baseline_only = map(degradation.behaviour, DegradationState)

    assert (normal.retries, normal.seconds, normal.one_in) == (1, 1.0, 1)
    assert (degraded.retries, degraded.seconds, degraded.one_in) == (0, 0.5, 1)
    assert (baseline_only.retries, baseline_only.one_in) == (0, settings.probe_every)


def test_baseline_only_lets_one_request_in_n_through() -> None:
    degradation = Degradation(PolicySettings(probe_every=4))
    behaviour = degradation.behaviour(BASELINE_ONLY)
    through = [degradation.lets_through(behaviour) for _ in range(12)]
    assert through == [False, False, False, True] * 3


@given(st.lists(st.floats(0.0, 1.0), max_size=40))
def test_the_state_never_contradicts_the_rate(rates: list[float]) -> None:
    for rate, state in zip(rates, walk(*rates), strict=True):
        assert state is not NORMAL or rate < 0.3
        assert state is not BASELINE_ONLY or rate > 0.55
