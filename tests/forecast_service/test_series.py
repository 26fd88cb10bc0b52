"""What a request's series must be."""

import numpy as np
import pytest

from forecast_service.series import InvalidFieldError, on_grid, parse_freq, series_of, stack


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("1h", 3600), ("1d", 86400), ("1w", 604800)]
)
def test_reads_a_cadence(text, seconds):
    assert parse_freq(text) == seconds


@pytest.mark.parametrize("text", ["0m", "", "5", "m", "5M", "-5m", "5 m", "1.5h", "2w", "٥m"])
def test_refuses_a_cadence_that_is_none_and_names_the_field(text):
    with pytest.raises(InvalidFieldError) as refused:
        parse_freq(text)
    assert refused.value.field == "freq"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ([], "values"),
        ([0.5], "values"),
        ([[0.5, 0.5]], "values"),
        ([np.nan, np.nan], "values"),
        ([0.5, 1.1], "values[1]"),
        ([-0.1, 0.5], "values[0]"),
        ([0.5, np.inf], "values[1]"),
        ([0.5] * 20_001, "values"),
    ],
)
def test_refuses_values_and_names_the_field(values, field):
    with pytest.raises(InvalidFieldError) as refused:
        series_of(values, "5m")
    assert refused.value.field == field


def test_keeps_the_last_288_points_by_default():
    series = series_of(np.linspace(0, 1, 500), "5m")
    assert (series.values.size, series.input_length) == (288, 500)
    assert series.last_value == 1.0


def test_drops_leading_missing_points_and_keeps_trailing_ones():
    series = series_of([np.nan, np.nan, 0.4, np.nan, 0.5, np.nan], "5m")
    assert series.values.size == 4
    assert (series.finite_count, series.last_gap_steps, series.last_value) == (2, 1, 0.5)
    assert series.missing_ratio == pytest.approx(4 / 6)


def test_pads_shorter_series_at_the_left():
    batch = stack([series_of([0.1, 0.2], "5m"), series_of([0.1, 0.2, 0.3], "5m")])
    assert np.isnan(batch[0, 0])
    assert batch[:, -1].tolist() == [0.2, 0.3]


def test_uneven_times_become_steps_with_what_is_missing_between_them():
    values, times = np.array([0.1, 0.2, 0.3, 0.5]), np.array([0.0, 290.0, 310.0, 1200.0])
    grid = on_grid(values, times, freq_seconds=300, steps=288)
    assert np.array_equal(grid, [0.1, 0.3, np.nan, np.nan, 0.5], equal_nan=True)


def test_steps_before_the_context_are_left_out():
    grid = on_grid(
        np.array([0.1, 0.2, 0.3]), np.array([0.0, 60.0, 120.0]), freq_seconds=60, steps=2
    )
    assert grid.tolist() == [0.2, 0.3]
