"""What happened on a venue, as everything behind the socket sees it.

Prices of a prediction market are those of its first outcome: what is said of the second one is
turned into it (1 − p), or passed over where it only repeats what was said of the first. Times are
the venue's, in UTC milliseconds. An event's identity never holds the time of its receipt: what is
sent twice, over whatever connection, is the same event twice.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

import msgspec

SCHEMA_VERSION = 1
MICRO = 1_000_000
"""Sizes are whole millionths of a contract, so that sums do not depend on their order."""


class _Event(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What every event has.

    Attributes:
        market_id: the market, and what order is kept by: "polymarket:512345", "binance:ETHUSDT".
        ms: the venue's time.
        key: what tells this event from every other one of its market and kind.
        recv_ms: when it was received; no part of its identity.
    """

    market_id: str
    ms: int
    key: str
    recv_ms: int


class Quote(_Event, tag="quote", frozen=True):
    """The best prices of a book; NaN where a side is empty.

    Attributes:
        bid, ask: in [0, 1].
        bid_size, ask_size: contracts at those prices; NaN where the message does not say.
        span: of quotes that were merged under pressure, see `merged`; else None.
    """

    bid: float
    ask: float
    bid_size: float
    ask_size: float
    span: Span | None = None


class Span(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """The mids of several quotes of one minute, as far as bars need them.

    Attributes:
        first_ms, first_key, first: the earliest quote and its mid.
        last_ms, last_key, last: the latest quote with a mid, and its mid.
        high, low: the highest and the lowest mid.
        count: how many quotes had a mid.
    """

    first_ms: int
    first_key: str
    first: float
    last_ms: int
    last_key: str
    last: float
    high: float
    low: float
    count: int


class Trade(_Event, tag="trade", frozen=True):
    """A fill.

    Attributes:
        price: in [0, 1], of the first outcome.
        size: millionths of a contract.
        side: 1 where the taker bought the first outcome, −1 where it sold, 0 where unknown.
    """

    price: float
    size: int
    side: int


class TickSize(_Event, tag="tick_size", frozen=True):
    """The smallest price step of a market has changed."""

    tick_size: float


class NewMarket(_Event, tag="new_market", frozen=True):
    """A market that the venue has opened; ``market_id`` is made of its condition."""

    question: str
    slug: str
    token_ids: tuple[str, ...]
    outcomes: tuple[str, ...]
    tags: tuple[str, ...]


class Resolved(_Event, tag="resolved", frozen=True):
    """A market has its outcome.

    Attributes:
        winner: token that pays, "" where both pay half.
        outcome: what the venue calls it; not always Yes or No.
        source: "stream", or "poll" where it was found by asking.
    """

    winner: str
    outcome: str
    source: str = "stream"


class Mark(_Event, tag="mark", frozen=True):
    """The mark price of a futures contract, in its quote currency.

    Attributes:
        price, index: mark and index price.
        funding_rate: per funding interval; NaN where the contract has none.
    """

    price: float
    index: float
    funding_rate: float


class Kline(_Event, tag="kline", frozen=True):
    """A bar that the venue itself made.

    Attributes:
        interval: "1m" and the like.
        start_ms: its first instant.
        volume: millionths of the base asset.
        is_closed: whether it is final.
    """

    interval: str
    start_ms: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    trade_count: int
    is_closed: bool


class OpenInterest(_Event, tag="open_interest", frozen=True):
    """What a market's contracts are worth in all, USD, as the venue says when asked."""

    usd: float


class Feed(_Event, tag="feed", frozen=True):
    """What is known of markets is old, or no longer.

    Attributes:
        market_id: "<venue>:*", and the markets stand in ``markets``.
        markets: ids; empty for all of the venue.
        reason: why they are stale; "" where they are fresh again.
    """

    markets: tuple[str, ...]
    reason: str


class Unreadable(_Event, tag="unreadable", frozen=True):
    """A message that could not be read: it goes aside with its reason.

    Attributes:
        market_id: "<venue>:unreadable".
        reason, detail: what was wrong.
        raw: the message as it came, at most the first 64 KiB.
    """

    reason: str
    detail: str
    raw: bytes


Event = (
    Quote
    | Trade
    | TickSize
    | NewMarket
    | Resolved
    | Mark
    | Kline
    | OpenInterest
    | Feed
    | Unreadable
)

FUTURES = "binance:"
"""Beginning of the ids of contracts whose prices are no probabilities."""


def is_probability(market_id: str) -> bool:
    """Whether the prices of a market are probabilities, however small a contract's price may be.

    >>> is_probability("polymarket:1"), is_probability("binance:DOGEUSDT@mark")
    (True, False)
    """
    return not market_id.startswith(FUTURES)


NEVER_DROPPED = (Trade, TickSize, NewMarket, Resolved, Feed, Unreadable)
"""Kinds of which no event may be lost, however great the pressure."""


class Codec:
    """Events to bytes and back, for a bus that leaves the process."""

    _encoder: ClassVar[msgspec.msgpack.Encoder] = msgspec.msgpack.Encoder()
    _decoder: ClassVar[msgspec.msgpack.Decoder[Event]] = msgspec.msgpack.Decoder(Event)

    def encode(self, event: Event) -> bytes:
        """The event as MessagePack."""
        return self._encoder.encode(event)

    def decode(self, raw: bytes) -> Event:
        """The event again.

        Raises:
            ValueError: the bytes are no event of this version.
        """
        return self._decoder.decode(raw)


def event_id(event: Event) -> str:
    """32 hexadecimal digits that the same event has wherever and whenever it is received.

    >>> one = TickSize("polymarket:1", 5, "t5", 10, 0.01)
    >>> event_id(one) == event_id(TickSize("polymarket:1", 5, "t5", 99, 0.01))
    True
    >>> event_id(one) == event_id(TickSize("polymarket:2", 5, "t5", 10, 0.01))
    False
    """
    text = f"{SCHEMA_VERSION}\0{kind_of(event)}\0{event.market_id}\0{event.ms}\0{event.key}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def coalesce_key(event: Event) -> str:
    """Events of one key may be merged into the newest under pressure; "" for those never dropped.

    Quotes merge within a minute, so that no bar is harmed.
    """
    if isinstance(event, Quote):
        return f"quote:{event.ms // 60_000}"
    if isinstance(event, Kline) and not event.is_closed:
        return f"kline:{event.interval}:{event.start_ms}"
    if isinstance(event, OpenInterest):
        return "open_interest"
    return ""


def merged(older: Event, newer: Event) -> Event:
    """One event in the place of two of one coalescing key, whichever came first.

    Of quotes the mids of both are kept as a span, since a bar needs the highest and the lowest;
    of other kinds the later one stands for both.
    """
    if (newer.ms, newer.key) < (older.ms, older.key):
        older, newer = newer, older
    if not (isinstance(older, Quote) and isinstance(newer, Quote)):
        return newer
    spans = [one for one in (span_of(older), span_of(newer)) if one is not None]
    return msgspec.structs.replace(newer, span=_joined(spans) if spans else None)


def span_of(quote: Quote) -> Span | None:
    """The mids that a quote stands for; None where it has none."""
    if quote.span is not None:
        return quote.span
    mid = (quote.bid + quote.ask) * 0.5
    if mid != mid:
        return None
    return Span(quote.ms, quote.key, mid, quote.ms, quote.key, mid, mid, mid, 1)


def _joined(spans: list[Span]) -> Span:
    first = min(spans, key=lambda one: (one.first_ms, one.first_key))
    last = max(spans, key=lambda one: (one.last_ms, one.last_key))
    return Span(
        first.first_ms, first.first_key, first.first, last.last_ms, last.last_key, last.last,
        max(one.high for one in spans), min(one.low for one in spans),
        sum(one.count for one in spans),
    )  # fmt: skip


def kind_of(event: Event) -> str:
    """What an event is called, in metrics and dead letters: "quote", "trade" …"""
    return str(type(event).__struct_config__.tag)
