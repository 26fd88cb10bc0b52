"""Corrections applied: between steps and levels, within [0, 1], in order, within the width."""

from __future__ import annotations

import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import special

from forecast_service.conformal.adaptive import LEAST, MOST, Settled, fresh
from forecast_service.conformal.fit import Correction
from forecast_service.conformal.scores import SLACK, geometry
from forecast_service.conformal.segments import ALL, chain
from forecast_service.conformal.state import (
    MAX_BYTES,
    MAX_ENTRIES,
    UNCORRECTED,
    ConformalState,
    ModelKey,
)

KEY = ModelKey("ewma", "1", 300)
LEVELS = (0.1, 0.5, 0.9)
SEGMENT = "category=sports|liquidity=LOW|tte=LE_6H"


def state_of(*rows: tuple[int, float, float], segment: str = ALL) -> ConformalState:
    """A state of (step, level, correction), the same for quiet bands and others."""
    made = [
        Correction(segment, quiet, step, level, value, 100, 100)
        for step, level, value in rows
        for quiet in (False, True)
    ]
    return ConformalState("v", {KEY: made})


def corrected(
    state: ConformalState, bands: Any, levels: tuple[float, ...] = LEVELS, **told: Any
) -> Any:
    factors = state.factors(KEY, SEGMENT, len(bands), levels)
    assert factors is not None
    return factors.corrected(np.asarray(bands, dtype=float), **told)


def test_a_correction_moves_each_side_by_its_own_distance_from_the_median() -> None:
    found = corrected(state_of((1, 0.1, 0.5), (1, 0.9, -0.25)), [[0.3, 0.5, 0.6]])
    expected = [0.3 - 0.5 * (0.2 + SLACK), 0.5, 0.6 - 0.25 * (0.1 + SLACK)]
    np.testing.assert_allclose(found, [expected])


def test_between_knots_a_correction_is_linear_in_the_logarithm_of_the_step() -> None:
    state = state_of((1, 0.9, 0.0), (4, 0.9, 1.0))
    factors = state.factors(KEY, SEGMENT, 8, LEVELS)
    assert factors is not None
    np.testing.assert_allclose(
        -factors.wide[:, 2], [0.0, 0.5, np.log(3) / np.log(4), 1.0, 1.0, 1.0, 1.0, 1.0]
    )


def test_between_levels_a_correction_is_linear_in_the_normal_score_and_stays_beyond() -> None:
    state = state_of((1, 0.05, 0.4), (1, 0.1, 0.2), (1, 0.9, 1.0))
    levels = (0.01, 0.07, 0.3, 0.5, 0.7, 0.99)
    factors = state.factors(KEY, SEGMENT, 1, levels)
    assert factors is not None
    found = np.abs(factors.wide[0])
    assert found[0] == 0.4
    assert 0.2 < found[1] < 0.4
    np.testing.assert_allclose(found[2:], [0.2, 0.0, 1.0, 1.0])


def test_the_finest_segment_of_the_chain_that_has_a_correction_speaks() -> None:
    rows = [
        Correction(key, False, 1, level, value, 100, 100)
        for (key, value), level in itertools.product(
            zip(chain(SEGMENT), (1.0, 2.0, 3.0, 4.0), strict=True), (0.1, 0.9)
        )
    ]
    for drop in range(4):
        state = ConformalState("v", {KEY: rows[2 * drop :]})
        factors = state.factors(KEY, SEGMENT, 1, LEVELS)
        assert factors is not None
        assert factors.wide[0].tolist() == [drop + 1.0, 0.0, -(drop + 1.0)]


def test_without_a_correction_bands_stay_as_they_are() -> None:
    state = state_of((1, 0.1, 0.5))
    others = (KEY._replace(model="other"), KEY._replace(version="2"), KEY._replace(freq_seconds=60))
    assert all(state.factors(key, SEGMENT, 1, LEVELS) is None for key in others)
    assert state.factors(KEY, SEGMENT, 1, (0.7, 0.9)) is None
    assert ConformalState("v", {KEY: []}).factors(KEY, SEGMENT, 1, LEVELS) is None
    assert state_of((1, 0.1, 0.5), segment="category=x|liquidity=HIGH|tte=LE_6H").factors(
        KEY, SEGMENT, 1, LEVELS
    ) is None  # fmt: skip
    assert UNCORRECTED.current is None


def test_a_correction_never_crosses_the_median() -> None:
    found = corrected(state_of((1, 0.1, -9.0), (1, 0.9, -9.0)), [[0.3, 0.5, 0.6]])
    np.testing.assert_allclose(found, [[0.5, 0.5, 0.5]])


def test_a_correction_goes_as_far_as_the_width_limits_allow() -> None:
    shape = geometry(LEVELS)
    assert shape is not None
    closing = state_of((1, 0.1, -0.9), (1, 0.9, -0.9))
    np.testing.assert_allclose(
        corrected(closing, [[0.3, 0.5, 0.6]], limits=(0.12, 0.9)) @ shape.width, [0.12]
    )
    opening = state_of((1, 0.1, 9.0), (1, 0.9, 9.0))
    np.testing.assert_allclose(
        corrected(opening, [[0.3, 0.5, 0.6]], limits=(0.02, 0.5)) @ shape.width, [0.5]
    )
    np.testing.assert_array_equal(
        corrected(closing, [[0.49, 0.5, 0.51]], limits=(0.02, 0.9)), [[0.49, 0.5, 0.51]]
    )


