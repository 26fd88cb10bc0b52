"""Bars against an independent computation with polars, over events in any order."""

from __future__ import annotations

import math
import random
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar, Minutes, OpenBar
from market_data.streaming.events import Mark, Quote, Trade, merged
from market_data.streaming.market_stream import MarketStream, MinuteClosed, StreamRules
from market_data.streaming.volatility import VolatilityRules

START = 1_790_000_100_000 // FIVE_MS * FIVE_MS
NAN = math.nan


def quote(market: str, ms: int, bid: float, ask: float, key: str = "") -> Quote:
    return Quote(market, ms, key or f"q{bid}/{ask}", ms, bid, ask, 100.0, 100.0)


def trade(market: str, ms: int, price: float, size: int, number: int) -> Trade:
    return Trade(market, ms, f"t{market}{ms}/{number}", ms, price, size, 1)


def walk(seed: int, count: int, *, markets: int = 3, span_ms: int = 20 * MINUTE_MS) -> list[Any]:
    """Quotes and trades of several markets, some books with an empty side, in order of time."""
    rng = random.Random(seed)
    mids = [rng.randrange(20, 80) for _ in range(markets)]
    events: list[Any] = []
    for number in range(count):
        which, ms = rng.randrange(markets), START + rng.randrange(span_ms)
        mids[which] = min(97, max(3, mids[which] + rng.choice((-2, -1, 0, 1, 2))))
        bid, ask = (mids[which] - 1) / 100, (mids[which] + rng.choice((0, 1))) / 100
        if rng.random() < 0.3:
            events.append(trade(f"m{which}", ms, bid, rng.randrange(1, 10**9), number))
        else:
            empty = rng.random() < 0.05
            events.append(quote(f"m{which}", ms, NAN if empty else bid, ask, f"k{number % 7}"))
    return sorted(events, key=lambda one: one.ms)


