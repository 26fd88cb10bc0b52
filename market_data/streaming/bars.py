"""Bars of the mid, and of the trades, whatever the order in which events come.

A bar holds what happened in [start, start + interval) of the venue's time. Its open is the mid of
the earliest quote and its close that of the latest, by (time, key), so that two quotes of one
millisecond have an order too; high and low are over all quotes; volume is counted in millionths of
a contract. Each of these is the same for the same set of events in any order. A minute with trades
and no quote has the mid that stood before it.

The realised volatility of a minute is Parkinson's estimate from its range, in log-odds (The Extreme
Value Method for Estimating the Variance of the Rate of Return, Journal of Business 53(1), 1980);
that of a longer bar is the root of the sum of the squares of its minutes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from market_data.streaming.events import MICRO, Span, is_probability

MINUTE_MS = 60_000
FIVE_MS = 300_000
_PARKINSON = 2.0 * math.sqrt(math.log(2.0))
_EPS = 1e-6


class Bar(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A bar of one market.

    Attributes:
        start_ms: its first instant; interval_ms: its length.
        open, high, low, close: of the mid; NaN where no mid is known.
        volume: millionths of a contract.
        trade_count, quote_count: events in it.
        realized_vol: in log-odds over the bar; NaN without a mid, or where it is no probability.
    """

    market_id: str
    interval_ms: int
    start_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    trade_count: int
    quote_count: int
    realized_vol: float

    @property
    def end_ms(self) -> int:
        """The instant at which it closes."""
        return self.start_ms + self.interval_ms

    @property
    def contracts(self) -> float:
        """Volume in contracts."""
        return self.volume / MICRO


class OpenBar:
    """A minute that events are still folded into."""

    __slots__ = (
        "close", "close_key", "close_ms", "end", "high", "low", "open", "open_key", "open_ms",
        "quotes", "start", "trades", "volume",
    )  # fmt: skip

    def __init__(self, start: int) -> None:
        self.start = start
        self.end = start + MINUTE_MS
        self.open = self.close = math.nan
        self.high, self.low = -math.inf, math.inf
        self.open_ms, self.close_ms = self.end, start - 1
        self.open_key = self.close_key = ""
        self.volume = self.trades = self.quotes = 0

    def quote(self, ms: int, key: str, mid: float) -> None:
        """Folds the mid of a quote in."""
        self.quotes += 1
        if mid > self.high:
            self.high = mid
        if mid < self.low:
            self.low = mid
        if ms > self.close_ms or (ms == self.close_ms and key > self.close_key):
            self.close, self.close_ms, self.close_key = mid, ms, key
        if ms < self.open_ms or (ms == self.open_ms and key < self.open_key):
            self.open, self.open_ms, self.open_key = mid, ms, key

    def span(self, span: Span) -> None:
        """Folds quotes in that were merged."""
        before = self.quotes
        self.quote(span.first_ms, span.first_key, span.first)
        self.quote(span.last_ms, span.last_key, span.last)
        self.high, self.low = max(self.high, span.high), min(self.low, span.low)
        self.quotes = before + span.count

    def trade(self, size: int) -> None:
        """Counts a trade."""
        self.volume += size
        self.trades += 1

    @property
    def holds_something(self) -> bool:
        """Whether anything happened in it."""
        return bool(self.quotes or self.trades)

    def kept(self) -> tuple[Any, ...]:
        """What of it is kept when it closes: a quote that comes twice does not change it."""
        return self.open, self.high, self.low, self.close, self.volume, self.trades

    def state(self) -> tuple[Any, ...]:
        """What `restored` makes the same bar of."""
        return (self.start, self.open, self.open_ms, self.open_key, self.high, self.low, self.close,
                self.close_ms, self.close_key, self.volume, self.trades, self.quotes)  # fmt: skip

    @classmethod
    def restored(cls, state: Sequence[Any]) -> OpenBar:
        """The bar of a state."""
        bar = cls(state[0])
        (_, bar.open, bar.open_ms, bar.open_key, bar.high, bar.low, bar.close,
         bar.close_ms, bar.close_key, bar.volume, bar.trades, bar.quotes) = state  # fmt: skip
        return bar