def test_quiet_bands_have_their_own_correction() -> None:
    rows = [
        Correction(ALL, quiet, 1, level, 1.0 if quiet else 0.0, 100, 100)
        for quiet in (False, True)
        for level in (0.1, 0.9)
    ]
    factors = ConformalState("v", {KEY: rows}).factors(KEY, SEGMENT, 2, LEVELS)
    assert factors is not None
    bands = np.array([[0.49, 0.5, 0.51], [0.3, 0.5, 0.7]])
    found = factors.corrected(bands, (0.02, 0.9))
    np.testing.assert_allclose(found[0], [0.475, 0.5, 0.525])
    np.testing.assert_array_equal(found[1], bands[1])


@given(
    bands=arrays.arrays(
        np.float64, st.tuples(st.integers(1, 6), st.just(5)), elements=st.floats(0.0, 1.0)
    ),
    values=st.lists(st.floats(-3.0, 50.0), min_size=4, max_size=4),
    limits=st.sampled_from([None, (0.0, 1.0), (0.02, 0.9)]),
)
def test_corrected_bands_are_in_order_and_in_the_unit_interval(
    bands: Any, values: list[float], limits: Any
) -> None:
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    fitted = zip((0.05, 0.25, 0.75, 0.95), values, strict=True)
    state = state_of(*((1, level, value) for level, value in fitted), (1, 0.1, 0.5))
    found = corrected(state, np.sort(bands, axis=1), levels, limits=limits)
    assert found.min() >= 0.0
    assert found.max() <= 1.0
    assert (np.diff(found, axis=1) >= 0.0).all()


def test_an_actual_of_zero_is_covered_by_a_band_that_reaches_it() -> None:
    found = corrected(state_of((1, 0.1, 5.0)), [[0.004, 0.02, 0.06]])
    assert found[0, 0] == 0.0


def test_remembered_factors_do_not_grow_without_bound() -> None:
    state = state_of((1, 0.1, 0.5))
    levels = tuple(np.linspace(0.01, 0.99, 99))
    for horizon in range(1_900, 2_016):
        assert state.factors(KEY, SEGMENT, horizon, levels) is not None
    assert state._bytes <= MAX_BYTES
    assert state.factors(KEY, SEGMENT, 12, LEVELS) is state.factors(KEY, SEGMENT, 12, LEVELS)


def test_small_factors_weigh_what_they_take_and_those_in_use_stay() -> None:
    state = state_of((1, 0.1, 0.5))
    used = state.factors(KEY, SEGMENT, 1, LEVELS)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for i in range(2 * MAX_ENTRIES):
            state.factors(KEY, f"category={i:064}|liquidity=LOW|tte=LE_6H", 1, LEVELS)
            if i % 1_000 == 0:
                assert state.factors(KEY, SEGMENT, 1, LEVELS) is used
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert len(state._known) == MAX_ENTRIES
    assert state._bytes == sum(2_000 + 80 * 3 + 3 * 3 * 8 for _ in state._known)
    assert grown < 2 * state._bytes


# The share of misses that is aimed at


def outcomes(count: int, seed: int = 0, share: float = 0.4) -> list[Settled]:
    rng = np.random.default_rng(seed)
    return [
        Settled(1_000 + i // 3, f"m{i % 3}", i // 3, 1, bool(rng.random() < share))
        for i in range(count)
    ]


def test_the_same_outcome_fed_twice_changes_nothing() -> None:
    told = outcomes(60)
    once = fresh(0.2).after(told, gamma=0.01)
    assert once.outcomes == 60
    assert once.after(told, gamma=0.01) == once
    assert fresh(0.2).after(told + told, gamma=0.01) == once


@given(st.permutations(range(30)), st.integers(0, 30))
def test_outcomes_count_in_the_order_of_their_settling(order: list[int], cut: int) -> None:
    told = outcomes(30)
    expected = fresh(0.2).after(told, gamma=0.05)
    assert fresh(0.2).after([told[i] for i in order], gamma=0.05) == expected
    assert fresh(0.2).after(told[:cut], gamma=0.05).after(told, gamma=0.05) == expected


def test_an_outcome_that_comes_late_is_left_out() -> None:
    told = outcomes(30)
    state = fresh(0.2).after(told[15:], gamma=0.05)
    assert state.after(told[:15], gamma=0.05) == state


def test_the_share_of_misses_goes_to_its_target_whatever_the_data_do() -> None:
    rng = np.random.default_rng(1)
    state, missed, gamma, count = fresh(0.2), 0, 0.02, 6_000
    for i in range(count):
        spread = 1.0 + 0.8 * np.sin(i / 400)  # a scale that nobody was told of
        bound = -special.ndtri(state.alpha / 2.0)  # infinite where no miss is aimed at
        miss = bool(abs(rng.normal(0.0, spread)) > bound)
        missed += miss
        state = state.after([Settled(i, "m", i, 1, miss)], gamma=gamma)
    # Gibbs and Candès, proposition 4.1: |mean miss - target| ≤ (max(α, 1 - α) + γ) / (γ · T).
    assert missed / count == pytest.approx(0.2, abs=(1.0 + gamma) / (gamma * count))


@pytest.mark.parametrize("missed", [False, True])
def test_a_tail_stays_within_what_a_band_can_be(missed: bool) -> None:
    told = [Settled(i, "m", i, 1, missed) for i in range(2_000)]
    state = fresh(0.2).after(told, gamma=0.05)
    assert (state.alpha, state.tail) == ((0.0, LEAST) if missed else (1.0, MOST))
