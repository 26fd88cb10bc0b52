"""Answers as arrays and tables hold what the messages hold."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from marketcal import frames
from marketcal.testing import FakeServer
from marketcal.v1 import forecast_pb2, market_pb2, scoreboard_pb2

FORECAST = forecast_pb2.ForecastResponse(
    market_id="m",
    freq="5m",
    as_of_time={"seconds": 1_763_640_000},
    quantile_paths=[
        {"level": 0.1, "values": [0.2, 0.1, 0.05]},
        {"level": 0.9, "values": [0.3, 0.4, 0.5]},
    ],
)


def test_bands_are_levels_by_steps() -> None:
    levels, paths = frames.to_numpy(FORECAST)
    np.testing.assert_array_equal(levels, [0.1, 0.9])
    np.testing.assert_array_equal(paths, [[0.2, 0.1, 0.05], [0.3, 0.4, 0.5]])
    assert (levels.dtype, paths.dtype, paths.shape) == (np.float64, np.float64, (2, 3))


def test_a_band_that_is_not_there_is_no_empty_array() -> None:
    with pytest.raises(ValueError, match="the forecast of m has no conformal band"):
        frames.to_numpy(FORECAST, "conformal")
    wrong: Any = "best"
    with pytest.raises(ValueError, match="band: must be one of raw, conformal"):
        frames.to_numpy(FORECAST, wrong)


@pytest.mark.parametrize("make", [frames.to_polars, frames.to_pandas])
def test_a_forecast_has_a_row_for_each_level_and_step(make: Any) -> None:
    frame = make([FORECAST])
    assert list(frame.columns) == [
        "market_id", "as_of_time", "freq", "band", "level", "horizon_step", "value",
    ]  # fmt: skip
    assert frame["value"].to_list() == [0.2, 0.1, 0.05, 0.3, 0.4, 0.5]
    assert frame["horizon_step"].to_list() == [1, 2, 3, 1, 2, 3]
    assert frame["as_of_time"].to_list()[0] == datetime(2025, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize("make", [frames.to_polars, frames.to_pandas])
def test_pages_become_one_table(make: Any, server: FakeServer) -> None:
    def page(request: scoreboard_pb2.ListScoresRequest) -> scoreboard_pb2.ListScoresResponse:
        first = not request.page_token
        score: dict[str, Any] = {"market_id": "a" if first else "b", "tags": ["x"]}
        if first:
            score |= {"p_yes": 0.25, "trust": {"score": 80.0}, "liquidity_bucket": 3}
        return scoreboard_pb2.ListScoresResponse(
            scores=[score], next_page_token="2" if first else ""
        )

    server.answer("ListScores", page)
    with server.client() as client:
        frame = make(client.list_scores())
    assert frame["market_id"].to_list() == ["a", "b"]
    assert frame["liquidity_bucket"].to_list() == [
        "LIQUIDITY_BUCKET_HIGH", "LIQUIDITY_BUCKET_UNSPECIFIED",
    ]  # fmt: skip
    assert frame["trust.score"].to_list()[0] == 80.0
    assert [list(tags) for tags in frame["tags"]] == [["x"], ["x"]]
    if isinstance(frame, pl.DataFrame):
        assert frame["p_yes"].to_list() == [0.25, None]
        assert frame["trust.score"].to_list() == [80.0, None]


def test_what_is_absent_is_none_and_parts_of_lists_are_dictionaries() -> None:
    market = market_pb2.Market(market_id="m", created_time={"seconds": -1, "nanos": 500_000_000})
    (row,) = frames.rows([market])
    assert row["created_time"] == datetime(1969, 12, 31, 23, 59, 59, 500_000, tzinfo=UTC)
    assert (row["end_time"], row["p_yes"], row["volume_total_usd"]) == (None, None, None)
    assert (row["calibrated_probability.value"], row["outcomes"]) == (None, [])
    told = market_pb2.Postmortem(cutoffs=[{"cutoff": "T-1h", "brier": 0.25}])
    (row,) = frames.rows([told])
    assert row["cutoffs"][0]["brier"] == 0.25
    assert row["question_risk.notes"] is None


@pytest.mark.parametrize("library", ["numpy", "polars", "pandas"])
def test_a_library_that_is_not_installed_is_named(library: str, python: str) -> None:
    code = (
        "import sys\n"
        "from marketcal import frames\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {library!r}:\n"
        "            raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from marketcal.v1.forecast_pb2 import ForecastResponse as F\n"
        "try:\n"
        f"    frames.to_{library}(F() if {library!r} == 'numpy' else [F()])\n"
        "except ImportError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{library} is not installed; `pip install {library}` brings it\n"
