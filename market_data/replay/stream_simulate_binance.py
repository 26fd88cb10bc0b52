"""Simulated mark prices and candles, as combined frames of the futures venue."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from market_data.replay.stream_capture import Record

_MARK = (
    '{"stream":"%s@markPrice@1s","data":{"e":"markPriceUpdate","E":%d,"s":"%s","p":"%.8f",'
    '"ap":"%.8f","i":"%.8f","P":"%.8f","r":"0.00010000","T":%d}}'
)
_CANDLE = (
    '"k":{"t":%d,"T":%d,%s"i":"1m","f":%d,"L":%d,"o":"%.2f","c":"%.2f","h":"%.2f","l":"%.2f",'
    '"v":"%.3f","n":%d,"x":%s,"q":"%.2f","V":"%.3f","Q":"%.2f","B":"0"}}}'
)
_KLINE = '{"stream":"%s@kline_1m","data":{"e":"kline","E":%d,"s":"%s",' + _CANDLE
_CONTINUOUS = (
    '{"stream":"%s_perpetual@continuousKline_1m","data":{"e":"continuous_kline","E":%d,'
    '"ps":"%s","ct":"PERPETUAL",' + _CANDLE
)
_MINUTE, _EIGHT_HOURS = 60_000, 28_800_000
_SIGMA = 0.00008
"""Deviation of one second's log return."""


def binance_records(
    symbols: tuple[str, ...], *, start_ms: int, end_ms: int, seed: int
) -> Iterator[Record]:
    """Every second a mark price and an open candle of each symbol; every minute the closed ones."""
    if symbols:
        yield from _seconds(symbols, start_ms - start_ms % 1000, end_ms, seed)


def _seconds(symbols: tuple[str, ...], start_ms: int, end_ms: int, seed: int) -> Iterator[Record]:
    rng = random.Random(f"binance {seed}")
    walks = [_Walk(symbol, price, rng) for symbol, price in zip(symbols, _prices(), strict=False)]
    for ms in range(start_ms, end_ms, 1000):
        received = ms + 20 + rng.randrange(30)
        for walk in walks:
            for frame in walk.second(ms):
                yield Record(received, "binance", frame.encode())


def _prices() -> Iterator[float]:
    price = 64_000.0
    while True:
        yield price
        price = max(price / 20, 0.5)


class _Walk:
    """One symbol's price, and the candle of its current minute."""

    def __init__(self, symbol: str, price: float, rng: random.Random) -> None:
        self._symbol = symbol
        self._rng = rng
        self._price = price
        self._minute = -1
        self._trades = 900_000_000
        self._reset(-1)

    def _reset(self, minute: int) -> None:
        self._minute = minute
        self._open = self._high = self._low = self._price
        self._volume = 0.0
        self._first = self._trades

    def second(self, ms: int) -> list[str]:
        frames: list[str] = []
        minute = ms - ms % _MINUTE
        if minute != self._minute:
            if self._minute >= 0:
                frames = self._candle(ms, is_closed=True)
            self._reset(minute)
        self._price *= math.exp(self._rng.gauss(0.0, _SIGMA))
        self._high = max(self._high, self._price)
        self._low = min(self._low, self._price)
        self._volume += self._rng.expovariate(1.0)
        self._trades += 1 + self._rng.randrange(20)
        return [*frames, self._mark(ms), *self._candle(ms, is_closed=False)[:1]]

    def _mark(self, ms: int) -> str:
        price = self._price
        funding = ms - ms % _EIGHT_HOURS + _EIGHT_HOURS
        return _MARK % (
            self._symbol.lower(), ms, self._symbol, price, price, price * 0.9999, price, funding,
        )  # fmt: skip

    def _candle(self, ms: int, *, is_closed: bool) -> list[str]:
        lower, volume, price = self._symbol.lower(), self._volume, self._price
        head = (self._minute, self._minute + _MINUTE - 1)
        tail = (
            self._first, self._trades, self._open, price, self._high, self._low, volume,
            self._trades - self._first, "true" if is_closed else "false",
            volume * price, volume / 2, volume * price / 2,
        )  # fmt: skip
        named = f'"s":"{self._symbol}",'
        return [
            _KLINE % (lower, ms, self._symbol, *head, named, *tail),
            _CONTINUOUS % (lower, ms, self._symbol, *head, "", *tail),
        ]
