"""Regular series: carried forward for an hour, missing beyond, never from the future."""

from __future__ import annotations

import numpy as np

from market_data.series import resample


def test_a_price_is_carried_for_an_hour_and_then_missing() -> None:
    grid = np.array([-1, 0, 3600, 3601, 7200, 7300])
    out = resample(np.array([0, 7200]), np.array([0.3, 0.6]), grid)
    np.testing.assert_array_equal(out, [np.nan, 0.3, 0.3, np.nan, 0.6, 0.6])


def test_a_later_price_changes_no_earlier_step() -> None:
    grid = np.arange(0, 20_000, 300)
    t, p = np.arange(0, 20_000, 900), np.linspace(0.2, 0.8, 23)
    known = t <= 9000
    before = grid[grid < 9900]
    np.testing.assert_array_equal(resample(t, p, before), resample(t[known], p[known], before))
