"""Frames of the futures market streams. Pure: bytes in, events out; no I/O, no clock.

Read are ``markPriceUpdate``, ``kline`` and ``continuous_kline``; a combined frame is opened. A
contract is "binance:ETHUSDT"; bars of its mark price belong to "binance:ETHUSDT@mark". Where the
venue gives no event time, that of receipt stands in and is counted.
"""

from __future__ import annotations

import math
from collections import Counter

import msgspec

from market_data.streaming.events import MICRO, Event, Kline, Mark
from market_data.streaming.rejected import Rejected

_NAN = math.nan
_MOST = 1e12
_EARLIEST_MS = 1_420_070_400_000


class _Candle(msgspec.Struct, gc=False):
    start: int = msgspec.field(name="t")
    interval: str = msgspec.field(name="i")
    open: float = msgspec.field(name="o")
    high: float = msgspec.field(name="h")
    low: float = msgspec.field(name="l")
    close: float = msgspec.field(name="c")
    volume: float = msgspec.field(name="v")
    trades: int = msgspec.field(name="n")
    closed: bool = msgspec.field(name="x")
    symbol: str = msgspec.field(name="s", default="")


class _Update(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="e", default="")
    event_ms: int | None = msgspec.field(name="E", default=None)
    symbol: str = msgspec.field(name="s", default="")
    pair: str = msgspec.field(name="ps", default="")
    price: str = msgspec.field(name="p", default="")
    index: str = msgspec.field(name="i", default="")
    funding: str = msgspec.field(name="r", default="")
    candle: _Candle | None = msgspec.field(name="k", default=None)


class _Kind(msgspec.Struct, gc=False):
    kind: str = msgspec.field(name="e", default="")


class _Frame(msgspec.Struct, gc=False):
    data: msgspec.Raw = msgspec.Raw(b"")
    kind: str = msgspec.field(name="e", default="")


_FRAME = msgspec.json.Decoder(_Frame, strict=False)
_KIND = msgspec.json.Decoder(_Kind, strict=False)
_UPDATE = msgspec.json.Decoder(_Update, strict=False)
_READ = ("markPriceUpdate", "kline", "continuous_kline")


class FuturesParser:
    """Reads the frames of market streams.

    Attributes:
        counts: messages by kind; "UNKNOWN_TYPE" gave no event, "WITHOUT_EVENT_TIME" got the time
            of receipt.
        rejected: messages that could not be read, until somebody takes them away.
    """

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejected] = []

    def parse(self, frame: bytes, recv_ms: int) -> list[Event]:
        """The event of a frame, if it has one; what cannot be read goes to ``rejected``."""
        try:
            outer = _FRAME.decode(frame)
            raw = bytes(outer.data) or frame
            kind = outer.kind or _KIND.decode(raw).kind
            if kind not in _READ:  # other streams have other types under the same letters
                self.counts["UNKNOWN_TYPE"] += 1
                return []
            event = self._read(_UPDATE.decode(raw), recv_ms)
        except msgspec.ValidationError as error:
            return self._reject("FIELDS_UNREADABLE", str(error), frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return self._reject("NOT_JSON", str(error), frame)
        except ValueError as error:
            return self._reject("FIELDS_UNREADABLE", str(error), frame)
        self.counts[kind] += 1
        return [event]

    def _reject(self, reason: str, detail: str, raw: bytes) -> list[Event]:
        self.counts[reason] += 1
        self.rejected.append(Rejected(reason, detail, raw))
        return []

    def _read(self, update: _Update, recv_ms: int) -> Event:
        candle = update.candle
        symbol = update.symbol or (candle.symbol if candle else "") or update.pair
        if not symbol:
            raise ValueError("s, k.s, ps: all missing")
        ms = update.event_ms or 0
        if ms < _EARLIEST_MS:
            self.counts["WITHOUT_EVENT_TIME"] += 1
            ms = recv_ms
        if update.kind == "markPriceUpdate":
            return _mark(update, symbol, ms, recv_ms)
        if candle is None:
            raise ValueError("k: missing")
        return _kline(candle, symbol, ms, recv_ms)


def _mark(update: _Update, symbol: str, ms: int, recv_ms: int) -> Mark:
    price = _positive(update.price, "p")
    index = _positive(update.index, "i") if update.index else _NAN
    funding = float(update.funding) if update.funding else _NAN
    return Mark(f"binance:{symbol}@mark", ms, f"m{ms}", recv_ms, price, index, funding)


def _kline(candle: _Candle, symbol: str, ms: int, recv_ms: int) -> Kline:
    prices = (candle.open, candle.high, candle.low, candle.close)
    if not all(math.isfinite(one) and one > 0.0 for one in prices):
        raise ValueError(f"k: prices {prices}")
    if not 0.0 <= candle.volume < _MOST:
        raise ValueError(f"k.v: {candle.volume}")
    what = "closed" if candle.closed else str(ms)
    key = f"k{candle.interval}/{candle.start}/{what}"
    return Kline(
        f"binance:{symbol}", ms, key, recv_ms, candle.interval, candle.start, *prices,
        round(candle.volume * MICRO), candle.trades, candle.closed,
    )  # fmt: skip


def _positive(text: str, name: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and value > 0.0):
        raise ValueError(f"{name}: {text!r} is no price")
    return value
