"""What the replayed venue answers: an archive, indexed and encoded once, asked many times."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.graphql import QueryError, parse_listings, select
from market_data.replay.paths import BadRequest, NotFound, histories, whole

_INTERVALS = {"1h": 3600, "6h": 21_600, "1d": 86_400, "1w": 604_800, "1m": 2_592_000}
_MAX_PAGE = 500
_FLAGS = ("closed", "active", "archived")
_RANGES = {"start_date": "startDate", "end_date": "endDate"}
_LISTS = {"id": "id", "slug": "slug", "condition_ids": "conditionId"}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a listing: encoded records and the cursor after them, "" at the end."""

    records: list[bytes]
    next_cursor: str


class Collection:
    """Gamma records with the filters, orders and paging of ``/markets`` and ``/events``."""

    def __init__(self, records: list[Record], encoded: list[bytes]) -> None:
        self._records = records
        self._encoded = encoded
        self._listings: dict[tuple[tuple[str, str], ...], list[int]] = {}

    def page(self, query: list[tuple[str, str]], *, with_cursor: bool) -> Page:
        """One page; raises BadRequest on a parameter that cannot be read."""
        options = dict(query)
        limit = min(whole(options, "limit", 20), _MAX_PAGE)
        after = _decode(options.get("after_cursor", "")) if with_cursor else None
        paging = ("limit", "offset", "after_cursor")
        key = tuple(sorted((k, v) for k, v in query if k not in paging))
        if key not in self._listings:
            self._listings[key] = self._matching(key)
        listing = self._listings[key]
        start = (
            whole(options, "offset", 0)
            if after is None
            else _behind(listing, after, "order" in options)
        )
        chosen = listing[start : start + limit]
        more = bool(chosen) and start + limit < len(listing)
        cursor = base64.urlsafe_b64encode(str(chosen[-1]).encode()).decode() if more else ""
        return Page([self._encoded[i] for i in chosen], cursor)

    def _matching(self, query: tuple[tuple[str, str], ...]) -> list[int]:
        options = dict(query)
        chosen = list(range(len(self._records)))
        for name in _FLAGS:
            if name in options:
                wanted = options[name].lower() == "true"
                chosen = [i for i in chosen if bool(self._records[i].get(name)) is wanted]
        for name, column in _LISTS.items():
            values = {v for k, v in query if k == name}
            if values:
                chosen = [i for i in chosen if str(self._records[i].get(column)) in values]
        for name, column in _RANGES.items():
            low, high = options.get(f"{name}_min", ""), options.get(f"{name}_max", "~")
            if low or high != "~":
                chosen = [i for i in chosen if low <= str(self._records[i].get(column)) <= high]
        if "order" in options:
            column, up = options["order"], options.get("ascending", "true").lower() == "true"
            chosen.sort(key=lambda i: _order_key(self._records[i].get(column)), reverse=not up)
        return chosen