def folded(events: list[Any], **rules: int) -> dict[tuple[str, int, int], Bar]:
    """The bars as they stand in the end, revisions over what was closed first."""
    stream = MarketStream(StreamRules(**rules), VolatilityRules())
    stream.apply(events)
    stream.advance(START + 3 * 3_600_000 // 2)
    found = {}
    for signal in stream.take_signals():
        if isinstance(signal, MinuteClosed):
            for bar in (*signal.revised, *signal.bars, *signal.fives):
                found[bar.market_id, bar.interval_ms, bar.start_ms] = bar
    return found


def by_polars(events: list[Any], interval: int) -> dict[tuple[str, int], tuple[float, ...]]:
    """(open, high, low, close, volume, trades) by market and start, from a table of events."""
    rows = [
        {
            "market": one.market_id, "ms": one.ms, "key": one.key,
            "mid": (one.bid + one.ask) / 2 if isinstance(one, Quote) else None,
            "size": one.size if isinstance(one, Trade) else None,
        }
        for one in events
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides={"mid": pl.Float64, "size": pl.Int64})
    frame = frame.unique().with_columns(
        (pl.col("ms") // interval * interval).alias("start"), pl.col("mid").fill_nan(None)
    )
    quotes = frame.filter(pl.col("mid").is_not_null()).sort("ms", "key")
    prices = quotes.group_by("market", "start", maintain_order=True).agg(
        pl.col("mid").first().alias("open"), pl.col("mid").max().alias("high"),
        pl.col("mid").min().alias("low"), pl.col("mid").last().alias("close"),
    )  # fmt: skip
    sums = frame.group_by("market", "start").agg(
        pl.col("size").sum().alias("volume"), pl.col("size").count().alias("trades")
    )
    joined = prices.join(sums, on=("market", "start"))
    return {(row[0], row[1]): row[2:] for row in joined.iter_rows()}


@pytest.mark.parametrize("interval", [MINUTE_MS, FIVE_MS], ids=["1m", "5m"])
@pytest.mark.parametrize("seed", range(3))
def test_bars_are_those_of_an_independent_computation(seed: int, interval: int) -> None:
    events = walk(seed, 4_000)
    expected = by_polars(events, interval)
    found = {
        (market, start): (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count)
        for (market, length, start), bar in folded(events).items()
        if length == interval and bar.quote_count
    }
    assert found == expected
    assert len(found) > (50 if interval == MINUTE_MS else 10)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_change_bars(seed: int, rng: random.Random) -> None:
    events = walk(seed, 300, span_ms=4 * MINUTE_MS)
    others = events + rng.sample(events, 60)
    rng.shuffle(others)
    wide = {"lateness_ms": 10_000, "reopen_ms": 600_000}
    first, second = folded(events, **wide), folded(others, **wide)
    assert {key: _kept(bar) for key, bar in first.items()} == {
        key: _kept(bar) for key, bar in second.items()
    }


def _kept(bar: Bar) -> tuple[Any, ...]:
    """What is stored of a bar; NaN as a word, since it equals nothing."""
    values = (bar.open, bar.high, bar.low, bar.close, bar.volume, bar.trade_count, bar.realized_vol)
    return tuple("nan" if value != value else value for value in values)


def test_a_late_quote_within_the_bound_revises_its_bar() -> None:
    stream = MarketStream(StreamRules(), VolatilityRules())
    stream.apply([quote("m", START + 1_000, 0.4, 0.5), quote("m", START + 63_000, 0.4, 0.5)])
    stream.apply([quote("m", START + 2_000, 0.6, 0.7)])
    stream.apply([quote("m", START + 123_000, 0.4, 0.5)])
    first, second = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    assert first.bars[0].high == 0.45
    assert [(bar.start_ms, bar.high) for bar in second.revised] == [(START, (0.6 + 0.7) / 2)]
    assert stream.counts["LATE"] == 1


def test_a_late_quote_that_changes_nothing_is_no_revision() -> None:
    stream = MarketStream(StreamRules(recent=1), VolatilityRules())
    first = [quote("m", START + 1_000, 0.4, 0.5), quote("m", START + 2_000, 0.5, 0.6)]
    stream.apply([*first, quote("m", START + 63_000, 0.4, 0.5)])
    stream.apply([*first, quote("m", START + 123_000, 0.4, 0.5)])
    closed = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    assert [one.revised for one in closed] == [(), ()]
    assert stream.counts["LATE"] == 2


def test_what_comes_after_the_bound_changes_nothing_and_is_counted() -> None:
    stream = MarketStream(StreamRules(reopen_ms=60_000), VolatilityRules())
    stream.apply([quote("m", START + 3_000, 0.4, 0.5)])
    stream.advance(START + 600_000)
    stream.take_signals()
    stream.apply([quote("m", START + 2_000, 0.8, 0.9), trade("m", START + 2_000, 0.5, 7, 1)])
    stream.advance(START + 700_000)
    closed = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    assert not [bar for one in closed for bar in (*one.bars, *one.revised, *one.fives)]
    assert stream.counts["TOO_LATE"] == 1
    assert stream.counts["TOO_LATE_TRADE"] == 1


def test_an_old_book_that_is_newer_than_what_is_known_is_the_price_from_now_on() -> None:
    stream = MarketStream(StreamRules(reopen_ms=60_000), VolatilityRules())
    stream.apply([quote("m", START + 1_000, 0.4, 0.5)])
    stream.advance(START + 600_000)
    stream.take_signals()
    stream.apply([quote("m", START + 90_000, 0.8, 0.9)])  # read over REST after a gap
    stream.advance(START + 700_000)
    closed = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    bars = [bar for one in closed for bar in (*one.revised, *one.bars)]
    assert [bar.close for bar in bars] == [pytest.approx(0.85)]
    assert bars[0].start_ms == closed[0].end_ms - MINUTE_MS
    assert stream.markets["m"].mid == pytest.approx(0.85)


def test_a_late_trade_has_the_mid_that_stood_before_its_minute() -> None:
    stream = MarketStream(StreamRules(), VolatilityRules())
    stream.apply([quote("m", START + 1_000, 0.4, 0.6), quote("m", START + 181_000, 0.8, 1.0)])
    stream.advance(START + 243_000)
    stream.take_signals()
    stream.apply([trade("m", START + 70_000, 0.5, 7, 1)])
    stream.advance(START + 303_000)
    revised = [
        bar for one in stream.take_signals() if isinstance(one, MinuteClosed) for bar in one.revised
    ]
    assert [(bar.start_ms, bar.close) for bar in revised] == [(START + MINUTE_MS, 0.5)]


def test_quotes_that_were_merged_into_an_empty_side_keep_their_mids() -> None:
    one = merged(quote("m", START + 1_000, 0.4, 0.42), quote("m", START + 2_000, NAN, 0.42))
    stream = MarketStream(StreamRules(), VolatilityRules())
    stream.apply([one])
    stream.advance(START + 63_000)
    (closed,) = [got for got in stream.take_signals() if isinstance(got, MinuteClosed)]
    assert [bar.close for bar in closed.bars] == [pytest.approx(0.41)]
    assert math.isnan(stream.markets["m"].mid)


def test_a_year_without_events_is_leapt_over() -> None:
    stream = MarketStream(StreamRules(), VolatilityRules())
    stream.apply([quote("m", START + 1_000, 0.4, 0.5)])
    later = START + 365 * 86_400_000
    stream.apply([quote("m", later, 0.6, 0.7)])
    closed = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    assert len(closed) == 2
    assert [bar.close for bar in closed[0].bars] == [pytest.approx(0.45)]
    assert [bar.close for bar in closed[1].fives] == [pytest.approx(0.45)]
    assert stream.closed_until == (later - 2_000) // MINUTE_MS * MINUTE_MS


def test_a_quote_of_the_past_does_not_begin_a_fresh_store_there() -> None:
    stream = MarketStream(StreamRules(max_ahead_ms=60_000), VolatilityRules())
    old = Quote("m", START - 86_400_000, "k", START, 0.4, 0.5, 1.0, 1.0)
    stream.apply([old, quote("m", START + 70_000, 0.6, 0.7)])
    assert stream.closed_until >= START - 300_000


def test_one_market_whose_clock_is_ahead_makes_no_other_late() -> None:
    stream = MarketStream(StreamRules(max_ahead_ms=60_000), VolatilityRules())
    for number in range(3_000):
        ms = START + number * 10
        stream.apply([Quote("m", ms, f"k{number}", ms + 80, 0.4, 0.5, 1.0, 1.0)])
    now = START + 30_000
    stream.apply([Quote("other", now + 58_000, "k", now + 80, 0.4, 0.5, 1.0, 1.0)])
    assert stream.counts["AHEAD"] == 1
    stream.apply([Quote("m", now + 10_000, "later", now + 10_080, 0.8, 0.9, 1.0, 1.0)])
    stream.advance(now + 40_000)
    (closed,) = [got for got in stream.take_signals() if isinstance(got, MinuteClosed)]
    assert closed.bars[0].high == pytest.approx(0.85)
    assert not stream.counts["LATE"]


def test_the_price_of_a_contract_is_no_probability_however_small_it_is() -> None:
    stream = MarketStream(StreamRules(), VolatilityRules())
    marks = [Mark("binance:DOGEUSDT@mark", START + n * 1_000, f"m{n}", START, 0.2 + n / 1e3, NAN,
                  NAN) for n in range(5)]  # fmt: skip
    stream.apply(marks)
    stream.advance(START + 63_000)
    closed = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)]
    assert math.isnan(closed[0].bars[0].realized_vol)


