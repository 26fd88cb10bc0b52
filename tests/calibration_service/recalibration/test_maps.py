"""The maps, against scikit-learn and what each of them promises."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression

from calibration_service.recalibration.maps import (
    CANDIDATES,
    PRICE_EVENTS,
    Method,
    TrainingCells,
    fit_beta,
    fit_isotonic,
    fit_maps,
    fit_platt,
    fit_shift,
)


def outcomes(seed, n=1_500, slope=0.6, shift=0.3):
    rng = np.random.default_rng(seed)
    p = np.clip(np.round(rng.beta(0.6, 0.8, n), 2), 0.01, 0.99)
    return p, (rng.random(n) < special.expit(shift + slope * special.logit(p))).astype(float)


def cells_of(*samples):
    parts = []
    for group, (p, y) in enumerate(samples):
        price, index = np.unique(p, return_inverse=True)
        size = np.bincount(index).astype(float)
        parts.append((np.full(price.size, group), price, size, np.bincount(index, y)))
    joined = [np.concatenate(part) for part in zip(*parts, strict=True)]
    return TrainingCells(*joined, np.array([p.size for p, _ in samples]))


def oracle(features, y):
    return LogisticRegression(C=np.inf, tol=1e-12, max_iter=10_000).fit(features, y)


@pytest.mark.parametrize("seed", range(3))
def test_platt_agrees_with_scikit_learn_without_penalty(seed):
    p, y = outcomes(seed)
    found = oracle(special.logit(p)[:, None], y)
    intercept, slope, same = fit_platt(cells_of((p, y)))[:, 0]
    assert slope == same == pytest.approx(found.coef_[0, 0], abs=1e-4)
    assert intercept == pytest.approx(found.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_beta_agrees_with_a_logistic_regression_on_both_logarithms(seed):
    p, y = outcomes(seed)
    found = oracle(np.stack([np.log(p), -np.log1p(-p)], axis=1), y)
    c, a, b = fit_beta(cells_of((p, y)))[:, 0]
    assert (a, b) == pytest.approx(tuple(found.coef_[0]), abs=1e-4)
    assert c == pytest.approx(found.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_isotonic_agrees_with_scikit_learn_and_holds_beyond_the_outermost_prices(seed):
    p, y = outcomes(seed)
    at = np.linspace(0, 1, 101)
    found = fit_isotonic(cells_of((p, y))).at(at, np.zeros(101, dtype=int))
    expected = IsotonicRegression(out_of_bounds="clip").fit(p, y).predict(at)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_the_shift_makes_the_mean_probability_the_observed_rate():
    p, y = outcomes(4)
    theta = fit_shift(cells_of((p, y)))
    assert theta[1:, 0].tolist() == [1.0, 1.0]
    assert special.expit(theta[0, 0] + special.logit(p)).mean() == pytest.approx(y.mean())


def test_a_negative_exponent_of_beta_is_zero_and_the_rest_is_fitted_again():
    p = np.linspace(0.02, 0.98, 5_000)
    chance = special.expit(-2.0 - 0.5 * np.log(p) - 1.5 * np.log1p(-p))
    y = (np.random.default_rng(5).random(p.size) < chance).astype(float)
    c, a, b = fit_beta(cells_of((p, y)))[:, 0]
    found = oracle(-np.log1p(-p)[:, None], y)
    assert (a, b) == (0.0, pytest.approx(found.coef_[0, 0], abs=1e-4))
    assert c == pytest.approx(found.intercept_[0], abs=1e-4)


@pytest.mark.parametrize("method", CANDIDATES)
def test_groups_are_fitted_as_each_alone(method):
    samples = [outcomes(seed, n) for seed, n in ((1, 400), (2, 900), (3, 300))]
    at = np.linspace(0, 1, 50)
    together = fit_maps(method, cells_of(*samples))
    for group, sample in enumerate(samples):
        alone = fit_maps(method, cells_of(sample))
        np.testing.assert_allclose(
            together.at(at, np.full(50, group)), alone.at(at, np.zeros(50, dtype=int)), atol=1e-7
        )


@pytest.mark.parametrize("method", CANDIDATES)
@given(st.integers(0, 10_000), st.integers(1, 300), st.sampled_from([-1.0, 0.0, 0.6, 3.0]))
def test_a_map_to_be_served_is_monotone_and_never_certain(method, seed, n, slope):
    cells = cells_of(outcomes(seed, n, slope=slope)).with_prices()
    found = fit_maps(method, cells).at(np.linspace(0, 1, 201), np.zeros(201, dtype=int))
    if method == Method.ISOTONIC:
        assert not np.isnan(found).any()
    if not np.isnan(found).any():
        assert (np.diff(found) >= -1e-12).all()
        assert found.min() > 0.0
        assert found.max() < 1.0


@pytest.mark.parametrize("outcome", [0.0, 1.0])
@pytest.mark.parametrize("method", CANDIDATES)
def test_one_outcome_alone_moves_the_price_but_stays_finite(method, outcome):
    p = np.repeat([0.05, 0.2, 0.6], 20)
    cells = cells_of((p, np.full(60, outcome))).with_prices()
    found = fit_maps(method, cells).at(p, np.zeros(60, dtype=int))
    assert np.isfinite(found).all()
    assert (np.sign(found - p) == (1.0 if outcome else -1.0)).all()


def test_the_price_is_worth_its_events():
    p = np.full(300, 0.4)
    cells = cells_of((p, np.zeros(300))).with_prices()
    found = fit_isotonic(cells).at(np.array([0.4]), np.array([0]))[0]
    assert found == pytest.approx(0.4 * PRICE_EVENTS / (300 + PRICE_EVENTS))


def test_separated_outcomes_have_no_map_without_the_prices():
    p, y = np.array([0.2, 0.3, 0.7, 0.8]), np.array([0.0, 0.0, 1.0, 1.0])
    assert np.isnan(fit_platt(cells_of((p, y)))).all()
    assert np.isnan(fit_beta(cells_of((p, y)))).all()
