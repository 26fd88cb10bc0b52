"""Frames of the market channel. Pure: bytes in, events out; no I/O, no clock.

A frame is one message or an array of them. A message that cannot be read is set aside with its
reason, and the others of its frame go on. Fields that are not known are passed over; kinds of
messages that are not known are counted. Level order is not promised, so the best prices are looked
for; the prices "0" and "1" of an empty side are no prices.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from market_data.streaming.events import (
    MICRO,
    Event,
    NewMarket,
    Quote,
    Resolved,
    TickSize,
    Trade,
)
from market_data.streaming.instruments import Instrument
from market_data.streaming.rejected import Rejected

_NAN = math.nan
_SIDES = {"BUY": 1, "SELL": -1}
_EARLIEST_MS, _MAX_MS = 1_420_070_400_000, 1 << 53  # 2015: seconds, and other mistakes, are before
_LONGEST_KEY, _MOST_CONTRACTS = 300, 1e9
_TOKEN = re.compile(r"[0-9A-Za-z_.:-]{0,128}")
_NEW = Quote  # a local name for the hot path


class _Level(msgspec.Struct, gc=False, order=True):
    price: float
    size: float = _NAN


class _Change(msgspec.Struct, gc=False):
    asset_id: str
    price: str
    size: str
    side: str
    hash: str = ""
    best_bid: float = _NAN
    best_ask: float = _NAN


class _Message(msgspec.Struct, gc=False):
    """Any message of the channel: which fields it has depends on its ``event_type``."""

    event_type: str = ""
    timestamp: int = 0
    asset_id: str = ""
    market: str = ""
    bids: list[_Level] | None = None
    asks: list[_Level] | None = None
    price_changes: list[_Change] | None = None
    hash: str = ""
    price: str = ""
    size: str = ""
    side: str = ""
    transaction_hash: str | None = None
    best_bid: float = _NAN
    best_ask: float = _NAN
    new_tick_size: str = ""
    question: str = ""
    slug: str = ""
    assets_ids: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    tags: tuple[str, ...] | None = None
    winning_asset_id: str | None = None
    winning_outcome: str | None = None


_ONE = msgspec.json.Decoder(_Message, strict=False)
_SEVERAL = msgspec.json.Decoder(list[_Message], strict=False)
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_BARE_POINT = re.compile(rb'(":\s*"-?)\.(?=[0-9])')


class _BadMessage(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class MarketChannelParser:
    """Reads the frames of one market channel.

    Attributes:
        counts: messages by kind; "UNKNOWN_TYPE", "UNKNOWN_INSTRUMENT" and "MIRRORED" (quotes of a
            second outcome, which repeat those of the first) are of those that gave no event.
        rejected: messages that could not be read, until somebody takes them away.
        heard: tokens that messages were about, with the venue's time and whether it was the whole
            book; None, as it is at first, where nobody wants to know.
    """

    def __init__(self, tokens: Mapping[str, Instrument]) -> None:
        self._tokens = tokens
        self.counts: Counter[str] = Counter()
        self.rejected: list[Rejected] = []
        self.heard: dict[str, tuple[int, bool]] | None = None
        self._readers: dict[str, Callable[[_Message, int, list[Event], Any], None]] = {
            "book": self._book,
            "price_change": self._price_change,
            "best_bid_ask": self._best_bid_ask,
            "last_trade_price": self._trade,
            "tick_size_change": self._tick_size,
            "new_market": self._new_market,
            "market_resolved": self._resolved,
        }

    def parse(self, frame: bytes, recv_ms: int) -> list[Event]:
        """The events of a frame, in its order; what cannot be read goes to ``rejected``."""
        events: list[Event] = []
        if frame[:1] == b"[":
            self._array(frame, recv_ms, events)
            return events
        try:
            message = _decoded(frame)
            self._readers[message.event_type](message, recv_ms, events, None)
        except KeyError:
            self.counts["UNKNOWN_TYPE"] += 1
        except (msgspec.DecodeError, UnicodeDecodeError, _BadMessage) as error:
            self._reject(frame, error)
        return events

    def _array(self, frame: bytes, recv_ms: int, events: list[Event]) -> None:
        equal: Counter[tuple[str, ...]] = Counter()
        try:
            messages = _SEVERAL.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._one_by_one(frame, recv_ms, events, equal)
            return
        for message in messages:
            try:
                self._read(message, recv_ms, events, equal)
            except _BadMessage as error:
                self._reject(frame, error)

    def _one_by_one(
        self, frame: bytes, recv_ms: int, events: list[Event], equal: Counter[tuple[str, ...]]
    ) -> None:
        try:
            elements = _ELEMENTS.decode(frame)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self._reject(frame, error)
            return
        for element in elements:
            try:
                self._read(_decoded(bytes(element)), recv_ms, events, equal)
            except (msgspec.DecodeError, UnicodeDecodeError, _BadMessage) as error:
                self._reject(bytes(element), error)

    def _read(
        self, message: _Message, recv_ms: int, events: list[Event], equal: Counter[tuple[str, ...]]
    ) -> None:
        reader = self._readers.get(message.event_type)
        if reader is None:
            self.counts["UNKNOWN_TYPE"] += 1
            return
        reader(message, recv_ms, events, equal)

    def _reject(self, raw: bytes, error: Exception) -> None:
        reason, detail = "FIELDS_UNREADABLE", str(error)
        if isinstance(error, _BadMessage):
            reason, detail = error.reason, error.detail
        elif not isinstance(error, msgspec.ValidationError):
            reason = "NOT_JSON"
        self.counts[reason] += 1
        self.rejected.append(Rejected(reason, detail, raw))

    def _instrument(self, asset_id: str) -> Instrument | None:
        instrument = self._tokens.get(asset_id)
        if instrument is None:
            self.counts["UNKNOWN_INSTRUMENT"] += 1
        return instrument

    def _book(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        instrument = self._tokens.get(message.asset_id)
        if message.bids is None or message.asks is None:
            raise _BadMessage("FIELDS_UNREADABLE", "bids, asks: missing")
        if instrument is None or not instrument.is_first:
            if self.heard is not None:
                self.heard[message.asset_id] = message.timestamp, True
            self.counts["UNKNOWN_INSTRUMENT" if instrument is None else "MIRRORED"] += 1
            return
        bid, bid_size = _best(max, message.bids)
        ask, ask_size = _best(min, message.asks)
        ms = message.timestamp
        _check(ms, bid, ask)
        if self.heard is not None:
            self.heard[message.asset_id] = ms, True
        self.counts["book"] += 1
        events.append(
            _NEW(instrument.market_id, ms, f"b{message.hash[:80]}", recv_ms, bid, ask,
                 bid_size, ask_size)
        )  # fmt: skip

    def _price_change(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        self.counts["price_change"] += 1
        ms, tokens = message.timestamp, self._tokens
        for change in message.price_changes or ():
            if self.heard is not None:
                self.heard.setdefault(change.asset_id, (ms, False))
            instrument = tokens.get(change.asset_id)
            if instrument is None or not instrument.is_first:
                self.counts["UNKNOWN_INSTRUMENT" if instrument is None else "MIRRORED"] += 1
                continue
            bid, ask = change.best_bid, change.best_ask
            if bid != bid and ask != ask:  # the message does not say what is best now
                self.counts["WITHOUT_BEST_PRICES"] += 1
                continue
            if bid == 0.0:
                bid = _NAN
            if ask == 1.0:
                ask = _NAN
            _check(ms, bid, ask)
            key = f"c{change.side}{change.price}/{change.size}{change.hash}"[:_LONGEST_KEY]
            events.append(_NEW(instrument.market_id, ms, key, recv_ms, bid, ask, _NAN, _NAN))

    def _best_bid_ask(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        if self.heard is not None:
            self.heard.setdefault(message.asset_id, (message.timestamp, False))
        instrument = self._tokens.get(message.asset_id)
        if instrument is None or not instrument.is_first:
            self.counts["UNKNOWN_INSTRUMENT" if instrument is None else "MIRRORED"] += 1
            return
        bid, ask, ms = message.best_bid, message.best_ask, message.timestamp
        key = f"q{bid}/{ask}"
        if bid == 0.0:
            bid = _NAN
        if ask == 1.0:
            ask = _NAN
        _check(ms, bid, ask)
        self.counts["best_bid_ask"] += 1
        events.append(_NEW(instrument.market_id, ms, key, recv_ms, bid, ask, _NAN, _NAN))

    def _trade(
        self, message: _Message, recv_ms: int, events: list[Event],
        equal: Counter[tuple[str, ...]] | None,
    ) -> None:  # fmt: skip
        if self.heard is not None:
            self.heard.setdefault(message.asset_id, (message.timestamp, False))
        instrument = self._instrument(message.asset_id)
        if instrument is None:
            return
        price = _number(message.price, "price")
        ms = message.timestamp
        _check(ms, price, price)
        if not math.isfinite(price):
            raise _BadMessage("PRICE_OUT_OF_RANGE", f"price: {message.price!r}")
        size = _number(message.size, "size")
        if not 0.0 <= size < _MOST_CONTRACTS:
            raise _BadMessage("SIZE_UNREADABLE", f"size: {message.size!r}")
        same = (message.asset_id, str(ms), message.transaction_hash or "", message.price,
                message.size, message.side)  # fmt: skip
        place = 0
        if equal is not None:
            place = equal[same]
            equal[same] += 1
        key = _bounded("t" + "/".join(same) + f"#{place}")
        side = _SIDES.get(message.side, 0)
        if not instrument.is_first:
            price, side = 1.0 - price, -side
        self.counts["last_trade_price"] += 1
        events.append(
            Trade(instrument.market_id, ms, key, recv_ms, price, round(size * MICRO), side)
        )

    def _tick_size(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        instrument = self._instrument(message.asset_id)
        if instrument is None:
            return
        tick = _number(message.new_tick_size, "new_tick_size")
        _check(message.timestamp, tick, tick)
        if not 0.0 < tick < 1.0:
            raise _BadMessage("PRICE_OUT_OF_RANGE", f"new_tick_size: {message.new_tick_size!r}")
        self.counts["tick_size_change"] += 1
        if instrument.is_first:
            key = f"s{message.new_tick_size}"
            events.append(TickSize(instrument.market_id, message.timestamp, key, recv_ms, tick))

    def _new_market(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        if not message.market:
            raise _BadMessage("MARKET_MISSING", "market: missing")
        _check(message.timestamp, _NAN, _NAN)
        self.counts["new_market"] += 1
        events.append(
            NewMarket(
                f"polymarket:{message.market}", message.timestamp, "new", recv_ms,
                message.question, message.slug, message.assets_ids, message.outcomes,
                message.tags or (),
            )
        )  # fmt: skip

    def _resolved(self, message: _Message, recv_ms: int, events: list[Event], _: Any) -> None:
        _check(message.timestamp, _NAN, _NAN)
        known = [self._tokens.get(token) for token in message.assets_ids]
        market_id = next((one.market_id for one in known if one is not None), None)
        if market_id is None:
            self.counts["UNKNOWN_INSTRUMENT"] += 1
            return
        self.counts["market_resolved"] += 1
        winner = message.winning_asset_id or ""
        if _TOKEN.fullmatch(winner) is None:
            raise _BadMessage("FIELDS_UNREADABLE", "winning_asset_id: is no token")
        events.append(
            Resolved(market_id, message.timestamp, f"r{winner}", recv_ms, winner,
                     message.winning_outcome or "")
        )  # fmt: skip


def _decoded(raw: bytes) -> _Message:
    """A message; prices without a leading zero (".44"), as some of the venue's have, are read."""
    try:
        return _ONE.decode(raw)
    except msgspec.ValidationError:
        mended = _BARE_POINT.sub(rb"\g<1>0.", raw)
        if mended == raw:
            raise
        return _ONE.decode(mended)


