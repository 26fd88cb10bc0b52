"""Interval scores agree with a published library; intervals on them resample events."""

from __future__ import annotations

import numpy as np
import pytest
import scoringrules

from forecast_service import interval_scores as scores

LEVELS = np.array([0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95])


def bands(rng: np.random.Generator, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    return np.sort(rng.random((rows, LEVELS.size)), axis=1), rng.random(rows)


def test_pinball_is_the_quantile_score_of_scoringrules() -> None:
    quantiles, actual = bands(np.random.default_rng(1))
    ours = scores.pinball(quantiles, LEVELS, actual)
    for place, level in enumerate(LEVELS):
        theirs = scoringrules.quantile_score(actual, quantiles[:, place], level)
        assert np.allclose(ours[:, place], theirs)


def test_winkler_is_the_interval_score_of_scoringrules() -> None:
    quantiles, actual = bands(np.random.default_rng(2))
    low, high = quantiles[:, 1], quantiles[:, 5]
    theirs = scoringrules.interval_score(actual, low, high, 0.2)
    assert np.allclose(scores.winkler(low, high, actual, 0.8), theirs)


def test_the_weighted_interval_score_weighs_the_interval_scores_of_scoringrules() -> None:
    """The library's own weighted score (0.8.0) adds the median where its error belongs."""
    quantiles, actual = bands(np.random.default_rng(3))
    total = 0.5 * np.abs(actual - quantiles[:, 3])
    for place, alpha in enumerate(2 * LEVELS[:3]):
        score = scoringrules.interval_score(
            actual, quantiles[:, place], quantiles[:, -1 - place], alpha
        )
        total += alpha / 2 * score
    assert np.allclose(scores.weighted_interval_score(quantiles, LEVELS, actual), total / 3.5)


def test_a_weighted_interval_score_needs_symmetric_levels() -> None:
    with pytest.raises(ValueError, match="symmetric"):
        scores.weighted_interval_score(np.zeros((1, 3)), np.array([0.1, 0.5, 0.8]), np.zeros(1))


def test_crps_from_many_quantiles_is_that_of_the_normal_distribution() -> None:
    levels = np.linspace(0.0005, 0.9995, 1000)
    from scipy import stats

    quantiles = np.tile(stats.norm.ppf(levels), (5, 1))
    actual = np.array([-2.0, -0.5, 0.0, 0.7, 1.5])
    theirs = scoringrules.crps_normal(actual, 0.0, 1.0)
    assert np.allclose(scores.crps(quantiles, levels, actual), theirs, atol=2e-3)


def test_an_actual_on_the_bound_is_inside() -> None:
    inside = scores.covered(np.array([0.1, 0.1]), np.array([0.1, 0.2]), np.array([0.1, 0.21]))
    assert inside.tolist() == [True, False]


def test_an_interval_on_a_mean_covers_it_when_windows_of_an_event_move_together() -> None:
    """Nominal 95 %; 300 replications of 100 events: 0.95 ± 4 standard errors of 0.0126."""
    rng = np.random.default_rng(5)
    event = np.repeat(np.arange(100), 8).astype(str)
    hits = 0
    for _ in range(300):
        shared = np.repeat(rng.normal(size=100), 8)
        found = scores.mean(shared + rng.normal(size=800), event, rng=rng)
        hits += found.low <= 0.0 <= found.high
    assert 0.90 <= hits / 300 <= 1.0


def test_a_ratio_counts_its_events() -> None:
    found = scores.ratio_of_means(
        np.array([1.0, 1.0, 4.0]), np.array([2.0, 2.0, 4.0]), np.array(["a", "a", "b"]),
        rng=np.random.default_rng(1),
    )  # fmt: skip
    assert (found.value, found.events) == (0.75, 2)
    assert found.low <= found.value <= found.high


def test_columns_share_their_samples_and_one_without_a_denominator_has_no_figure() -> None:
    event = np.array(["a", "a", "b", "c"])
    above = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 0.0], [4.0, 4.0, 0.0], [3.0, 3.0, 0.0]])
    below = np.ones_like(above)
    below[:, 2] = 0.0
    first, same, none = scores.ratios_of_means(above, below, event, rng=np.random.default_rng(1))
    assert first == same
    assert first == scores.mean(above[:, 0], event, rng=np.random.default_rng(1))
    assert np.isnan([none.value, none.low, none.high]).all()


def test_a_breach_has_a_side_and_a_tie_is_none() -> None:
    low, high = np.full(4, 0.4), np.full(4, 0.6)
    sides = scores.breach(low, high, np.array([0.39, 0.4, 0.6, 0.61]))
    assert sides.tolist() == [-1, 0, 0, 1]


def test_the_breach_rate_is_what_coverage_leaves() -> None:
    rng = np.random.default_rng(21)
    actual, event = rng.random(5_000), np.repeat(np.arange(500), 10).astype(str)
    low, high = np.full(5_000, 0.1), np.full(5_000, 0.9)
    found = scores.breach_rate(low, high, actual, event, rng=rng)
    assert found.value == pytest.approx(1.0 - scores.covered(low, high, actual).mean())
    assert found.low < 0.2 < found.high
    assert found.events == 500


def test_what_is_missing_is_neither_inside_nor_outside() -> None:
    rng = np.random.default_rng(22)
    actual, event = rng.random(4_000), np.repeat(np.arange(400), 10).astype(str)
    low, high = np.full(4_000, 0.1), np.full(4_000, 0.9)
    actual[rng.random(4_000) < 0.3] = np.nan
    low[:50], high[50:100], actual[100:120] = np.nan, np.inf, np.inf
    known = np.isfinite(low) & np.isfinite(high) & np.isfinite(actual)
    inside = scores.covered(low[known], high[known], actual[known]).mean()
    found = scores.breach_rate(low, high, actual, event, rng=rng)
    assert inside + found.value == pytest.approx(1.0, abs=1e-12)
    assert found.events == np.unique(event[known]).size < 400
    nothing = scores.breach_rate(low, high, np.full(4_000, np.nan), event, rng=rng)
    assert np.isnan(nothing.value)
    assert nothing.events == 0


def test_a_breach_is_followed_when_the_price_goes_on_in_its_direction() -> None:
    side = np.array([1, 1, -1, -1, 0, 1])
    later = np.array(
        [
            [0.70, 0.75],  # on by exactly the least move
            [0.60, 0.74],
            [np.nan, 0.60],
            [0.90, 0.99],  # back, however far
            [0.99, 0.99],  # there was no breach
            [np.nan, np.nan],  # nothing is known
        ]
    )
    found = scores.followed(side, np.full(6, 0.7), later)
    assert np.array_equal(found, [1.0, 0.0, 1.0, 0.0, np.nan, np.nan], equal_nan=True)


def test_follow_through_counts_known_breaches_only() -> None:
    rng = np.random.default_rng(22)
    side, later = np.array([1, 1, 0, -1]), np.array([[0.8], [0.7], [0.9], [np.nan]])
    event = np.array(["a", "b", "c", "d"])
    found = scores.follow_through(side, np.full(4, 0.7), later, event, rng=rng)
    assert found.value == 0.5
    none = scores.follow_through(side * 0, np.full(4, 0.7), later, event, rng=rng)
    assert np.isnan(none.value)
