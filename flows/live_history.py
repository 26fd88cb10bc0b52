"""Closed bars of the last day, as forecasts and alerts look back on them."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from market_data.series import MAX_FILL_SECONDS
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import MICRO, is_probability

HOUR_MS = 3_600_000
CONTEXT_STEPS = 288
KEPT_MS = 26 * HOUR_MS
_FILL_STEPS = MAX_FILL_SECONDS * 1_000 // FIVE_MS


class _Market:
    """One market: closes and volumes of five minutes, volumes of the last hour's minutes."""

    __slots__ = ("fives", "minutes")

    def __init__(self) -> None:
        self.fives: dict[int, tuple[float, int]] = {}
        self.minutes: dict[int, int] = {}


class History:
    """Bars by market; what is older than 26 hours is forgotten, and with its last bar a market."""

    def __init__(self) -> None:
        self._markets: dict[str, _Market] = {}
        self._covered: list[int] = []

    def add(self, bars: Iterable[Bar]) -> None:
        """Takes bars of one and of five minutes; a bar that comes again replaces itself.

        Bars of prices that are no probabilities are passed over.
        """
        for bar in bars:
            if not is_probability(bar.market_id):
                continue
            market = self._markets.get(bar.market_id)
            if market is None:
                market = self._markets[bar.market_id] = _Market()
            if bar.interval_ms == FIVE_MS:
                market.fives[bar.end_ms] = (bar.close, bar.volume)
                self._cover(bar.end_ms)
            else:
                market.minutes[bar.end_ms] = bar.volume

    def _cover(self, end_ms: int) -> None:
        place = bisect_left(self._covered, end_ms)
        if place == len(self._covered) or self._covered[place] != end_ms:
            insort(self._covered, end_ms)

    def forget(self, now_ms: int) -> None:
        """Gives up what nobody looks back on any more."""
        oldest, hour_ago = now_ms - KEPT_MS, now_ms - 2 * HOUR_MS
        del self._covered[: bisect_left(self._covered, oldest)]
        for market in self._markets.values():
            market.fives = {end: one for end, one in market.fives.items() if end >= oldest}
            market.minutes = {end: one for end, one in market.minutes.items() if end >= hour_ago}
        self._markets = {
            name: market for name, market in self._markets.items() if market.fives or market.minutes
        }

    def has(self, market_id: str) -> bool:
        """Whether a bar of a market is known."""
        return market_id in self._markets

    def market_ids(self) -> list[str]:
        """The markets that are known, by id."""
        return sorted(self._markets)

    def has_five(self, market_id: str, end_ms: int) -> bool:
        """Whether something happened in the five minutes that end then."""
        market = self._markets.get(market_id)
        return market is not None and end_ms in market.fives

    def closes(self, market_id: str, end_ms: int) -> NDArray[np.float64]:
        """Closes of the 288 five-minute bars that end at ``end_ms`` or before, oldest first.

        A bar without a price has the one before it, for at most an hour; then NaN. Leading NaN are
        cut off.
        """
        market = self._markets.get(market_id)
        fives = market.fives if market else {}
        values: list[float] = []
        last, age = math.nan, 0
        for end in range(end_ms - (CONTEXT_STEPS - 1) * FIVE_MS, end_ms + 1, FIVE_MS):
            found = fives.get(end)
            if found is not None and found[0] == found[0]:
                last, age = found[0], 0
            else:
                age += 1
                if age > _FILL_STEPS:
                    last = math.nan
            if values or last == last:
                values.append(last)
        return np.array(values, dtype=np.float64)

    def volumes(self, market_id: str, at_ms: int) -> tuple[float, float, float]:
        """Contracts in the last hour, mean contracts per hour before it, hours that is over.

        The hours before are the five-minute bars of the 24 hours until an hour ago in which the
        stream was followed and this market was known. NaN where there are none.
        """
        market = self._markets.get(market_id)
        if market is None or not market.fives:
            return math.nan, math.nan, 0.0
        starts = range(at_ms - HOUR_MS + MINUTE_MS, at_ms + 1, MINUTE_MS)
        recent = sum(market.minutes.get(end, 0) for end in starts) / MICRO
        until = (at_ms - HOUR_MS) // FIVE_MS * FIVE_MS
        since = max(until - 24 * HOUR_MS, min(market.fives) - FIVE_MS)
        followed = bisect_right(self._covered, until) - bisect_right(self._covered, since)
        if followed <= 0:
            return recent, math.nan, 0.0
        before = sum(one[1] for end, one in market.fives.items() if since < end <= until) / MICRO
        hours = followed * FIVE_MS / HOUR_MS
        return recent, before / hours, hours
