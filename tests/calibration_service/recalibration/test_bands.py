"""Intervals of calibrated probabilities cover the true chance, by simulation."""

import numpy as np
import pytest
from scipy import special

from calibration_service.recalibration.bands import GRID, band_of
from calibration_service.recalibration.maps import Method
from calibration_service.recalibration.weak_prior import posterior_band

TRUTH = {"slope": 0.7, "shift": 0.2}


def coverage(draw, method, events, count, law="smooth"):
    """[K] share of replications in which the band holds the chance at each price of the grid."""
    chance = special.expit(0.2 + 0.7 * special.logit(np.clip(GRID, 1e-3, 1 - 1e-3)))
    inside = np.zeros(GRID.size)
    for seed in range(count):
        history = draw(np.random.default_rng([seed, 17]), events, law=law, **TRUTH)
        low, high = band_of(
            method, history.p, history.y, history.event, rng=np.random.default_rng(seed)
        )
        inside += (low <= chance) & (chance <= high)
    return inside / count


@pytest.mark.parametrize("method", Method)
def test_bands_are_ordered_monotone_probabilities(draw, method):
    history = draw(np.random.default_rng(1), 250)
    low, high = band_of(method, history.p, history.y, history.event, rng=np.random.default_rng(1))
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    assert (low <= high).all()
    assert low.min() >= 0.0
    assert high.max() <= 1.0


@pytest.mark.parametrize("law", ["smooth", "heavy"])
def test_platt_covers_95_percent_at_200_events(draw, law):
    count = 400
    error = 3.0 * np.sqrt(0.95 * 0.05 / count)
    found = coverage(draw, Method.PLATT, 200, count, law)
    assert 0.93 - error <= found.min()
    assert found.max() <= 0.97 + error


@pytest.mark.soak
@pytest.mark.parametrize("events", [200, 1_000])
@pytest.mark.parametrize("method", [m for m in Method if m != Method.IDENTITY])
def test_reports_the_coverage_of_every_method(draw, method, events, capsys):
    count = 2_000 if method == Method.PLATT else 300
    found = coverage(draw, method, events, count)
    shown = {f"{GRID[k]:g}": round(float(found[k]), 3) for k in (1, 4, 13, 53, 93, -2)}
    with capsys.disabled():
        print(f"\n{method} at {events} events: mean {found.mean():.3f}", shown)
    if method == Method.PLATT:
        error = 3.0 * np.sqrt(0.95 * 0.05 / count)
        assert 0.93 - error <= found.min()
        assert found.max() <= 0.97 + error


def test_snapshots_of_one_outcome_do_not_narrow_the_band(draw):
    history = draw(np.random.default_rng(2), 300, single=True)
    for method in (Method.PLATT, Method.BETA):
        once, often = (
            band_of(
                method,
                np.repeat(history.p, times),
                np.repeat(history.y, times),
                np.repeat(history.event, times),
                rng=np.random.default_rng(1),
            )
            for times in (1, 20)
        )
        np.testing.assert_allclose(once, often, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("method", Method)
@pytest.mark.parametrize(
    ("p", "y"),
    [
        (np.linspace(0.1, 0.9, 30), np.ones(30)),
        (np.full(400, 0.05), np.zeros(400)),
        (np.linspace(0.1, 0.9, 50), (np.arange(50) >= 25).astype(float)),
        (np.array([0.3]), np.array([0.0])),
        (np.array([0.3, 0.6]), np.array([0.0, 1.0])),
        (np.array([0.0, 1.0]), np.array([0.0, 1.0])),
    ],
    ids=["one outcome", "rare and not come", "separated", "one event", "two events", "edges"],
)
def test_where_outcomes_give_no_estimate_there_is_a_wide_band(method, p, y):
    low, high = band_of(method, p, y, np.arange(p.size), rng=np.random.default_rng(1))
    assert np.isfinite(low + high).all()
    assert (np.diff(low) >= 0).all()
    assert (np.diff(high) >= 0).all()
    seen = np.argmin(np.abs(GRID - np.median(p)))
    assert high[seen] - low[seen] > 0.5 / (p.size + 1)


def test_the_posterior_is_close_to_platts_band_where_outcomes_are_enough(draw):
    history = draw(np.random.default_rng(3), 400, single=True)
    band = band_of(Method.PLATT, history.p, history.y, history.event, rng=np.random.default_rng(1))
    found = posterior_band(history.p, history.y, np.ones(history.p.size), at=GRID)
    np.testing.assert_allclose(found, band, atol=0.04)


@pytest.mark.parametrize(("chance", "events"), [(0.01, 40), (0.002, 200), (0.3, 2), (0.5, 3)])
def test_the_posterior_covers_the_chance_where_little_has_happened(chance, events):
    rng, inside = np.random.default_rng(5), 0
    for _ in range(200):
        p = np.clip(chance * np.exp(rng.normal(0.0, 0.5, events)), 0.001, 0.9)
        y = (rng.random(events) < p).astype(float)
        low, high = posterior_band(p, y, np.ones(events), at=np.array([chance]))
        inside += low[0] <= chance <= high[0]
    assert inside / 200 >= 0.95 - 3.0 * np.sqrt(0.95 * 0.05 / 200)


def test_a_handful_of_outcomes_at_the_edge_does_not_widen_the_rest():
    rng = np.random.default_rng(4)
    p = np.concatenate([[0.001, 0.001], np.round(rng.uniform(0.05, 0.95, 4_000), 3)])
    y = np.concatenate([[0.0, 0.0], (rng.random(4_000) < 0.5).astype(float)])
    low, high = band_of(Method.ISOTONIC, p, y, np.arange(p.size), rng=rng)
    middle = (GRID > 0.2) & (GRID < 0.8)
    assert (high[middle] < 0.62).all()
    assert (low[middle] > 0.38).all()
