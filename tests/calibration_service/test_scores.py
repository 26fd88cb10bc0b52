"""Scores, against well-kept libraries and simulated truth."""

import numpy as np
import pytest
import scoringrules
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss
from sklearn.metrics import log_loss as sklearn_log_loss

from calibration_service import scores


def sample(seed, n=500):
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(0.7, 0.7, n), 2)
    return p, (rng.random(n) < p).astype(float), rng.uniform(0.2, 2.0, n)


@pytest.mark.parametrize("seed", range(3))
def test_brier_agrees_with_scikit_learn_and_scoringrules(seed):
    p, y, w = sample(seed)
    assert scores.brier(p, y, weights=w) == pytest.approx(
        brier_score_loss(y, p, sample_weight=w), abs=1e-12
    )
    np.testing.assert_allclose(scores.brier_terms(p, y), scoringrules.brier_score(y, p))


@pytest.mark.parametrize("seed", range(3))
def test_log_loss_agrees_with_scikit_learn_and_scoringrules(seed):
    p, y, w = sample(seed)
    p = np.clip(p, 0.01, 0.99)
    assert scores.log_loss(p, y, weights=w) == pytest.approx(
        sklearn_log_loss(y, p, sample_weight=w), abs=1e-12
    )
    np.testing.assert_allclose(scores.log_loss_terms(p, y), scoringrules.log_score(y, p))


def test_a_wrong_certainty_costs_the_stated_clip():
    loss = scores.log_loss(np.array([1.0]), np.array([0.0]))
    assert loss == pytest.approx(-np.log(scores.LOG_LOSS_EPS))


def test_expected_calibration_error_of_a_known_table():
    p = np.array([0.1, 0.1, 0.9, 0.9])
    y = np.array([1.0, 0.0, 1.0, 1.0])
    sums = scores.bin_sums(p, y, bin_of=scores.equal_width_bins(p))
    assert scores.ece(sums) == pytest.approx(0.5 * 0.4 + 0.5 * 0.1)
    assert scores.max_calibration_error(sums) == pytest.approx(0.4)


def test_the_edges_of_equal_width_bins_go_up_and_one_stays_in_the_last():
    assert scores.equal_width_bins(np.array([0.0, 0.1, 0.95, 1.0])).tolist() == [0, 1, 9, 9]


@given(st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.51, 1.0]), min_size=1, max_size=60))
def test_equal_mass_bins_never_split_a_price_and_follow_its_order(prices):
    p = np.array(prices)
    bin_of = scores.equal_mass_bins(p, bins=4)
    for price in set(prices):
        assert len(set(bin_of[p == price])) == 1
    assert (np.diff(bin_of[np.argsort(p)]) >= 0).all()
    assert (scores.equal_mass_bins(p[::-1], bins=4)[::-1] == bin_of).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_the_parts_of_murphy_add_up_to_the_brier_score(seed, bins):
    p, y, w = sample(seed, 60)
    parts = scores.murphy(p, y, bin_of=scores.equal_width_bins(p, bins=bins), weights=w)
    whole = parts.reliability - parts.resolution + parts.uncertainty + parts.within
    assert whole == pytest.approx(scores.brier(p, y, weights=w))
    assert parts.reliability >= 0
    assert parts.resolution >= 0


def test_nothing_is_left_within_a_bin_of_one_price():
    p, y, _ = sample(4)
    p = np.round(p, 1)
    bins = np.round(p * 10).astype(int)
    assert scores.murphy(p, y, bin_of=bins).within == pytest.approx(0.0, abs=1e-12)


def test_sharpness_is_the_variance_of_the_prices():
    assert scores.sharpness(np.array([0.0, 1.0])) == 0.25
    assert scores.sharpness(np.array([0.4, 0.4])) == 0.0


def corrected(replicates, n, prices):
    rng = np.random.default_rng(11)
    found = []
    for _ in range(replicates):
        p = prices(rng, n)
        y = (rng.random(n) < p).astype(float)
        found.append(scores.ece_bias_corrected(p, y, events=np.arange(n), rng=rng))
    return found


