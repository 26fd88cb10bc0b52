"""The simulated venue's frames as text. Prices are whole thousandths (milli), 0 to 1000.

Built by formatting, since a benchmark makes millions of them; every frame but a book is at most
700 bytes long.
"""

from __future__ import annotations

from collections.abc import Sequence

import orjson

PRICE = tuple(f"{milli / 1000:.3f}".rstrip("0").rstrip(".") for milli in range(1001))
"""The text of a price: "0", "0.001", "0.41", "1"."""

_CHANGE = (
    '{"asset_id":"%s","price":"%s","size":"%s","side":"%s","hash":"%040x",'
    '"best_bid":"%s","best_ask":"%s"}'
)
_PRICE_CHANGE = (
    '{"market":"%s","price_changes":[' + _CHANGE + "," + _CHANGE + '],"timestamp":"%d",'
    '"event_type":"price_change"}'
)
_BEST = (
    '{"event_type":"best_bid_ask","market":"%s","asset_id":"%s","best_bid":"%s","best_ask":"%s",'
    '"spread":"%s","timestamp":"%d"}'
)
_TRADE = (
    '{"event_type":"last_trade_price","asset_id":"%s","market":"%s","price":"%s","size":"%s",'
    '"fee_rate_bps":"0","side":"%s","timestamp":"%d","transaction_hash":"0x%064x"}'
)
_TICK = (
    '{"event_type":"tick_size_change","asset_id":"%s","market":"%s","old_tick_size":"%s",'
    '"new_tick_size":"%s","timestamp":"%d"}'
)
_BOOK = (
    '{"event_type":"book","asset_id":"%s","market":"%s","bids":[%s],"asks":[%s],'
    '"timestamp":"%d","hash":"%040x","tick_size":"%s","last_trade_price":"%s"}'
)
_HASH_STEP = 0x9E3779B97F4A7C15F39CC0605CEDC8341082276B
_HASH_MASK = (1 << 160) - 1
_OTHER = {"BUY": "SELL", "SELL": "BUY"}

Level = tuple[int, str]
"""A price in milli and its size."""


def digest(number: int) -> int:
    """160 bits that look like a hash, different for each number below 2^160."""
    return (number * _HASH_STEP) & _HASH_MASK


def price_change(
    market: str,
    assets: tuple[str, str],
    *,
    level: tuple[str, int, str],
    best: tuple[int, int],
    at: tuple[int, int],
) -> bytes:
    """One level of both outcomes; ``level`` is (side, price, size) of the first asset.

    ``best`` is its (bid, ask) afterwards, ``at`` (venue ms, a number for the hashes).
    """
    side, price, size = level
    bid, ask = best
    venue_ms, number = at
    return (
        _PRICE_CHANGE
        % (
            market,
            assets[0], PRICE[price], size, side, digest(2 * number), PRICE[bid], PRICE[ask],
            assets[1], PRICE[1000 - price], size, _OTHER[side], digest(2 * number + 1),
            PRICE[1000 - ask], PRICE[1000 - bid],
            venue_ms,
        )
    ).encode()  # fmt: skip


def best_bid_ask(market: str, asset: str, bid: int, ask: int, *, venue_ms: int) -> bytes:
    """The best prices of one asset; an empty side is 0 or 1000."""
    return (
        _BEST % (market, asset, PRICE[bid], PRICE[ask], PRICE[ask - bid], venue_ms)
    ).encode()  # fmt: skip


def last_trade_price(
    market: str, asset: str, fill: tuple[int, str, str], *, venue_ms: int, number: int, times: int
) -> bytes:
    """A trade of (price, size, taker's side); more than one equal fill makes an array."""
    price, size, side = fill
    text = _TRADE % (asset, market, PRICE[price], size, side, venue_ms, digest(number))
    return (text if times == 1 else f"[{','.join([text] * times)}]").encode()


def tick_size_change(market: str, asset: str, old: int, new: int, *, venue_ms: int) -> bytes:
    """Another tick size of one asset."""
    return (_TICK % (asset, market, PRICE[old], PRICE[new], venue_ms)).encode()


def book(
    market: str,
    asset: str,
    sides: tuple[Sequence[Level], Sequence[Level]],
    *,
    at: tuple[int, int],
    tick: int,
    last: int,
) -> bytes:
    """A snapshot of one asset: bids and asks, ``at`` (venue ms, a number for the hash)."""
    bids, asks = (
        ",".join([f'{{"price":"{PRICE[price]}","size":"{size}"}}' for price, size in side])
        for side in sides
    )
    venue_ms, number = at
    return (
        _BOOK
        % (asset, market, bids, asks, venue_ms, digest(number), PRICE[tick], PRICE[last])
    ).encode()  # fmt: skip


def new_market(gamma: dict[str, object], assets: tuple[str, str], *, venue_ms: int) -> bytes:
    """The announcement of a market, from its REST record."""
    return orjson.dumps(
        {
            "event_type": "new_market",
            "id": gamma["id"],
            "question": gamma["question"],
            "market": gamma["conditionId"],
            "slug": gamma["slug"],
            "assets_ids": assets,
            "outcomes": ["Yes", "No"],
            "timestamp": str(venue_ms),
            "tags": ["simulated"],
            "active": True,
            "order_price_min_tick_size": "0.01",
        }
    )


def market_resolved(
    gamma: dict[str, object], assets: tuple[str, str], winner: int, *, venue_ms: int
) -> bytes:
    """The end of a market; ``winner`` is 0 or 1."""
    return orjson.dumps(
        {
            "event_type": "market_resolved",
            "id": gamma["id"],
            "market": gamma["conditionId"],
            "assets_ids": assets,
            "winning_asset_id": assets[winner],
            "winning_outcome": ("Yes", "No")[winner],
            "timestamp": str(venue_ms),
            "tags": ["simulated"],
        }
    )
