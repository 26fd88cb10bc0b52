"""A history stands on the steps that a forecast is asked in."""

from __future__ import annotations

import doctest
import math
from collections.abc import Sequence

import pytest

from forecast_service.series import InvalidFieldError
from gateway.cli import cadence
from gateway.cli.cadence import MOST_STEPS, HistoryTooShort, regular_history
from marketcal.v1 import market_pb2

HOUR = 3600


def points(times: Sequence[int], prices: Sequence[float] | None = None) -> list[object]:
    made = []
    for at, price in zip(times, prices or [0.3 + 0.01 * i for i in range(len(times))], strict=True):
        point = market_pb2.PricePoint(p_yes=price)
        point.time.seconds = at
        made.append(point)
    return made


def test_an_hourly_history_is_other_values_in_steps_of_five_minutes() -> None:
    history = points([HOUR * i for i in range(5)], [0.1, 0.2, 0.3, 0.4, 0.5])
    hourly, fine = regular_history(history, "1h"), regular_history(history, "5m")
    assert hourly.values == [0.1, 0.2, 0.3, 0.4, 0.5]
    assert fine.values == [0.1] * 12 + [0.2] * 12 + [0.3] * 12 + [0.4] * 12 + [0.5]


@pytest.mark.parametrize(
    ("step", "freq"),
    [(45, "1m"), (290, "5m"), (1000, "15m"), (3500, "1h"), (5 * HOUR, "1d"), (30 * HOUR, "1d")],
)
def test_the_usual_step_of_the_history_is_the_default(step: int, freq: str) -> None:
    assert regular_history(points([step * i for i in range(40)])).freq == freq


def test_one_long_gap_does_not_change_the_default() -> None:
    times = [HOUR * i for i in range(10)] + [HOUR * (i + 500) for i in range(10)]
    assert regular_history(points(times)).freq == "1h"


def test_the_newest_price_is_the_last_step_and_gaps_are_missing() -> None:
    history = regular_history(points([0, HOUR, 10 * HOUR + 7], [0.1, 0.2, 0.9]), "1h")
    assert history.values[-1] == 0.9
    assert math.isnan(history.values[-2])
    assert len(history.values) == 11


def test_at_most_the_newest_steps_are_taken() -> None:
    assert len(regular_history(points([HOUR * i for i in range(900)])).values) == MOST_STEPS


@pytest.mark.parametrize("times", [[], [5], [0, 60]])
def test_fewer_than_two_steps_are_refused(times: list[int]) -> None:
    with pytest.raises(HistoryTooShort, match="two are needed"):
        regular_history(points(times), "1h")


def test_the_examples_are_true() -> None:
    assert doctest.testmod(cadence).failed == 0


def test_what_is_no_cadence_is_refused() -> None:
    with pytest.raises(InvalidFieldError):
        regular_history(points([0, HOUR]), "soon")
