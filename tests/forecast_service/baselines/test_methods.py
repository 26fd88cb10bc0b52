"""Laws that every baseline keeps, whatever the series looks like."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from forecast_service.baselines import BASELINES, BaselineFlag, forecast
from forecast_service.baselines.context import context_of
from forecast_service.baselines.exponential import ALPHAS, fit
from forecast_service.baselines.local_level import SHARES
from forecast_service.baselines.local_level import fit as kalman_fit
from forecast_service.baselines.random_walk import step_variance
from forecast_service.processes import PROCESSES, random_walk
from forecast_service.transform import IDENTITY, LOGIT, expit

LEVELS = np.array([0.005, 0.1, 0.5, 0.9, 0.995])
NAMES = list(BASELINES)


def valid(result, batch, steps):
    q = result.quantiles
    assert q.shape == (batch, steps, LEVELS.size)
    assert np.isfinite(q).all()
    assert ((q >= 0) & (q <= 1)).all()
    assert (np.diff(q, axis=2) >= -1e-12).all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("length", [1, 2, 3, 5, 29, 30, 31, 32, 100])
def test_series_of_any_length_give_a_valid_band(name, length):
    rng = np.random.default_rng(length)
    values = expit(random_walk(rng, series=4, length=length))
    valid(forecast(name, values, horizon_steps=40, levels=LEVELS), 4, 40)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("price", [0.0, 0.004, 0.5, 1.0])
def test_a_constant_series_gives_a_tiny_valid_band(name, price):
    result = forecast(name, np.full((2, 288), price), horizon_steps=12, levels=LEVELS)
    valid(result, 2, 12)
    np.testing.assert_allclose(result.quantiles, price, atol=2e-3)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_ticks_gaps_and_edges_give_a_valid_band(name, data):
    length = data.draw(st.integers(1, 60))
    price = st.sampled_from([np.nan, 0.0, 0.01, 0.5, 0.51, 0.99, 1.0])
    row = np.array(data.draw(st.lists(price, min_size=length, max_size=length)))
    row[data.draw(st.integers(0, length - 1))] = 0.5
    transform = data.draw(st.sampled_from([LOGIT, IDENTITY]))
    result = forecast(name, row[None], horizon_steps=9, levels=LEVELS, transform=transform)
    valid(result, 1, 9)


@pytest.mark.parametrize("name", NAMES)
def test_a_row_is_forecast_alike_alone_and_in_a_batch(name):
    rng = np.random.default_rng(3)
    values = expit(random_walk(rng, series=6, length=120))
    values[rng.random(values.shape) < 0.2] = np.nan
    values[:, 0] = 0.5
    values[0] = expit(random_walk(rng, series=1, length=120))
    together = forecast(name, values, horizon_steps=20, levels=LEVELS)
    for i in range(6):
        alone = forecast(name, values[i : i + 1], horizon_steps=20, levels=LEVELS)
        np.testing.assert_allclose(together.quantiles[i], alone.quantiles[0], atol=1e-9)
        assert together.flags[i] == alone.flags[0]


@pytest.mark.parametrize("name", NAMES)
def test_leading_missing_values_change_nothing(name):
    values = expit(random_walk(np.random.default_rng(4), series=3, length=100))
    padded = np.concatenate([np.full((3, 50), np.nan), values], axis=1)
    plain = forecast(name, values, horizon_steps=8, levels=LEVELS).quantiles
    np.testing.assert_allclose(
        forecast(name, padded, horizon_steps=8, levels=LEVELS).quantiles, plain, atol=1e-7
    )


@pytest.mark.parametrize("name", NAMES)
def test_a_step_does_not_depend_on_the_horizon_asked_for(name):
    values = expit(random_walk(np.random.default_rng(5), series=2, length=200))
    short = forecast(name, values, horizon_steps=5, levels=LEVELS).quantiles
    long = forecast(name, values, horizon_steps=77, levels=LEVELS).quantiles
    np.testing.assert_allclose(long[:, :5], short, atol=1e-12)


@pytest.mark.parametrize("name", ["random_walk", "ewma", "local_level"])
def test_swapping_yes_and_no_mirrors_the_band(name):
    values = expit(random_walk(np.random.default_rng(6), series=2, length=200))
    band = forecast(name, values, horizon_steps=5, levels=LEVELS).quantiles
    mirror = forecast(name, 1 - values, horizon_steps=5, levels=LEVELS).quantiles
    np.testing.assert_allclose(1 - mirror[..., ::-1], band, atol=1e-9)


@pytest.mark.parametrize("name", ["random_walk", "ewma", "local_level"])
def test_a_stale_series_forecasts_from_its_last_observation(name):
    values = expit(random_walk(np.random.default_rng(7), series=3, length=150))
    stale = np.concatenate([values, np.full((3, 4), np.nan)], axis=1)
    fresh = forecast(name, values, horizon_steps=12, levels=LEVELS).quantiles
    late = forecast(name, stale, horizon_steps=8, levels=LEVELS).quantiles
    np.testing.assert_allclose(late, fresh[:, 4:], atol=1e-9)


def test_an_increment_over_a_gap_counts_with_its_length():
    rng = np.random.default_rng(8)
    z = random_walk(rng, series=4000, length=200)
    z[rng.random(z.shape) < 0.5] = np.nan
    variance, _ = step_variance(context_of(z))
    assert variance.mean() == pytest.approx(0.03**2, rel=0.02)


def test_the_filter_agrees_with_smoothing_where_both_are_a_random_walk():
    context = context_of(random_walk(np.random.default_rng(9), series=5, length=100))
    np.testing.assert_allclose(fit(context).variance[:, 0], kalman_fit(context).variance[:, 0])
    assert ALPHAS[0] == SHARES[0] == 1.0


def test_the_filter_equals_a_plain_one_with_gaps():
    z = random_walk(np.random.default_rng(10), series=1, length=30)
    z[0, [0, 4, 5, 6, 20, 29]] = np.nan
    got, g = kalman_fit(context_of(z)), 4
    seen = z[0][np.isfinite(z[0])]
    q, r = SHARES[g], 1 - SHARES[g]
    level, spread = seen[0], r
    for value in z[0, 2:]:
        spread += q
        if np.isfinite(value):
            gain = spread / (spread + r)
            level, spread = level + gain * (value - level), spread * (1 - gain)
    assert got.level[0, g] == pytest.approx(level)
    assert got.spread[0, g] == pytest.approx(spread - q)


@pytest.mark.parametrize(("length", "steps", "short"), [(288, 12, 0), (40, 12, 1), (20, 1, 1)])
def test_rolling_quantile_says_when_the_history_is_short(length, steps, short):
    values = expit(random_walk(np.random.default_rng(11), series=1, length=length))
    result = forecast("rolling_quantile", values, horizon_steps=steps, levels=LEVELS)
    assert bool(result.flags[0] & BaselineFlag.SHORT_HISTORY) is bool(short)


def test_a_single_point_is_short_history_for_every_method():
    for name in NAMES:
        result = forecast(name, np.array([[0.3]]), horizon_steps=3, levels=LEVELS)
        assert result.flags[0] & BaselineFlag.SHORT_HISTORY


def test_last_value_is_a_point_and_says_so():
    result = forecast("last_value", np.array([[0.3, 0.4]]), horizon_steps=3, levels=LEVELS)
    np.testing.assert_allclose(result.quantiles, 0.4)
    assert result.flags[0] & BaselineFlag.POINT_FORECAST


def test_a_row_without_a_value_is_refused():
    with pytest.raises(ValueError, match="without a finite value"):
        forecast("ewma", np.array([[0.5, 0.5], [np.nan, np.nan]]), horizon_steps=1, levels=LEVELS)


def test_long_series_and_horizons_stay_affordable():
    values = expit(random_walk(np.random.default_rng(12), series=1, length=20_000) / 10)
    for name in NAMES:
        valid(forecast(name, values, horizon_steps=2016, levels=LEVELS), 1, 2016)


@pytest.mark.parametrize("process", list(PROCESSES))
def test_processes_return_the_length_asked_for(process):
    z = PROCESSES[process](np.random.default_rng(13), series=3, length=50)
    assert z.shape == (3, 50)
    assert np.isfinite(z).all()


def test_most_steps_of_the_ticking_process_are_unchanged():
    z = PROCESSES["ticking_walk"](np.random.default_rng(14), series=200, length=288)
    assert 0.6 < (np.diff(z, axis=1) == 0).mean() < 0.9
