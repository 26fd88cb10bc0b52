"""Reliability curves: ties, order and consistency bands."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression

from calibration_service.reliability import (
    consistency_band,
    corp,
    corp_decomposition,
    equal_mass_curve,
    equal_width_curve,
    independent_outcomes,
)
from calibration_service.scores import brier


def sample(seed, n=300):
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(0.7, 0.7, n), 2)
    return p, (rng.random(n) < p).astype(float), rng.integers(0, 80, n)


@settings(deadline=None)
@given(st.integers(0, 500), st.integers(0, 500))
@pytest.mark.parametrize("curve_of", [equal_width_curve, equal_mass_curve])
def test_the_curve_does_not_depend_on_the_order_of_rows(curve_of, seed, shuffle):
    p, y, events = sample(seed)
    order = np.random.default_rng(shuffle).permutation(p.size)
    one, other = curve_of(p, y, events=events), curve_of(p[order], y[order], events=events[order])
    for name in ("bin", "size", "events", "lower", "upper"):
        assert (getattr(one, name) == getattr(other, name)).all()
    for name in ("price", "rate", "consistency_lo", "consistency_hi"):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-12)


def test_bins_count_rows_and_distinct_events():
    curve = equal_width_curve(
        np.array([0.1, 0.1, 0.15, 0.9]), np.array([1.0, 0, 0, 1]), events=np.array([0, 0, 1, 2])
    )
    assert curve.bin.tolist() == [1, 9]
    assert curve.size.tolist() == [3, 1]
    assert curve.events.tolist() == [2, 1]
    assert curve.rate.tolist() == [pytest.approx(1 / 3), 1.0]


def test_rows_of_one_event_count_as_one_outcome():
    cell, event = np.zeros(8, dtype=int), np.repeat([0, 1], 4)
    assert independent_outcomes(cell, event, cells=1).tolist() == [2.0]
    assert independent_outcomes(cell, np.arange(8), cells=1).tolist() == [8.0]


@pytest.mark.parametrize(("price", "trials"), [(0.02, 40), (0.3, 15), (0.5, 200)])
def test_a_calibrated_rate_lies_in_its_band_at_least_95_percent_of_the_time(price, trials):
    low, high = consistency_band(np.array(price), np.array(trials))
    rates = np.random.default_rng(1).binomial(trials, price, 20_000) / trials
    assert np.mean((rates >= low) & (rates <= high)) >= 0.945


@pytest.mark.parametrize("seed", range(3))
def test_the_curve_agrees_with_scikit_learn_away_from_the_edges_of_bins(seed):
    rng = np.random.default_rng(seed)
    p = rng.random(500)  # the library puts a price on an edge into the bin below
    y = (rng.random(500) < p).astype(float)
    curve = equal_width_curve(p, y, events=np.arange(500))
    rate, price = calibration_curve(y, p, n_bins=10, strategy="uniform")
    np.testing.assert_allclose(curve.rate, rate)
    np.testing.assert_allclose(curve.price, price)


def test_isotonic_rates_agree_with_scikit_learn_on_pooled_ties():
    p, y, _ = sample(3)
    curve = corp(p, y)
    oracle = IsotonicRegression().fit(p, y)
    np.testing.assert_allclose(curve.rate, oracle.predict(curve.price), atol=1e-12)


@given(st.integers(0, 200))
def test_corp_ignores_row_order_and_its_parts_add_up(seed):
    p, y, _ = sample(seed, 80)
    order = np.random.default_rng(seed).permutation(80)
    np.testing.assert_allclose(corp(p, y).rate, corp(p[order], y[order]).rate, atol=1e-12)
    parts = corp_decomposition(p, y)
    whole = parts.miscalibration - parts.discrimination + parts.uncertainty
    assert whole == pytest.approx(brier(p, y))
    assert parts.miscalibration >= -1e-12
    assert parts.discrimination >= -1e-12