def test_a_time_far_ahead_of_its_receipt_closes_nothing() -> None:
    stream = MarketStream(StreamRules(max_ahead_ms=60_000), VolatilityRules())
    stream.apply([quote("m", START + 1_000, 0.4, 0.5)])
    lying = Quote("m", START + 3_600_000, "k", START + 2_000, 0.4, 0.5, 1.0, 1.0)
    stream.apply([lying])
    assert stream.counts["AHEAD"] == 1
    assert stream.closed_until == START
    assert not stream.take_signals()


def test_a_minute_with_trades_alone_has_the_mid_before_it() -> None:
    stream = MarketStream(StreamRules(), VolatilityRules())
    stream.apply([quote("m", START, 0.4, 0.5), trade("m", START + 61_000, 0.5, 3_000_000, 1)])
    stream.advance(START + 130_000)
    second = [one for one in stream.take_signals() if isinstance(one, MinuteClosed)][1]
    bar = second.bars[0]
    assert (bar.open, bar.high, bar.low, bar.close) == (0.45,) * 4
    assert (bar.contracts, bar.trade_count, bar.quote_count) == (3.0, 1, 0)


def test_merged_quotes_leave_the_bar_that_all_of_them_would() -> None:
    events = [one for one in walk(5, 400, markets=1, span_ms=MINUTE_MS) if isinstance(one, Quote)]
    whole, squeezed = OpenBar(START), OpenBar(START)
    one = events[0]
    for event in events[1:]:
        one = merged(one, event)  # type: ignore[assignment]
    for event in events:
        mid = (event.bid + event.ask) / 2
        if mid == mid:
            whole.quote(event.ms, event.key, mid)
    assert one.span is not None
    squeezed.span(one.span)
    assert squeezed.state() == whole.state()


def test_a_state_written_and_read_again_folds_on_the_same() -> None:
    minutes = Minutes("m", START)
    minutes.at(START).quote(START + 5, "a", 0.5)
    again = Minutes.restored(minutes.state())
    for one in (minutes, again):
        one.at(START + 70_000).quote(START + 70_000, "b", 0.6)
    assert again.state() == minutes.state()
    assert again.closed_five(START) == minutes.closed_five(START)
