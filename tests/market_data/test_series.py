"""Regular series: carried forward for an hour, missing beyond, never from the future."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import numpy as np
import polars as pl

from market_data.series import price_matrix, regular_series, resample

Rows = Callable[..., pl.DataFrame]
At = Callable[[float], datetime]


def test_a_price_is_carried_for_an_hour_and_then_missing() -> None:
    grid = np.array([-1, 0, 3600, 3601, 7200, 7300])
    out = resample(np.array([0, 7200]), np.array([0.3, 0.6]), grid)
    np.testing.assert_array_equal(out, [np.nan, 0.3, 0.3, np.nan, 0.6, 0.6])


def test_the_matrix_is_the_series_of_each_row(snapshot_rows: Rows, at: At) -> None:
    rng = np.random.default_rng(0)
    points = [
        (m, at(float(h)), float(rng.random()))
        for m in "abc"
        for h in np.unique(rng.integers(0, 500, 60)) / 10
    ]
    frame = snapshot_rows(points).sample(fraction=1, shuffle=True, seed=1)
    ids = ["c", "a", "unknown", "a"]
    ends = np.array([int(at(h).timestamp()) for h in (30, 20, 20, 48)])
    matrix = price_matrix(frame, ids, ends, steps=50)
    for row, (name, end) in enumerate(zip(ids, ends, strict=True)):
        own = frame.filter(pl.col("market_id") == name).sort("ts")
        t = own["ts"].dt.epoch("s").to_numpy()
        grid = end - 300 * np.arange(49, -1, -1)
        expected = resample(t, own["p_yes"].to_numpy(), grid)
        np.testing.assert_array_equal(matrix[row], expected)


def test_a_later_price_changes_no_earlier_step(snapshot_rows: Rows, at: At) -> None:
    points = [("m", at(h / 4), 0.5) for h in range(20)]
    end = np.array([int(at(3).timestamp())])
    before = price_matrix(snapshot_rows(points), ["m"], end, steps=24)
    more = snapshot_rows([*points, ("m", at(3.01), 0.9)])
    np.testing.assert_array_equal(price_matrix(more, ["m"], end, steps=24), before)


def test_regular_series_have_nulls_in_long_gaps(snapshot_rows: Rows, at: At) -> None:
    rows = regular_series(snapshot_rows([("m", at(0), 0.2), ("m", at(3), 0.4)]))
    assert rows["ts"].to_list()[0] == at(1 / 12)
    assert rows.filter(pl.col("p_yes").is_null()).height == 23
    assert rows["p_yes"].to_list()[-1] == 0.4
