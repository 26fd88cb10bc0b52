"""Range, order and width of a finished band."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from forecast_service.postprocess import Adjustment, WidthLimits, finish

LEVELS = np.array([0.1, 0.5, 0.9])


def one(*quantiles):
    return np.array([[quantiles]])


def test_crossing_quantiles_are_sorted_and_counted():
    band = finish(one(0.5, 0.4, 0.6), LEVELS)
    assert band.quantiles[0, 0].tolist() == [0.4, 0.5, 0.6]
    assert band.counts[Adjustment.REARRANGED].tolist() == [2]


def test_quantiles_outside_are_clipped_and_counted():
    band = finish(one(-0.2, 0.4, 0.6), LEVELS)
    assert band.quantiles[0, 0].tolist() == [0.0, 0.4, 0.6]
    assert band.counts[Adjustment.CLIPPED].tolist() == [1]


def test_a_point_is_opened_to_the_minimum_width_around_its_median():
    band = finish(one(0.5, 0.5, 0.5), LEVELS)
    np.testing.assert_allclose(band.quantiles[0, 0], [0.49, 0.5, 0.51])
    assert band.counts[Adjustment.WIDENED].tolist() == [1]


@pytest.mark.parametrize(("price", "low", "high"), [(0.0, 0.0, 0.02), (1.0, 0.98, 1.0)])
def test_at_the_edge_the_minimum_width_goes_to_the_inner_side(price, low, high):
    band = finish(one(price, price, price), LEVELS)
    np.testing.assert_allclose(band.quantiles[0, 0], [low, price, high], atol=1e-12)


def test_too_wide_a_band_is_closed_around_its_median():
    band = finish(one(0.0, 0.3, 1.0), LEVELS)
    np.testing.assert_allclose(band.quantiles[0, 0], [0.03, 0.3, 0.93])
    assert band.counts[Adjustment.NARROWED].tolist() == [1]


def test_the_width_is_that_of_the_80_percent_band_whatever_levels_were_asked_for():
    levels = np.array([0.005, 0.1, 0.5, 0.9, 0.995])
    band = finish(np.full((1, 1, 5), 0.5), levels).quantiles[0, 0]
    np.testing.assert_allclose(band[[1, 3]], [0.49, 0.51])
    assert band[0] < 0.49
    assert band[4] > 0.51


def test_without_a_symmetric_pair_there_is_no_width():
    band = finish(one(0.5, 0.5), np.array([0.5, 0.7]))
    assert band.quantiles[0, 0].tolist() == [0.5, 0.5]


def test_counts_are_kept_for_each_row():
    quantiles = np.concatenate([one(0.5, 0.5, 0.5), one(0.4, 0.5, 0.6)])
    assert finish(quantiles, LEVELS).counts[Adjustment.WIDENED].tolist() == [1, 0]


def test_refuses_limits_that_contradict_each_other():
    with pytest.raises(ValueError, match="width limits"):
        WidthLimits(minimum=0.5, maximum=0.4)


@given(
    st.lists(st.floats(-2, 3), min_size=3, max_size=3),
    st.sampled_from([WidthLimits(), WidthLimits(0.0, 1.0), WidthLimits(0.1, 0.2)]),
)
def test_every_finished_band_is_ordered_inside_and_within_its_limits(values, limits):
    quantiles = finish(one(*values), LEVELS, limits=limits).quantiles[0, 0]
    assert (np.diff(quantiles) >= -1e-12).all()
    assert ((quantiles >= 0) & (quantiles <= 1)).all()
    width = quantiles[2] - quantiles[0]
    assert limits.minimum - 1e-9 <= width <= limits.maximum + 1e-9


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3))
def test_width_rules_keep_the_median(values):
    ordered = np.sort(values)
    assert finish(one(*ordered), LEVELS).quantiles[0, 0, 1] == pytest.approx(ordered[1], abs=1e-9)
