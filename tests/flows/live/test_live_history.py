"""What forecasts and gates look back on."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flows.live_history import HOUR_MS, History
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar

END = 1_790_000_100_000 // FIVE_MS * FIVE_MS
NAN = math.nan


def five(end: int, close: float, volume: int = 0, market: str = "m") -> Bar:
    return Bar(market, FIVE_MS, end - FIVE_MS, *(close,) * 4, volume, 1, 1, 0.0)


def minute(end: int, volume: int, market: str = "m") -> Bar:
    return Bar(market, MINUTE_MS, end - MINUTE_MS, *(0.5,) * 4, volume, 1, 1, 0.0)


def test_closes_are_carried_for_an_hour_and_missing_after_it() -> None:
    history = History()
    history.add([five(END - 20 * FIVE_MS, 0.4), five(END, 0.6)])
    values = history.closes("m", END)
    assert len(values) == 21  # what was before the first bar is cut off
    assert values[:13].tolist() == [0.4] * 13
    assert np.isnan(values[13:20]).all()
    assert values[20] == 0.6


def test_no_close_comes_from_after_the_instant() -> None:
    history = History()
    history.add([five(END, 0.4), five(END + FIVE_MS, 0.9)])
    assert history.closes("m", END).tolist() == [0.4]
    assert history.closes("other", END).tolist() == []


def test_a_context_is_a_day_at_most() -> None:
    history = History()
    history.add([five(END - n * FIVE_MS, 0.5) for n in range(400)])
    assert len(history.closes("m", END)) == 288


def test_volume_is_held_against_the_hours_in_which_the_stream_was_followed() -> None:
    history = History()
    history.add([five(END - n * FIVE_MS, 0.5, 1_000_000) for n in range(12, 12 + 72)])  # six hours
    history.add([minute(END - n * MINUTE_MS, 2_000_000) for n in range(60)])
    recent, mean, hours = history.volumes("m", END)
    assert recent == 120.0
    assert hours == pytest.approx(6.0)
    assert mean == pytest.approx(12.0)


def test_a_gap_in_which_nobody_listened_is_no_quiet_time() -> None:
    history = History()
    history.add([five(END - n * FIVE_MS, 0.5, 1_000_000) for n in range(12, 24)])
    history.add([five(END - n * FIVE_MS, 0.5, 1_000_000) for n in range(200, 212)])
    _, mean, hours = history.volumes("m", END)
    assert hours == pytest.approx(2.0)
    assert mean == pytest.approx(12.0)


def test_a_market_that_was_quiet_while_others_were_followed_counts_its_silence() -> None:
    history = History()
    history.add([five(END - 30 * FIVE_MS, 0.5, 6_000_000)])
    history.add([five(END - n * FIVE_MS, 0.5, 1, "other") for n in range(12, 31)])
    _, mean, hours = history.volumes("m", END)
    assert hours == pytest.approx(19 / 12)
    assert mean == pytest.approx(6.0 / (19 / 12))


def test_a_market_without_bars_has_no_volume_and_says_so() -> None:
    recent, mean, hours = History().volumes("m", END)
    assert math.isnan(recent)
    assert math.isnan(mean)
    assert hours == 0.0


def test_a_bar_that_comes_again_replaces_itself() -> None:
    history = History()
    history.add([minute(END, 1_000_000), minute(END, 3_000_000), five(END, 0.5)])
    assert history.volumes("m", END)[0] == 3.0


def test_what_is_older_than_a_day_is_forgotten() -> None:
    history = History()
    history.add([five(END - 27 * HOUR_MS, 0.5), five(END, 0.5)])
    history.forget(END)
    assert history.closes("m", END - 26 * HOUR_MS).tolist() == []
    assert history.has_five("m", END)


def test_a_market_without_a_bar_left_is_forgotten() -> None:
    history = History()
    history.add([five(END - 27 * HOUR_MS, 0.5, market="old"), five(END, 0.5)])
    history.add([minute(END - 3 * HOUR_MS, 1, market="minutes")])
    history.forget(END)
    assert history.market_ids() == ["m"]
    assert [history.has(name) for name in ("m", "old", "minutes")] == [True, False, False]


def test_prices_that_are_no_probabilities_are_passed_over() -> None:
    history = History()
    history.add([five(END, 3_184.2, market="binance:ETHUSDT@mark")])
    assert history.market_ids() == []
