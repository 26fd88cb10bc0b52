"""Corrections: the order statistic, what counts for it, and whose they are."""

from __future__ import annotations

import doctest
import importlib
from math import sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from forecast_service.conformal.fit import Correction, Rules, effective_size, fit_step, rank
from forecast_service.conformal.independent import split, thinned
from forecast_service.conformal.scores import SLACK, geometry, is_quiet, scores
from forecast_service.conformal.segments import ALL, chain

LEVELS = (0.1, 0.5, 0.9)
EASY = Rules(min_samples=20, min_events=10)
MODULES = ("scores", "independent", "segments", "fit", "adaptive")


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"forecast_service.conformal.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def fitted(outcomes: Any, **told: Any) -> dict[tuple[str, bool, float], Correction]:
    usual = {"step": 1, "freq_seconds": 300, "rules": EASY}
    rows = fit_step(outcomes, LEVELS, **(usual | told))
    return {(row.segment, row.quiet, row.level): row for row in rows}


@pytest.mark.parametrize("samples", [9, 19, 50, 99, 500])
@pytest.mark.parametrize("share", [0.75, 0.9, 0.95])
def test_the_order_statistic_covers_at_least_its_share_on_exchangeable_scores(
    samples: int, share: float
) -> None:
    at = rank(samples, samples, share)
    if at is None:
        assert samples < share / (1 - share)
        return
    rng = np.random.default_rng(samples)
    draws = 20_000
    drawn = rng.standard_normal((draws, samples + 1))
    bound = np.sort(drawn[:, :-1], axis=1)[:, at - 1]
    found = float((drawn[:, -1] <= bound).mean())
    exact = at / (samples + 1)
    assert exact >= share - 1e-12
    assert exact < share + 1 / (samples + 1)
    assert found == pytest.approx(exact, abs=4 * sqrt(exact * (1 - exact) / draws))


@given(st.integers(1, 500), st.floats(1.0, 500.0), st.floats(0.5, 0.999))
def test_windows_that_carry_less_never_ask_for_less(
    samples: int, effective: float, share: float
) -> None:
    of_less, of_all = rank(samples, min(effective, samples), share), rank(samples, samples, share)
    if of_less is None:
        return
    assert of_all is not None
    assert of_all <= of_less <= samples


@pytest.mark.parametrize("common", [0.0, 0.5, 1.0])
def test_windows_of_few_events_carry_what_their_design_effect_says(common: float) -> None:
    rng = np.random.default_rng(4)
    event = np.repeat(np.arange(400), 10)
    shared, own = rng.random(400) < 0.9, rng.random(4_000) < 0.9
    inside = np.where(rng.random(4_000) < common, shared[event], own)
    correlation = common**2  # both windows took their event's
    assert effective_size(inside, event) == pytest.approx(4_000 / (1 + 9 * correlation), rel=0.25)


@pytest.mark.parametrize("each", [1, 20])
def test_the_order_statistic_covers_on_other_events_whatever_they_share(each: int) -> None:
    rng = np.random.default_rng(6)
    events, level, found = 60, 0.9, []
    event = np.repeat(np.arange(events), each)
    for _ in range(1_500):
        score = 0.8 * rng.standard_normal(events)[event] + 0.6 * rng.standard_normal(event.size)
        first = np.sort(score)[int(np.ceil(score.size * level)) - 1]
        at = rank(score.size, effective_size(score <= first, event), level)
        assert at is not None
        found.append(special.ndtr(np.sort(score)[at - 1]))
    spread = float(np.std(found)) / np.sqrt(len(found))
    print(f"{each} windows of each of {events} events: {np.mean(found):.4f}")
    assert float(np.mean(found)) == pytest.approx(level, abs=0.005 + 4 * spread)


