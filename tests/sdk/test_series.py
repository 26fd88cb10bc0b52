"""Any kind of numbers becomes the same request; what is no number is refused by its field."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketcal import forecast_request
from marketcal.v1 import forecast_pb2

NUMBERS = [0.25, math.nan, 0.5, 1.0]
KINDS: dict[str, Any] = {
    "list": NUMBERS,
    "list with None": [0.25, None, 0.5, 1],
    "tuple": tuple(NUMBERS),
    "generator": (number for number in NUMBERS),
    "float64": np.array(NUMBERS),
    "float32": np.array(NUMBERS, dtype=np.float32),
    "every second": np.repeat(NUMBERS, 2)[::2],
    "backwards": np.array(NUMBERS[::-1])[::-1],
    "big-endian": np.array(NUMBERS, dtype=">f8"),
    "objects": np.array([0.25, None, 0.5, 1], dtype=object),
    "read-only": np.frombuffer(np.array(NUMBERS).tobytes()),
    "masked": np.ma.masked_array([0.25, 0.9, 0.5, 1.0], mask=[0, 1, 0, 0]),
    "pandas": pd.Series(NUMBERS),
    "polars": pl.Series([0.25, None, 0.5, 1.0]),
}


@pytest.mark.parametrize("kind", KINDS)
def test_numbers_of_any_kind_make_the_same_request(kind: str) -> None:
    request = forecast_request("m", KINDS[kind])
    np.testing.assert_array_equal(request.values, NUMBERS)
    assert request.market_id == "m"


@given(numbers=st.lists(st.floats(width=64), max_size=300))
def test_an_array_goes_in_as_what_protobuf_itself_would_make_of_it(numbers: list[float]) -> None:
    plain = forecast_pb2.ForecastRequest(market_id="m", values=numbers, quantiles=numbers)
    made = forecast_request("m", np.array(numbers), quantiles=np.array(numbers))
    assert made.SerializeToString(deterministic=True) == plain.SerializeToString(deterministic=True)


def test_integers_and_truths_are_numbers() -> None:
    assert list(forecast_request("m", np.array([0, 1])).values) == [0.0, 1.0]
    assert list(forecast_request("m", np.array([True, False])).values) == [1.0, 0.0]


@pytest.mark.parametrize(
    "wrong",
    [["0.5"], [object()], "0.5", 0.5, np.array(["a"]), np.array(["2026-11-20"], "M8[D]")],
    ids=["text", "object", "a text", "a number", "array of text", "array of days"],
)
def test_what_is_no_number_is_refused_by_its_field(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"^values: "):
        forecast_request("m", wrong)


def test_a_table_is_no_series() -> None:
    with pytest.raises(ValueError, match="values: must have one dimension, not 2"):
        forecast_request("m", np.zeros((2, 3)))
    with pytest.raises(ValueError, match="quantiles: must have one dimension, not 2"):
        forecast_request("m", [0.5, 0.5], quantiles=np.zeros((1, 1)))