class Minutes:
    """The minutes of one market that are open, or may be opened again.

    Attributes:
        bar: the latest minute; the hot path folds into it.
        carried: mid at the end of the minutes that were given up; NaN before any.
        revised: starts of closed minutes that something late was folded into.
    """

    __slots__ = ("_minutes", "bar", "carried", "market_id", "revised")

    def __init__(self, market_id: str, start: int) -> None:
        self.market_id = market_id
        self.bar = OpenBar(start)
        self._minutes: dict[int, OpenBar] = {start: self.bar}
        self.carried = math.nan
        self.revised: set[int] = set()

    def at(self, ms: int) -> OpenBar:
        """The minute of an instant."""
        start = ms - ms % MINUTE_MS
        bar = self._minutes.get(start)
        if bar is None:
            bar = self._minutes[start] = OpenBar(start)
            if start > self.bar.start:
                self.bar = bar
        return bar

    def closed(self, start: int) -> Bar | None:
        """The minute as it stands; None where nothing happened in it."""
        bar = self._minutes.get(start)
        if bar is None or not bar.holds_something:
            return None
        return self._as_bar([bar], MINUTE_MS, start)

    def closed_five(self, start: int) -> Bar | None:
        """The five minutes from ``start``; None where nothing happened in them."""
        steps = range(start, start + FIVE_MS, MINUTE_MS)
        bars = [self._minutes[one] for one in steps if one in self._minutes]
        bars = [one for one in bars if one.holds_something]
        return self._as_bar(bars, FIVE_MS, start) if bars else None

    def _mid_before(self, start: int) -> float:
        """The mid that stood when a minute began."""
        quoted = [one for one, bar in self._minutes.items() if one < start and bar.quotes]
        return self._minutes[max(quoted)].close if quoted else self.carried

    def starts(self, since: int) -> list[int]:
        """Minutes that began at or after an instant and hold something."""
        return [one for one, bar in self._minutes.items() if one >= since and bar.holds_something]

    def forget(self, before: int) -> None:
        """Gives up minutes that began before an instant; the latest stays."""
        old = sorted(one for one in self._minutes if one < before and one != self.bar.start)
        for start in old:
            bar = self._minutes.pop(start)
            if bar.quotes:
                self.carried = bar.close

    def _as_bar(self, bars: Sequence[OpenBar], interval_ms: int, start: int) -> Bar:
        quoted = [one for one in bars if one.quotes]
        if quoted:
            prices = (quoted[0].open, max(one.high for one in quoted),
                      min(one.low for one in quoted), quoted[-1].close)  # fmt: skip
        else:
            prices = (self._mid_before(start),) * 4
        return Bar(
            self.market_id, interval_ms, start, *prices,
            sum(one.volume for one in bars), sum(one.trades for one in bars),
            sum(one.quotes for one in bars), self._realized(quoted, prices[0]),
        )  # fmt: skip

    def _realized(self, bars: Iterable[OpenBar], price: float) -> float:
        """Root of the sum of squares of the minutes' estimates; 0.0 where the mid stood still."""
        if math.isnan(price) or not is_probability(self.market_id):
            return math.nan
        squares = [((_logit(one.high) - _logit(one.low)) / _PARKINSON) ** 2 for one in bars]
        return math.sqrt(math.fsum(squares))

    def state(self) -> tuple[Any, ...]:
        """What `restored` makes the same of."""
        minutes = [one.state() for _, one in sorted(self._minutes.items())]
        return (self.market_id, self.carried, minutes, sorted(self.revised))

    @classmethod
    def restored(cls, state: Sequence[Any]) -> Minutes:
        """The minutes of a state."""
        market_id, carried, minutes, revised = state
        bars = [OpenBar.restored(one) for one in minutes]
        made = cls(market_id, bars[-1].start)
        made._minutes = {one.start: one for one in bars}
        made.bar, made.carried, made.revised = bars[-1], carried, set(revised)
        return made


def _logit(price: float) -> float:
    clipped = min(max(price, _EPS), 1.0 - _EPS)
    return math.log(clipped / (1.0 - clipped))