def test_too_few_windows_or_events_give_no_correction(windows: Any) -> None:
    bands, actual = np.tile([0.4, 0.5, 0.6], (40, 1)), np.linspace(0.2, 0.8, 40)
    assert fitted(windows(bands, actual)) != {}
    assert fitted(windows(bands[:19], actual[:19])) == {}
    assert fitted(windows(bands, actual, event=np.arange(40) // 5)) == {}
    one_market = windows(bands, actual, market=np.zeros(40, dtype=np.int64))
    assert fitted(one_market) == {}


def test_a_level_that_needs_more_events_than_there_are_is_left_alone(windows: Any) -> None:
    levels = (0.01, 0.1, 0.5, 0.9, 0.99)
    outcomes = windows(np.tile([0.3, 0.4, 0.5, 0.6, 0.7], (50, 1)), np.linspace(0.1, 0.9, 50))
    rows = fit_step(outcomes, levels, step=1, freq_seconds=300, rules=EASY)
    assert {row.level for row in rows} == {0.1, 0.9}  # 0.01 would need 99 events


def test_an_actual_on_a_bound_is_inside(windows: Any) -> None:
    outcomes = windows(np.tile([0.4, 0.5, 0.6], (100, 1)), [0.4] * 100)
    assert fitted(outcomes)[ALL, False, 0.1].correction == 0.0


def test_an_actual_of_zero_is_an_actual_and_a_missing_one_is_not(windows: Any) -> None:
    bands = np.tile([0.4, 0.5, 0.6], (60, 1))
    zeros = fitted(windows(bands, [0.0] * 60))[ALL, False, 0.1]
    assert (zeros.samples, zeros.correction) == (60, pytest.approx(0.4 / (0.1 + SLACK)))
    holes = np.where(np.arange(60) < 30, np.nan, 0.5)
    assert fitted(windows(bands, holes))[ALL, False, 0.1].samples == 30


def test_scores_are_in_units_of_the_distance_from_the_median() -> None:
    shape = geometry(LEVELS)
    assert shape is not None
    given_bands = np.array([[0.3, 0.5, 0.6], [0.3, 0.5, 0.6], [0.3, 0.5, 0.6]])
    found = scores(given_bands, shape, np.array([0.2, 0.5, 0.7]))
    np.testing.assert_allclose(found[:, 0], np.array([0.1, -0.2, -0.4]) / (0.2 + SLACK))
    np.testing.assert_allclose(found[:, 2], np.array([-0.4, -0.1, 0.1]) / (0.1 + SLACK))
    assert np.isnan(found[:, 1]).all()


def test_scores_do_not_mind_levels_that_a_band_does_not_have() -> None:
    shape = geometry((0.05, 0.1, 0.5, 0.9, 0.95))
    assert shape is not None
    found = scores(np.array([[np.nan, 0.3, 0.5, 0.6, np.nan]]), shape, np.array([0.2]))
    assert np.isnan(found[0]).tolist() == [True, False, True, False, True]
    assert is_quiet(np.array([[np.nan, 0.49, 0.5, 0.51, np.nan]]), shape).tolist() == [True]


def test_quiet_bands_are_corrected_apart_from_the_others(windows: Any) -> None:
    quiet, wide = np.tile([0.49, 0.5, 0.51], (50, 1)), np.tile([0.3, 0.5, 0.7], (50, 1))
    actual = np.concatenate([np.full(50, 0.5), np.full(50, 0.9)])
    found = fitted(windows(np.concatenate([quiet, wide]), actual))
    assert found[ALL, True, 0.9].correction < 0.0 < found[ALL, False, 0.9].correction
    assert found[ALL, True, 0.9].samples == found[ALL, False, 0.9].samples == 50


def test_a_segment_with_few_windows_speaks_through_coarser_ones(windows: Any) -> None:
    many, few = "category=a|liquidity=LOW|tte=LE_6H", "category=b|liquidity=LOW|tte=LE_6H"
    other = "category=a|liquidity=HIGH|tte=GT_72H"
    segment = np.array([0] * 50 + [1] * 10 + [2] * 10)
    bands = np.tile([0.4, 0.5, 0.6], (70, 1))
    found = fitted(
        windows(bands, np.linspace(0.2, 0.8, 70), segment=segment, segments=(many, few, other))
    )
    counts = {key: row.samples for (key, _, level), row in found.items() if level == 0.1}
    assert counts == {many: 50, chain(many)[1]: 60, chain(many)[2]: 60, ALL: 70}
    assert next(key for key in chain(few) if key in counts) == chain(few)[1]
    assert next(key for key in chain(other) if key in counts) == ALL


def test_tails_are_made_smaller_or_larger_for_the_segments_that_say_so(windows: Any) -> None:
    rng = np.random.default_rng(0)
    outcomes = windows(np.tile([0.4, 0.5, 0.6], (4_000, 1)), 0.5 + rng.normal(0, 0.1, 4_000))
    usual = fitted(outcomes)[ALL, False, 0.9].correction
    assert fitted(outcomes, tails={ALL: 0.5})[ALL, False, 0.9].correction > usual
    assert fitted(outcomes, tails={ALL: 2.0})[ALL, False, 0.9].correction < usual
    assert fitted(outcomes, tails={"another": 2.0})[ALL, False, 0.9].correction == usual


# Independence


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), min_size=1, max_size=60),
    st.integers(1, 80),
)
def test_windows_that_are_kept_never_overlap_and_none_is_left_out_in_vain(
    made: list[tuple[int, int]], spacing: int
) -> None:
    market, origin = np.array(made).T
    keep = thinned(market, origin, spacing=spacing)
    for one in set(market.tolist()):
        kept = np.sort(origin[keep & (market == one)])
        assert (np.diff(kept) >= spacing).all()
        for at in origin[(market == one) & ~keep]:
            assert (np.abs(kept - at) < spacing).any()


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, 300), st.booleans()), min_size=1, max_size=60
    ),
    st.integers(1, 80),
)
def test_preferred_windows_are_kept_as_if_there_were_no_others(
    made: list[tuple[int, int, bool]], spacing: int
) -> None:
    market, origin, first = np.array(made).T
    first = first.astype(bool)
    keep = thinned(market, origin, spacing=spacing, preferred=first)
    alone = thinned(market[first], origin[first], spacing=spacing)
    assert keep[first].tolist() == alone.tolist()
    for one in set(market.tolist()):
        kept = np.sort(origin[keep & (market == one)])
        assert (np.diff(kept) >= spacing).all()
        for at in origin[(market == one) & ~keep]:
            assert (np.abs(kept - at) < spacing).any()


