"""Scores of bands with known properties, and corrections that are fitted apart."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import special

from forecast_service.evaluation import bands as bands_module
from forecast_service.evaluation import correction, scoring
from forecast_service.evaluation.bands import LEVELS
from forecast_service.evaluation.windows import Windows
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.transform import expit

H = 12


def walks(n: int, *, spread: float, rng: np.random.Generator) -> tuple[Windows, np.ndarray]:
    """Random walks in log-odds, and their true bands made ``spread`` times as wide."""
    odds = 0.1 * np.cumsum(rng.normal(size=(n, 40 + H)), axis=1)
    scale = 0.1 * np.sqrt(np.arange(1, H + 1))[:, None] * special.ndtri(LEVELS) * spread
    windows = Windows(
        family=np.where(np.arange(n) % 2 == 0, "sports", "crypto"),
        market=np.arange(n).astype(str),
        event=(np.arange(n) // 2).astype(str),
        origin=np.arange(n) * 300,
        step=np.full(n, 300),
        context=expit(odds[:, :40]),
        target=expit(odds[:, 40:]),
        steps_to_event=np.full(n, np.nan),
    )
    return windows, expit(odds[:, 39][:, None, None] + scale)


def figures(windows: Windows, quantiles: np.ndarray) -> dict[tuple[str, str, str], float]:
    found = scoring.score(
        {("m", scoring.RAW): quantiles}, windows.target, windows.family, windows.event,
        rng=np.random.default_rng(0),
    )  # fmt: skip
    return {(one.family, one.steps, one.metric): one.interval.value for one in found}


def test_true_bands_cover_what_they_promise_in_every_family_and_third() -> None:
    """3,000 windows, 1,500 in a family: ± 4 standard errors of at most 0.0103."""
    windows, quantiles = walks(3_000, spread=1.0, rng=np.random.default_rng(1))
    found = figures(windows, quantiles)
    for family in ("all", "sports", "crypto"):
        for steps in ("all", "1-4", "5-8", "9-12"):
            assert found[family, steps, "coverage_80"] == pytest.approx(0.8, abs=0.042)
            assert found[family, steps, "coverage_95"] == pytest.approx(0.95, abs=0.024)
    assert found["all", "9-12", "width_80"] > found["all", "1-4", "width_80"]
    assert {metric for _, _, metric in found} == set(scoring.METRICS)


def test_wrong_bands_have_a_greater_loss_than_true_ones() -> None:
    windows, true = walks(2_000, spread=1.0, rng=np.random.default_rng(2))
    _, wide = walks(2_000, spread=2.0, rng=np.random.default_rng(2))
    good, bad = figures(windows, true), figures(windows, wide)
    for metric in ("pinball", "winkler_80", "winkler_95", "wis", "crps"):
        assert good["all", "all", metric] < bad["all", "all", metric]


def test_what_is_not_in_the_pool_speaks_for_its_own_family_alone() -> None:
    windows, quantiles = walks(400, spread=0.5, rng=np.random.default_rng(5))
    pool = np.arange(400) < 250
    state, whole, own = (
        correction.fitted(quantiles[kept], windows.where(kept), pool=of)
        for kept, of in (
            (np.ones(400, dtype=bool), pool), (np.ones(400, dtype=bool), None), (pool, None),
        )
    )  # fmt: skip
    stranger = dataclasses.replace(windows, family=np.full(400, "another"))
    found, all_of, alone = (
        correction.corrected(each, quantiles, stranger) for each in (state, whole, own)
    )
    np.testing.assert_array_equal(found, alone)
    assert (found != all_of).any()


def test_a_correction_fitted_on_one_part_covers_on_the_other() -> None:
    """Bands half as wide as they should be; 2,000 unseen windows: ± 4 standard errors of 0.009."""
    rng = np.random.default_rng(3)
    fit_on, narrow = walks(2_000, spread=0.5, rng=rng)
    measure_on, unseen = walks(2_000, spread=0.5, rng=rng)
    state = correction.fitted(narrow, fit_on)
    before = figures(measure_on, unseen)["all", "9-12", "coverage_80"]
    after = figures(measure_on, correction.corrected(state, unseen, measure_on))
    assert before < 0.6
    assert after["all", "9-12", "coverage_80"] == pytest.approx(0.8, abs=0.04)


def test_with_too_little_to_fit_on_bands_stay_as_they_are() -> None:
    windows, quantiles = walks(20, spread=0.5, rng=np.random.default_rng(4))
    state = correction.fitted(quantiles, windows)
    assert (correction.corrected(state, quantiles, windows) == quantiles).all()


def test_a_breach_is_followed_when_the_price_goes_on_the_same_way() -> None:
    target = np.array(
        [
            [0.5, 0.7, 0.75, 0.7],  # up at step 2, then 0.05 further
            [0.5, 0.3, 0.5, 0.6],  # down, then back
            [0.5, 0.5, 0.5, 0.7],  # at the last step: nobody knows
            [0.5, 0.5, 0.5, 0.5],  # never
        ]
    )
    sides = scoring.breaches(np.full((4, 4), 0.4), np.full((4, 4), 0.6), target)
    follows, first = scoring.followed(sides, target)
    np.testing.assert_array_equal(follows, [1.0, 0.0, np.nan, np.nan])
    assert first.tolist() == [1, 1, 3, 4]


def test_a_model_is_asked_for_each_cadence_and_gives_ordered_bands() -> None:
    windows, _ = walks(40, spread=1.0, rng=np.random.default_rng(5))
    windows.step[::3] = 3600
    found = bands_module.bands_of(BASELINE_MODEL, "random_walk", windows, budget=10.0)
    assert found.quantiles.shape == (40, H, LEVELS.size)
    assert not found.refused.any()
    assert (np.diff(found.quantiles, axis=2) >= 0).all()