@pytest.mark.parametrize("law", ["beta", "ticks"])
def test_the_corrected_error_of_a_calibrated_source_averages_zero_at_100_rows(law):
    def prices(rng, n):
        return rng.beta(0.6, 0.8, n) if law == "beta" else rng.choice([0.02, 0.3, 0.5, 0.97], n)

    found = corrected(2_000, 100, prices)
    values = np.array([one.bias_corrected for one in found])
    assert abs(values.mean()) < 0.01
    assert np.mean([one.ece for one in found]) > 0.02
    assert values.std() < 0.04
    inside = np.mean([one.null_lo <= one.ece <= one.null_hi for one in found])
    assert inside == pytest.approx(0.95, abs=0.035)


@pytest.mark.soak
@pytest.mark.parametrize("n", [30, 100, 300, 1_000])
def test_reports_the_calibration_error_of_a_calibrated_source(n, capsys):
    found = corrected(2_000, n, lambda rng, size: np.round(rng.beta(0.6, 0.8, size), 2))
    values = np.array([one.bias_corrected for one in found])
    inside = np.mean([one.null_lo <= one.ece <= one.null_hi for one in found])
    with capsys.disabled():
        print(
            f"\n{n} rows: plain {np.mean([one.ece for one in found]):.4f}, corrected "
            f"{values.mean():+.4f} with s.d. {values.std():.4f}, inside its interval {inside:.3f}"
        )
    if n >= 100:
        assert abs(values.mean()) < 0.01


def test_with_weights_of_events_every_event_counts_alike():
    p, y = np.array([0.2, 0.2, 0.9]), np.array([1.0, 1.0, 1.0])
    weights = scores.event_weights(np.array([0, 0, 1]))
    assert weights.sum() == 2.0
    assert scores.brier(p, y, weights=weights) == pytest.approx((0.64 + 0.01) / 2)


def test_the_normal_limit_of_the_null_agrees_with_flipped_signs():
    rng = np.random.default_rng(12)
    residuals = rng.normal(size=(300, 10)) * (rng.random((300, 10)) < 0.3)
    draws = scores.draw_null(rng)
    flipped = scores.null_ece(residuals, 300.0, signs=draws.signs, normals=draws.normals)
    normal = scores.null_ece(residuals, 300.0, signs=None, normals=draws.normals)
    assert flipped.mean() == pytest.approx(normal.mean(), rel=0.05)
    assert flipped.std() == pytest.approx(normal.std(), rel=0.2)


def test_a_biased_source_lies_above_the_null():
    rng = np.random.default_rng(13)
    p = rng.uniform(0.3, 0.9, 400)
    y = (rng.random(400) < p - 0.2).astype(float)
    found = scores.ece_bias_corrected(p, y, events=np.arange(400), rng=rng)
    assert found.ece > found.null_hi
    assert found.bias_corrected == pytest.approx(0.2, abs=0.08)


def test_many_snapshots_of_few_events_widen_the_null():
    rng = np.random.default_rng(14)
    p = np.repeat(rng.uniform(0.2, 0.8, 20), 50)
    y = np.repeat((rng.random(20) < p[::50]).astype(float), 50)
    as_events = scores.ece_bias_corrected(p, y, events=np.repeat(np.arange(20), 50), rng=rng)
    as_rows = scores.ece_bias_corrected(p, y, events=np.arange(1000), rng=rng)
    assert as_events.null_hi > 3 * as_rows.null_hi


def test_the_entropy_of_a_price_is_its_expected_log_loss():
    p = np.array([0.2, 0.7])
    expected = p * scores.log_loss_terms(p, np.ones(2)) + (1 - p) * scores.log_loss_terms(
        p, np.zeros(2)
    )
    np.testing.assert_allclose(scores.binary_entropy(p), expected)
