"""One market as the stream has left it."""

from __future__ import annotations

import math
from collections import deque

from market_data.streaming.bars import Minutes
from market_data.streaming.volatility import Book, Diagnostics, VolatilityRules, Window

_NAN = math.nan


class LiveMarket:
    """One market as it stands.

    Attributes:
        ms, key: of its latest quote; recv_ms: when that was received.
        quiet_until: end of the cooldown of its last trigger; merged: looks since then that would
            have fired.
        suppressed: why it may not fire now; "" where it may.
        diagnostics: what the last look saw.
        volumes: of the minutes before, millionths of a contract.
    """

    __slots__ = (
        "ask", "ask_size", "bid", "bid_size", "diagnostics", "key", "market_id", "merged", "mid",
        "minutes", "ms", "quiet_until", "recv_ms", "suppressed", "volumes", "window",
    )  # fmt: skip

    def __init__(self, minutes: Minutes, rules: VolatilityRules) -> None:
        self.market_id = minutes.market_id
        self.minutes = minutes
        self.bid = self.ask = self.bid_size = self.ask_size = self.mid = _NAN
        self.ms = self.recv_ms = self.quiet_until = self.merged = 0
        self.key = self.suppressed = ""
        self.window = Window(rules.window_ms)
        self.volumes: deque[int] = deque(maxlen=rules.history)
        self.diagnostics: Diagnostics | None = None

    @property
    def book(self) -> Book:
        """Its best prices."""
        return Book(self.bid, self.ask, self.bid_size, self.ask_size)
