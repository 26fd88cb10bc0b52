"""Simulated markets look like recorded ones in what matters, and obey probability."""

from __future__ import annotations

import numpy as np
import pytest

from forecast_service.training.processes import FLOOR, Simulated, simulate


@pytest.fixture(scope="module")
def markets() -> Simulated:
    return simulate(np.random.default_rng(11), series=3000, length=400)


def test_a_seed_gives_the_same_markets() -> None:
    one, two = (simulate(np.random.default_rng(3), series=20, length=50) for _ in range(2))
    assert np.array_equal(one.prices, two.prices, equal_nan=True)
    assert np.array_equal(one.steps_to_event, two.steps_to_event, equal_nan=True)


def test_prices_stay_inside_their_bounds(markets: Simulated) -> None:
    seen = markets.prices[np.isfinite(markets.prices)]
    assert seen.min() >= np.float32(FLOOR)
    assert seen.max() <= np.float32(1.0 - FLOOR)


def test_most_steps_are_unchanged_as_in_recorded_markets(markets: Simulated) -> None:
    moves = np.diff(markets.prices, axis=1)
    unchanged = (np.abs(moves) < 1e-9)[np.isfinite(moves)].mean()
    assert 0.5 < unchanged < 0.9


def test_a_price_is_an_unbiased_forecast_of_its_later_self(markets: Simulated) -> None:
    """The mean change over 100 steps is 0 within four standard errors, markets independent."""
    early, late = markets.prices[:, 100].astype(float), markets.prices[:, 130].astype(float)
    change = (late - early)[np.isfinite(early) & np.isfinite(late)]
    assert abs(change.mean()) < 4.0 * change.std() / np.sqrt(change.size)


def test_a_price_has_settled_when_its_event_is_there(markets: Simulated) -> None:
    at_event = markets.prices[markets.steps_to_event == 0]
    settled = (at_event < 0.05) | (at_event > 0.95)
    assert settled[np.isfinite(at_event)].mean() > 0.6


def test_the_time_to_an_event_counts_down_by_one(markets: Simulated) -> None:
    steps = np.diff(markets.steps_to_event, axis=1)
    assert (steps[np.isfinite(steps)] == -1).all()
