"""Any level and any step from a native grid."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from forecast_service.bands import QuantileSource, at_levels, extend_horizon
from forecast_service.transform import expit, logit

GRID = np.array([0.1, 0.25, 0.5, 0.75, 0.9])


def normal_band(levels, steps=3):
    scale = np.sqrt(np.arange(1, steps + 1))[:, None]
    return expit(0.3 + 0.2 * scale * special.ndtri(levels))[None]


def test_reproduces_a_logit_normal_band_between_native_levels():
    levels = np.array([0.15, 0.4, 0.6, 0.85])
    got = at_levels(normal_band(GRID), GRID, levels=levels)
    np.testing.assert_allclose(got.quantiles, normal_band(levels), atol=1e-12)
    assert (got.sources == QuantileSource.INTERPOLATED).all()


def test_native_levels_come_back_untouched():
    band = normal_band(GRID)
    band[0, 0, 0] = 0.0
    got = at_levels(band, GRID, levels=GRID)
    assert (got.quantiles == band).all()
    assert (got.sources == QuantileSource.NATIVE).all()


def test_levels_outside_the_grid_repeat_its_edge_and_say_so():
    got = at_levels(normal_band(GRID), GRID, levels=np.array([0.01, 0.99]))
    np.testing.assert_allclose(got.quantiles, normal_band(GRID)[..., [0, -1]], atol=1e-12)
    assert (got.sources == QuantileSource.CLAMPED).all()


def test_a_single_native_level_serves_every_level():
    got = at_levels(np.full((1, 2, 1), 0.4), np.array([0.5]), levels=np.array([0.1, 0.5]))
    assert (got.quantiles == 0.4).all()
    assert got.sources.tolist() == [QuantileSource.CLAMPED, QuantileSource.NATIVE]


@given(
    st.lists(st.floats(0, 1), min_size=5, max_size=5),
    st.lists(st.floats(0.001, 0.999), min_size=2, max_size=9, unique=True),
)
def test_interpolated_quantiles_never_cross(native, levels):
    got = at_levels(np.sort(native)[None, None], GRID, levels=np.sort(levels)).quantiles
    assert (np.diff(got) >= -1e-12).all()
    assert ((got >= 0) & (got <= 1)).all()


def test_beyond_the_native_horizon_the_distance_from_the_median_grows_by_the_root_of_time():
    longer = extend_horizon(normal_band(GRID), GRID, horizon_steps=12)
    np.testing.assert_allclose(longer, normal_band(GRID, steps=12), atol=1e-12)


def test_a_shorter_horizon_is_cut():
    assert extend_horizon(normal_band(GRID), GRID, horizon_steps=2).shape == (1, 2, 5)


def test_extension_without_a_median_interpolates_one():
    levels = np.array([0.1, 0.9])
    longer = extend_horizon(normal_band(levels), levels, horizon_steps=12)
    assert logit(longer[0, -1]).mean() == pytest.approx(0.3)