def test_windows_without_a_level_take_no_place_of_those_that_have_it(windows: Any) -> None:
    whole, few = [0.3, 0.4, 0.5, 0.6, 0.7], [np.nan, 0.4, 0.5, 0.6, np.nan]
    outcomes = windows(
        np.tile([few, whole], (40, 1)), np.repeat(np.linspace(0.2, 0.8, 40), 2),
        market=np.repeat(np.arange(40), 2), origin=np.tile([0, 300], 40),
    )  # fmt: skip
    rows = fit_step(outcomes, (0.05, 0.1, 0.5, 0.9, 0.95), step=3, freq_seconds=300, rules=EASY)
    assert {(row.level, row.samples) for row in rows} == {
        (level, 40) for level in (0.05, 0.1, 0.9, 0.95)
    }


@pytest.mark.parametrize(
    "levels", [LEVELS, (0.05, 0.5, 0.95), (0.005, 0.5, 0.995), (0.05, 0.25, 0.5, 0.75, 0.95)]
)
@pytest.mark.parametrize(("deviation", "quiet"), [(0.0075, True), (0.0082, False)])
def test_whether_a_normal_band_is_quiet_does_not_hang_on_its_levels(
    levels: tuple[float, ...], deviation: float, quiet: bool
) -> None:
    shape = geometry(levels)
    assert shape is not None
    bands = 0.5 + deviation * special.ndtri(np.array([levels]))
    assert is_quiet(bands, shape).tolist() == [quiet]
    wider = geometry((0.001, *levels, 0.999))
    assert wider is not None
    holes = np.concatenate([[[np.nan]], bands, [[np.nan]]], axis=1)
    assert is_quiet(holes, wider).tolist() == [quiet]


def test_overlapping_windows_of_one_market_count_once(windows: Any) -> None:
    count = 600
    outcomes = windows(
        np.tile([0.4, 0.5, 0.6], (count, 1)), np.linspace(0.2, 0.8, count),
        market=np.arange(count) // 20, event=np.arange(count) // 20,
        origin=(np.arange(count) % 20) * 300,
    )  # fmt: skip
    assert fitted(outcomes)[ALL, False, 0.1].samples == 600
    assert fitted(outcomes, step=10)[ALL, False, 0.1].samples == 60
    assert fitted(outcomes, step=20)[ALL, False, 0.1].samples == 30


@given(st.lists(st.integers(0, 1000), max_size=40), st.integers(0, 1000), st.integers(1, 100))
def test_between_fitted_and_measured_windows_lies_a_horizon(
    origins: list[int], at: int, horizon: int
) -> None:
    origin = np.array(origins, dtype=np.int64)
    fit_on, measure_on = split(origin, at=at, horizon_seconds=horizon)
    assert not (fit_on & measure_on).any()
    if fit_on.any() and measure_on.any():
        assert origin[measure_on].min() - (origin[fit_on].max() + horizon) >= horizon


def test_levels_on_one_side_of_the_median_cannot_be_fitted(windows: Any) -> None:
    outcomes = windows(np.tile([0.6, 0.7], (30, 1)), [0.5] * 30)
    with pytest.raises(ValueError, match="both sides"):
        fit_step(outcomes, (0.7, 0.9), step=1, freq_seconds=300, rules=EASY)