def _best(which: Callable[[list[_Level]], _Level], levels: list[_Level]) -> tuple[float, float]:
    """Best price of a side and the size there; NaN where it is empty or holds a sentinel."""
    if not levels:
        return _NAN, _NAN
    best = which(levels)
    return (best.price, best.size) if 0.0 < best.price < 1.0 else _checked(best)


def _checked(level: _Level) -> tuple[float, float]:
    if level.price in (0.0, 1.0):
        return _NAN, _NAN
    raise _BadMessage("PRICE_OUT_OF_RANGE", f"price: {level.price}")


def _check(ms: int, bid: float, ask: float) -> None:
    """Refuses times that are none, and prices outside [0, 1]; NaN passes."""
    if not _EARLIEST_MS <= ms < _MAX_MS:
        raise _BadMessage("TIME_UNREADABLE", f"timestamp: {ms}")
    if bid < 0.0 or bid > 1.0 or ask < 0.0 or ask > 1.0:
        raise _BadMessage("PRICE_OUT_OF_RANGE", f"best prices: {bid}, {ask}")


def _bounded(key: str) -> str:
    """A key that every store takes: a long or odd one is replaced by its digest."""
    if len(key) <= _LONGEST_KEY and key.isprintable():
        return key
    return "t#" + hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def _number(text: str, name: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise _BadMessage("FIELDS_UNREADABLE", f"{name}: {text!r} is no number") from None
