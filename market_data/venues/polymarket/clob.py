"""Records of the order book's interface. Pure: no I/O, no clock.

Its listings ``/markets``, ``/sampling-markets`` and ``/simplified-markets`` share the fields that
are read here: ``tokens[].winner``, ``closed`` and, except in the simplified form,
``is_50_50_outcome``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from market_data.errors import RecordRejected
from market_data.venues.fields import number_or_none, parse_time, positive_or_none, text_or_none

END_CURSOR = "LTE="
"""What ``next_cursor`` says behind the last page: -1 in base64."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the interface says about how a market ended.

    Attributes:
        condition_id: None in records of old markets that never had one.
        winner: the one outcome that is marked as winner, None without a mark.
        is_fifty_fifty: whether the payout is split evenly.
    """

    condition_id: str | None
    winner: str | None
    is_fifty_fifty: bool
    is_closed: bool


@dataclass(frozen=True, slots=True)
class Level:
    """Size in contracts at a price in (0, 1)."""

    price: float
    size: float


@dataclass(frozen=True, slots=True)
class Book:
    """An order book of one token: bids from the best (highest) down, asks from the best up."""

    token_id: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class Trade:
    """A trade of the data interface: ``at_seconds`` UTC, price in [0, 1], size in contracts."""

    condition_id: str
    token_id: str
    side: str
    price: float
    size: float
    at_seconds: int


def parse_outcome(record: Any) -> Outcome:
    """Read one record of a listing.

    Raises:
        RecordRejected: NOT_AN_OBJECT, TOKENS_UNREADABLE, CLOSED_MISSING or WINNERS_CONFLICT (more
            than one token is marked).
    """
    if not isinstance(record, dict):
        raise RecordRejected("NOT_AN_OBJECT", type(record).__name__)
    tokens = record.get("tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, dict) for token in tokens):
        raise RecordRejected("TOKENS_UNREADABLE", repr(tokens)[:200])
    if not isinstance(record.get("closed"), bool):
        raise RecordRejected("CLOSED_MISSING", repr(record.get("closed"))[:200])
    winners = [text_or_none(t.get("outcome")) for t in tokens if t.get("winner") is True]
    if len(winners) > 1:
        raise RecordRejected("WINNERS_CONFLICT", repr(winners)[:200])
    return Outcome(
        condition_id=text_or_none(record.get("condition_id")),
        winner=winners[0] if winners else None,
        is_fifty_fifty=record.get("is_50_50_outcome") is True,
        is_closed=bool(record["closed"]),
    )


def parse_book(value: Any) -> Book:
    """Read one answer of ``/book`` or one entry of ``/books``.

    Raises:
        RecordRejected: BOOK_UNREADABLE or PRICES_OUT_OF_RANGE.
    """
    token = text_or_none(value.get("asset_id")) if isinstance(value, dict) else None
    if token is None:
        raise RecordRejected("BOOK_UNREADABLE", repr(value)[:200])
    bids = sorted(_levels(value.get("bids")), key=lambda level: -level.price)
    asks = sorted(_levels(value.get("asks")), key=lambda level: level.price)
    return Book(token, tuple(bids), tuple(asks))


def parse_trade(record: Any) -> Trade:
    """Read one record of the data interface's ``/trades``.

    Raises:
        RecordRejected: TRADE_UNREADABLE, PRICES_OUT_OF_RANGE or TIME_UNREADABLE.
    """
    if not isinstance(record, dict):
        raise RecordRejected("TRADE_UNREADABLE", type(record).__name__)
    names = ("conditionId", "asset", "side")
    condition, token, side = (text_or_none(record.get(name)) for name in names)
    price, size = number_or_none(record.get("price")), positive_or_none(record.get("size"))
    at = parse_time(record.get("timestamp"), "timestamp")
    if condition is None or token is None or side not in ("BUY", "SELL"):
        raise RecordRejected("TRADE_UNREADABLE", repr(record)[:200])
    if price is None or size is None or at is None:
        raise RecordRejected("TRADE_UNREADABLE", repr(record)[:200])
    if not 0 <= price <= 1:
        raise RecordRejected("PRICES_OUT_OF_RANGE", repr(price))
    return Trade(condition, token, side, price, size, int(at.timestamp()))


def _levels(listed: Any) -> list[Level]:
    levels = []
    for entry in listed if isinstance(listed, list) else ():
        price = number_or_none(entry.get("price")) if isinstance(entry, dict) else None
        size = number_or_none(entry.get("size")) if isinstance(entry, dict) else None
        if price is None or size is None:
            raise RecordRejected("BOOK_UNREADABLE", repr(entry)[:200])
        if not 0 < price < 1:
            raise RecordRejected("PRICES_OUT_OF_RANGE", repr(price))
        if size > 0:
            levels.append(Level(price, size))
    return levels