class Venue:
    """All answers of one archive; every method returns an encoded JSON body."""

    def __init__(self, archive: Archive) -> None:
        self._as_of = int(archive.as_of.timestamp())
        encoded = [orjson.dumps(market) for market in archive.markets]
        self.markets = Collection(archive.markets, encoded)
        self.events = Collection(archive.events, _nest(archive))
        self._token: dict[str, tuple[int, int]] = {}
        self._markets = archive.markets
        for index, market in enumerate(archive.markets):
            for place, token in enumerate(_texts(market.get("clobTokenIds"))):
                self._token[token] = (index, place)
        self._history = histories(archive.prices)
        self._entities = {
            "splits": _by_id(archive.splits),
            "merges": _by_id(archive.merges),
            "redemptions": _by_id(archive.redemptions),
            "positions": _by_id(_positions(archive)),
        }

    def prices_history(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/prices-history``; a token without trades has an empty history."""
        options = dict(query)
        if not options.get("market"):
            raise BadRequest("market is required")
        t, p = self._series(options["market"])
        start, end = whole(options, "startTs", 0), whole(options, "endTs", 1 << 62)
        interval = options.get("interval", "max")
        if interval in _INTERVALS and "startTs" not in options:
            start = self._as_of - _INTERVALS[interval]
        left, right = np.searchsorted(t, start, "left"), np.searchsorted(t, end, "right")
        t, p = t[left:right], p[left:right]
        step = 60 * whole(options, "fidelity", 1)
        if step > 60 and len(t) > 1:  # the last point of each bucket
            last = np.r_[np.diff(t // step) != 0, True]
            t, p = t[last], p[last]
        points = [{"t": a, "p": b} for a, b in zip(t.tolist(), p.tolist(), strict=True)]
        return orjson.dumps({"history": points})

    def book(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/book``: two levels about the last price of an open market."""
        token = dict(query).get("token_id", "")
        index, _ = self._token.get(token, (-1, 0))
        if index < 0 or self._markets[index].get("closed"):
            raise NotFound("No orderbook exists for the requested token id")
        market = self._markets[index]
        t, p = self._series(token)
        tick = float(market.get("orderPriceMinTickSize") or 0.01)
        last = float(p[-1]) if len(p) else 0.5
        sides = {
            "bids": [last - 2 * tick, last - tick],
            "asks": [last + 2 * tick, last + tick],
        }
        levels = {
            side: [{"price": f"{x:.4g}", "size": "100"} for x in prices if 0 < x < 1]
            for side, prices in sides.items()
        }
        stamp = int(t[-1]) if len(t) else self._as_of
        return orjson.dumps(
            {"market": market["conditionId"], "asset_id": token, "timestamp": f"{stamp}000"}
            | levels
            | {"tick_size": str(tick), "min_order_size": "5", "neg_risk": market.get("negRisk")}
        )

    def graphql(self, body: bytes) -> bytes:
        """Body of a subgraph answer; an unreadable query answers with GraphQL errors."""
        try:
            payload = orjson.loads(body)
            data = {}
            for listing in parse_listings(payload["query"], payload.get("variables") or {}):
                if listing.entity not in self._entities:
                    raise QueryError(f"no entity '{listing.entity}'")
                data[listing.entity] = select(listing, *self._entities[listing.entity])
            return orjson.dumps({"data": data})
        except (QueryError, orjson.JSONDecodeError, KeyError, TypeError) as error:
            return orjson.dumps({"errors": [{"message": str(error)}]})

    def _series(self, token: str) -> tuple[Any, Any]:
        if token in self._history:
            return self._history[token]
        index, place = self._token.get(token, (-1, 0))
        tokens = _texts(self._markets[index].get("clobTokenIds")) if index >= 0 else []
        if len(tokens) == 2 and tokens[1 - place] in self._history:
            t, p = self._history[tokens[1 - place]]
            return t, np.round(1.0 - p, 6)
        return np.empty(0, dtype=np.int64), np.empty(0)


def _nest(archive: Archive) -> list[bytes]:
    """Events with their ``markets[]``, as ``/events`` sends them."""
    children: dict[str, list[Record]] = {}
    for market in archive.markets:
        bare = {k: v for k, v in market.items() if k != "events"}
        for event in market.get("events") or []:
            children.setdefault(str(event["id"]), []).append(bare)
    return [
        orjson.dumps(
            event | {"markets": event.get("markets") or children.get(str(event["id"]), [])}
        )
        for event in archive.events
    ]


def _positions(archive: Archive) -> list[Record]:
    return [
        {"id": token, "condition": market["conditionId"], "outcomeIndex": str(place)}
        for market in archive.markets
        for place, token in enumerate(_texts(market.get("clobTokenIds")))
    ]


def _by_id(rows: list[Record]) -> tuple[list[Record], list[str]]:
    ordered = sorted(rows, key=lambda row: str(row["id"]))
    return ordered, [str(row["id"]) for row in ordered]


def _texts(value: Any) -> list[str]:
    listed = orjson.loads(value) if isinstance(value, str) and value else value
    return [str(item) for item in listed or []]


def _behind(listing: list[int], record: int, is_reordered: bool) -> int:
    """Place in a listing after a record, which may have left it where it is not reordered."""
    if is_reordered:
        return listing.index(record) + 1 if record in listing else 0
    return bisect_right(listing, record)


def _decode(cursor: str) -> int:
    """The number of the record behind which the next page begins, −1 for the first page."""
    try:
        return int(base64.urlsafe_b64decode(cursor.encode()).decode() or -1)
    except (ValueError, binascii.Error):
        raise BadRequest("after_cursor is not a cursor") from None


def _order_key(value: Any) -> tuple[int, float, str]:
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, (int, float)):
        return (1, float(value), "")
    text = str(value)
    return (1, float(text), "") if text.replace(".", "", 1).isdigit() else (2, 0.0, text)


def stamp(seconds: int) -> str:
    """UTC text of a time in seconds.

    >>> stamp(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
