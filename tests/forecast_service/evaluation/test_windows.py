"""Windows and splits: nothing of the future in a context, nothing fitted in what is measured."""

from __future__ import annotations

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from forecast_service.evaluation import splits
from forecast_service.evaluation.windows import Cut, PricePath, sampled, time_cuts, windows_of

CUT = Cut(context=8, horizon=3, stride=4)


def path(market: str, length: int, *, start: int = 0, holes: tuple[int, ...] = ()) -> PricePath:
    """A path whose values are its own places, so that a window shows where it was cut."""
    values = np.arange(length) / 1000.0
    values[list(holes)] = np.nan
    return PricePath("sports", market, f"event of {market}", start, 300, values, end=start + 3e5)


@given(length=st.integers(0, 60), start=st.integers(0, 10_000))
def test_a_context_ends_where_its_target_begins(length: int, start: int) -> None:
    found = windows_of([path("m", length, start=start)], CUT)
    assert len(found) == max(0, (length - CUT.horizon) // CUT.stride)
    for row in range(len(found)):
        at = (found.origin[row] - start) // 300
        assert found.context[row, -1] == at / 1000.0
        np.testing.assert_allclose(found.target[row], (at + np.arange(1, 4)) / 1000.0)
        assert np.nanmax(found.context[row]) < found.target[row].min()
        assert found.steps_to_event[row] == 1000 - at


def test_windows_without_a_last_price_or_with_holes_in_the_target_are_left_out() -> None:
    assert len(windows_of([path("m", 20)], CUT)) == 4
    assert windows_of([path("m", 20, holes=(3, 13))], CUT).origin.tolist() == [7 * 300, 15 * 300]


def test_the_part_to_fit_is_settled_a_horizon_before_the_part_to_measure_begins() -> None:
    paths = [path(str(i), 120, start=i * 700) for i in range(5)]
    windows = windows_of(paths, CUT)
    split = splits.by_time(windows, time_cuts(paths, 0.6))
    assert split.calibration.any()
    assert split.test.any()
    fitted, measured = windows.where(split.calibration), windows.where(split.test)
    assert fitted.settled.max() + 3 * 300 <= measured.origin.min() + 300
    assert not (split.calibration & split.test).any()


def test_a_family_speaks_for_others_by_what_was_settled_before_any_measured_window() -> None:
    late = [dataclasses.replace(path(f"b{i}", 120, start=50_000), family="b") for i in range(4)]
    paths = [path(f"a{i}", 120) for i in range(4)] + late
    windows = windows_of(paths, CUT)
    split = splits.by_time(windows, time_cuts(paths, 0.6))
    pool = windows.where(split.pool)
    assert pool.settled.max() <= windows.origin[split.test].min()
    assert set(windows.family[split.calibration]) == {"sports", "b"}
    assert set(pool.family) == {"sports"}
    assert not (split.pool & ~split.calibration).any()


def test_no_event_is_on_both_sides() -> None:
    windows = windows_of([path(str(i), 40) for i in range(60)], CUT)
    split = splits.by_events(windows)
    assert not set(windows.event[split.test]) & set(windows.event[split.calibration])


def test_a_family_gives_at_most_so_many_windows() -> None:
    windows = windows_of([path(str(i), 40) for i in range(20)], CUT)
    assert len(sampled(windows, 50, np.random.default_rng(1))) == 50
    assert len(sampled(windows, 10_000, np.random.default_rng(1))) == len(windows)
