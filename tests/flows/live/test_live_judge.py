"""What the judge makes of closed minutes, and what it gives up."""

from __future__ import annotations

import math

from calibration_service.alerts.policy import load_policy
from calibration_service.alerts.values import Band
from flows.live_bands import BandBook, BaselineBands, LocalBands
from flows.live_facts import Facts
from flows.live_history import HOUR_MS
from flows.live_judge import Judge
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import Resolved
from market_data.streaming.market_stream import MinuteClosed

POLICY = load_policy()
BASELINE = BaselineBands(POLICY, 14, "ewma")
END = 1_790_000_100_000 // FIVE_MS * FIVE_MS


def judge() -> Judge:
    made = Judge(POLICY, BandBook(LocalBands(BASELINE), BASELINE, 5.0), Facts())
    sides = tuple((one,) * 14 for one in (0.45, 0.55, 0.48, 0.52))
    made.bands.keep("m", Band(END, FIVE_MS, *sides, "test"))
    return made


def minute(number: int, close: float, market_id: str = "m") -> MinuteClosed:
    end = END + number * MINUTE_MS
    bar = Bar(market_id, MINUTE_MS, end - MINUTE_MS, *(close,) * 4, 1, 1, 1, 0.0)
    return MinuteClosed(end, (bar,), (), ())


async def test_a_minute_of_trades_alone_is_taken_and_is_no_price() -> None:
    made = judge()
    for number, close in ((1, 0.5), (2, 0.7), (3, math.nan)):
        assert await made.minute(minute(number, close)) == []
    state = made.watched["m"].alerts
    assert state.at_ms == END + 3 * MINUTE_MS
    assert state.last_price == 0.7
    assert state.breach is not None
    assert state.breach.outside == 1
    (alert,) = await made.minute(minute(4, 0.7))  # two minutes apart still follow one another
    assert alert.at_ms == END + 4 * MINUTE_MS


async def test_a_band_that_was_left_expires_while_there_are_trades_alone() -> None:
    made = judge()
    for number in (1, 2, 3):
        await made.minute(minute(number, 0.7))
    assert made.watched["m"].alerts.breach is not None
    await made.minute(minute(POLICY.reference_minutes + 1, math.nan))
    assert made.watched["m"].alerts.breach is None


async def test_a_price_that_is_no_probability_is_passed_over() -> None:
    made = judge()
    await made.minute(minute(1, 0.2, "binance:DOGEUSDT@mark"))
    assert made.watched == {}


async def test_markets_that_nobody_looks_back_on_are_given_up() -> None:
    made = judge()
    for name, price in (("m", 0.5), ("outside", 0.7), ("over", 0.5), ("new", 0.5)):
        made.bands.keep(name, made.bands.issued["m"][0])
        await made.minute(minute(1, price, name))
    at = END + 20 * HOUR_MS
    made.learn(Resolved("over", at, "r", at, "1", "", "venue"))
    made.touched.clear()
    made.touched.add("new")
    made.forget(END + 25 * HOUR_MS)
    assert set(made.watched) >= {"over", "outside", "new"}
    made.forget(END + 28 * HOUR_MS)
    assert set(made.watched) == {"outside", "over", "new"}  # "new" is not kept yet
    assert set(made.bands.issued) == set(made.watched)
    made.touched.clear()
    made.forget(END + 47 * HOUR_MS)
    assert set(made.watched) == {"outside"}  # its breach goes on


async def test_a_market_with_bars_is_not_given_up() -> None:
    made = judge()
    made.learn(Resolved("m", END - 30 * HOUR_MS, "r", END, "1", "", "venue"))
    await made.minute(minute(1, 0.5))
    made.touched.clear()
    made.forget(END + FIVE_MS)
    assert made.watched["m"].is_over(END)
