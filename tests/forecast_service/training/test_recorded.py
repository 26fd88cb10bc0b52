"""Windows of recorded markets: complete targets, honest holes, events that stay out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from forecast_service.evaluation.splits import held_out
from forecast_service.training import recorded
from forecast_service.training.recorded import CONTEXT, HORIZON, RecordedSeries
from forecast_service.training.samples import RecordedMarkets, filled

DATA = Path(__file__).parents[4] / "shared" / "data" / "dev"


def series(values: np.ndarray, event: str = "e") -> RecordedSeries:
    return RecordedSeries("m", event, 1_000_000, 300, values, np.nan)


def test_a_value_is_carried_for_an_hour_and_no_longer() -> None:
    values = np.array([0.3] + [np.nan] * 20 + [0.4])
    carried = recorded._forward_filled(values, 12)
    assert np.isfinite(carried).tolist() == [True] * 13 + [False] * 8 + [True]


def test_what_is_missing_at_the_start_stays_missing() -> None:
    assert np.isnan(recorded._forward_filled(np.array([np.nan, 0.2]), 12)).tolist() == [True, False]


def test_a_window_ends_where_its_target_begins() -> None:
    values = np.arange(300.0) / 1000.0
    windows = recorded.windows("btc", [series(values)])
    assert windows.context.shape[1:] == (CONTEXT,)
    assert np.allclose(windows.target[:, 0] - windows.context[:, -1], 0.001)
    assert windows.target.shape[1] == HORIZON
    assert windows.origin.tolist()[:2] == [1_000_000 + 28 * 300, 1_000_000 + 57 * 300]


def test_a_window_without_a_complete_target_is_dropped() -> None:
    values = np.full(100, 0.5)
    values[60] = np.nan
    windows = recorded.windows("btc", [series(values)])
    assert windows.origin.size == 2  # origins 29 and 87 of 29, 58, 87


def test_an_event_is_held_out_by_its_name_alone_and_a_third_of_them_are() -> None:
    names = [f"event-{number}" for number in range(6000)]
    kept_out = np.array([held_out(name) for name in names])
    assert abs(kept_out.mean() - 1 / 3) < 4 * np.sqrt(2 / 9 / 6000)
    assert [held_out(name) for name in names[:50]] == kept_out[:50].tolist()


def test_training_sees_nothing_after_its_end() -> None:
    values = np.concatenate([np.full(200, 0.4), np.full(200, 0.6)])
    until = 1_000_000 + 200 * 300
    drawn = RecordedMarkets([series(values)], until).draw(np.random.default_rng(1), 500)
    for seen in (drawn.context, drawn.target):
        assert np.nanmax(seen) == np.float32(0.4)


def test_holes_are_filled_from_before_and_marked() -> None:
    prices, mask = filled(np.array([[np.nan, 0.2, np.nan, 0.3]], dtype=np.float32))
    assert np.allclose(prices, [[0.2, 0.2, 0.2, 0.3]])
    assert mask.tolist() == [[0.0, 1.0, 0.0, 1.0]]


@pytest.mark.skipif(not DATA.is_dir(), reason="recorded data (../shared/data/dev) is not here")
@pytest.mark.parametrize("family", sorted(recorded.STRIDES))
def test_each_family_gives_complete_windows(family: str) -> None:
    windows = recorded.windows(family, recorded.load(DATA, family))
    assert len(windows.target) > 300
    assert np.isfinite(windows.target).all()
    assert np.isfinite(windows.context[:, -1]).all()
    assert np.nanmin(windows.context) >= recorded.CLIP
