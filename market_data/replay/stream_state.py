"""The replayed venue as of the replay's clock: books, market records and trades."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import orjson

from market_data.replay.stream_capture import Record

CUSTOM = frozenset({"best_bid_ask", "new_market", "market_resolved"})
"""Types that only those receive who asked for the custom features."""

_REMEMBERED_TRADES = 500
_STREAM = b'{"stream":"'


@dataclass(frozen=True, slots=True)
class Contents:
    """Whom a frame concerns.

    Attributes:
        names: assets, or the one stream.
        is_custom: all its messages are of the types in ``CUSTOM``.
        is_for_all: it concerns whoever asked for the custom features, as ``new_market`` does.
        messages: as parsed, of Polymarket's frames.
    """

    names: frozenset[str] = frozenset()
    is_custom: bool = False
    is_for_all: bool = False
    messages: tuple[dict[str, Any], ...] = ()


@lru_cache(maxsize=64)
def contents_of(record: Record) -> Contents:
    """Reads a frame; one that cannot be read concerns nobody."""
    if record.channel == "binance":
        return _stream_of(record.frame)
    try:
        value = orjson.loads(record.frame)
    except orjson.JSONDecodeError:
        return Contents()
    found = value if isinstance(value, list) else [value]
    messages = tuple(message for message in found if isinstance(message, dict))
    kinds = {message.get("event_type") for message in messages}
    return Contents(
        names=frozenset(name for message in messages for name in _assets(message)),
        is_custom=bool(kinds) and kinds <= CUSTOM,
        is_for_all="new_market" in kinds,
        messages=messages,
    )


def _stream_of(frame: bytes) -> Contents:
    if not frame.startswith(_STREAM):
        return Contents()
    name = frame[len(_STREAM) : frame.find(b'"', len(_STREAM))]
    return Contents(names=frozenset({name.decode(errors="replace")}))


def _assets(message: dict[str, Any]) -> Iterable[str]:
    if "asset_id" in message:
        yield str(message["asset_id"])
    for change in message.get("price_changes") or ():
        yield str(change.get("asset_id"))
    yield from (str(name) for name in message.get("assets_ids") or ())


@dataclass(slots=True)
class _Book:
    """One asset's book; sides map a price to its text and size."""

    market: str
    sides: dict[str, dict[float, tuple[str, str]]]
    venue_ms: str = "0"
    digest: str = ""
    tick: str = "0.01"
    last: str = ""

    def copy(self) -> _Book:
        return replace(self, sides={side: dict(levels) for side, levels in self.sides.items()})


@dataclass(slots=True)
class ReplayState:
    """What the venue knows; it changes by ``apply`` alone."""

    _books: dict[str, _Book] = field(default_factory=dict)
    _gamma: dict[str, bytes] = field(default_factory=dict)
    _trades: dict[str, deque[dict[str, Any]]] = field(default_factory=dict)

    def copy(self) -> ReplayState:
        """The same state, to be changed on its own."""
        return ReplayState(
            {asset: book.copy() for asset, book in self._books.items()},
            dict(self._gamma),
            {market: deque(trades, trades.maxlen) for market, trades in self._trades.items()},
        )

    def knows(self, asset: str) -> bool:
        """Whether there is a book of an asset."""
        return asset in self._books

    def apply(self, record: Record) -> None:
        """Takes a record in."""
        if record.channel == "gamma":
            self._gamma[str(orjson.loads(record.frame)["conditionId"])] = record.frame
        elif record.channel == "polymarket":
            for message in contents_of(record).messages:
                self._apply(message)

    def snapshot(self, assets: Iterable[str]) -> bytes:
        """The array of books that answers a subscription; unknown assets are left out."""
        return orjson.dumps(
            [
                {"event_type": "book"} | self._book(asset, self._books[asset])
                for asset in assets
                if asset in self._books
            ]
        )

    def book(self, asset: str) -> bytes | None:
        """Body of ``/book``, None where there is none."""
        book = self._books.get(asset)
        if book is None:
            return None
        more = {"min_order_size": "5", "neg_risk": False}
        return orjson.dumps(self._book(asset, book) | more)

    def markets(self, conditions: Iterable[str]) -> bytes:
        """Body of ``/markets``: the records of the conditions that are known."""
        known = [self._gamma[name] for name in conditions if name in self._gamma]
        return b"[" + b",".join(known) + b"]"

    def trades(self, market: str) -> bytes:
        """Body of ``/trades``: the last ones of a condition, newest first."""
        return orjson.dumps(list(self._trades.get(market, ()))[::-1])

    def _book(self, asset: str, book: _Book) -> dict[str, Any]:
        sides = {
            name: [
                {"price": text, "size": size}
                for _, (text, size) in sorted(book.sides[side].items(), reverse=name == "asks")
            ]
            for name, side in (("bids", "BUY"), ("asks", "SELL"))
        }
        head = {"market": book.market, "asset_id": asset, "timestamp": book.venue_ms}
        tail = {"hash": book.digest, "tick_size": book.tick, "last_trade_price": book.last}
        return head | sides | tail

    def _apply(self, message: dict[str, Any]) -> None:
        kind = message.get("event_type")
        asset = str(message.get("asset_id"))
        if kind == "book":
            self._books[asset] = _read_book(message, self._books.get(asset))
        elif kind == "price_change":
            for change in message.get("price_changes") or ():
                self._change(change, str(message.get("timestamp")))
        elif kind == "tick_size_change" and asset in self._books:
            self._books[asset].tick = str(message.get("new_tick_size"))
        elif kind == "last_trade_price":
            self._trade(message, asset)

    def _change(self, change: dict[str, Any], venue_ms: str) -> None:
        book = self._books.get(str(change.get("asset_id")))
        if book is None:
            return
        text, size = str(change["price"]), str(change["size"])
        levels = book.sides[change["side"]]
        if float(size) == 0:
            levels.pop(float(text), None)
        else:
            levels[float(text)] = (text, size)
        book.venue_ms, book.digest = venue_ms, str(change.get("hash", ""))

    def _trade(self, message: dict[str, Any], asset: str) -> None:
        if asset in self._books:
            self._books[asset].last = str(message.get("price"))
        market = str(message.get("market"))
        kept = self._trades.setdefault(market, deque(maxlen=_REMEMBERED_TRADES))
        kept.append(
            {
                "conditionId": market,
                "asset": asset,
                "side": message.get("side"),
                "price": float(message["price"]),
                "size": float(message["size"]),
                "timestamp": int(message["timestamp"]) // 1000,
                "transactionHash": message.get("transaction_hash"),
            }
        )


def _read_book(message: dict[str, Any], before: _Book | None) -> _Book:
    sides = {
        side: {
            float(level["price"]): (str(level["price"]), str(level["size"]))
            for level in message.get(name) or ()
        }
        for side, name in (("BUY", "bids"), ("SELL", "asks"))
    }
    return _Book(
        market=str(message.get("market")),
        sides=sides,
        venue_ms=str(message.get("timestamp")),
        digest=str(message.get("hash", "")),
        tick=str(message.get("tick_size") or (before.tick if before else "0.01")),
        last=str(message.get("last_trade_price") or (before.last if before else "")),
    )
