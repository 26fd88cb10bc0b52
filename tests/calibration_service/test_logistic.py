"""Slope and intercept, against scikit-learn and simulated truth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special
from sklearn.linear_model import LogisticRegression

from calibration_service.logistic import Cells, FitStatus, fit, fit_one, price_logit


def sample(seed, n=400, slope=0.7, intercept=0.2):
    rng = np.random.default_rng(seed)
    p = rng.beta(0.6, 0.8, n)
    y = (rng.random(n) < special.expit(intercept + slope * price_logit(p))).astype(float)
    return p, y, rng.uniform(0.2, 2.0, n)


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_scikit_learn_without_penalty(seed):
    p, y, w = sample(seed)
    oracle = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    oracle.fit(price_logit(p)[:, None], y, sample_weight=w)
    got = fit_one(p, y, weights=w)
    assert got.slope[0] == pytest.approx(oracle.coef_[0, 0], rel=1e-4)
    assert got.intercept[0] == pytest.approx(oracle.intercept_[0], abs=1e-4)


def test_many_groups_are_fitted_as_each_would_be_alone():
    samples = [sample(seed, n) for seed, n in ((1, 50), (2, 500), (3, 120))]
    p, y, w = (np.concatenate(parts) for parts in zip(*samples, strict=True))
    group = np.repeat(np.arange(3), [50, 500, 120])
    got = fit(Cells(price_logit(p), w, w * y, group, 3))
    for g, (p_g, y_g, w_g) in enumerate(samples):
        alone = fit_one(p_g, y_g, weights=w_g)
        assert got.slope[g] == pytest.approx(alone.slope[0], abs=1e-8)
        np.testing.assert_allclose(got.inverse[g], alone.inverse[0], rtol=1e-7)


def test_standard_errors_match_the_spread_over_simulations():
    fits = [fit_one(*sample(seed, 800)[:2]) for seed in range(300)]
    spread = np.std([f.slope[0] for f in fits])
    assert np.mean([f.slope_se[0] for f in fits]) == pytest.approx(spread, rel=0.12)
    spread = np.std([f.intercept[0] for f in fits])
    assert np.mean([f.intercept_se[0] for f in fits]) == pytest.approx(spread, rel=0.12)
    assert np.mean([f.slope[0] for f in fits]) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize(
    ("p", "y", "status"),
    [
        ([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1], FitStatus.SEPARATED),
        ([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0], FitStatus.SEPARATED),
        ([0.1, 0.5, 0.5, 0.9], [0, 0, 1, 1], FitStatus.SEPARATED),
        ([0.1, 0.5, 0.9], [1, 1, 1], FitStatus.ONE_OUTCOME),
        ([0.3, 0.3, 0.3], [0, 1, 1], FitStatus.ONE_PRICE),
        ([], [], FitStatus.EMPTY),
        ([0.1, 0.6, 0.4, 0.9], [0, 0, 1, 1], FitStatus.OK),
    ],
)
def test_says_why_there_is_no_estimate(p, y, status):
    got = fit_one(np.array(p, dtype=float), np.array(y, dtype=float))
    assert got.status[0] == status
    assert np.isfinite(got.slope[0]) == (status is FitStatus.OK)


def test_a_separated_group_leaves_the_others_alone():
    p, y, _ = sample(5)
    x = np.concatenate([price_logit(p), [-1.0, 1.0]])
    got = fit(Cells(x, np.ones(402), np.append(y, [0.0, 1.0]), np.repeat([0, 1], [400, 2]), 2))
    assert got.status.tolist() == [FitStatus.OK, FitStatus.SEPARATED]
    assert got.slope[0] == pytest.approx(fit_one(p, y).slope[0])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_every_small_sample_gives_a_finite_estimate_or_a_reason(data):
    n = data.draw(st.integers(1, 12))
    price = st.sampled_from([0.0, 0.001, 0.01, 0.3, 0.5, 0.7, 0.99, 1.0])
    p = np.array(data.draw(st.lists(price, min_size=n, max_size=n)))
    y = np.array(data.draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=n, max_size=n)))
    got = fit_one(p, y)
    assert got.status[0] != FitStatus.NOT_CONVERGED
    assert np.isfinite(got.slope[0]) == (got.status[0] == FitStatus.OK)


def test_steps_that_leap_over_the_maximum_and_back_are_shortened():
    got = fit_one(np.array([0.0, 0.5, 0.5, 0.5, 1.0]), np.array([0.0, 0.0, 0.0, 1.0, 0.0]))
    assert got.status[0] == FitStatus.OK
    assert got.slope[0] == pytest.approx(0.0, abs=1e-9)


@given(st.integers(0, 1000))
def test_swapping_yes_and_no_keeps_the_slope_and_turns_the_intercept(seed):
    p, y, w = sample(seed, 80)
    one, other = fit_one(p, y, weights=w), fit_one(1 - p, 1 - y, weights=w)
    assert other.slope[0] == pytest.approx(one.slope[0], abs=1e-6, nan_ok=True)
    assert other.intercept[0] == pytest.approx(-one.intercept[0], abs=1e-6, nan_ok=True)
