"""Polymarket's JSON → rows. Pure: no I/O, no clock.

Tolerated, because real records do it: lists as JSON text, numbers as text, an event id that only
stands in ``events[]`` or nowhere, times in seconds or milliseconds or with a space and "+00",
pages as UTF-16 with a byte order mark, pages wrapped in an object. Everything else is a
``RecordRejected`` with a reason, so that the record lands in the dead letters.
"""

from __future__ import annotations

import codecs
from datetime import datetime
from typing import Any

import orjson

from market_data.categories import canonical_category
from market_data.errors import RecordRejected
from market_data.venues.fields import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    first_number,
    flag_or_none,
    listed,
    number_or_none,
    parse_time,
    positive_or_none,
    text_or_none,
    to_seconds,
)
from market_data.venues.rows import EventRow, MarketRow

PLATFORM = "polymarket"

_WRAPPERS = ("markets", "events", "value", "data", "results")


def decode_page(raw: bytes) -> list[Any]:
    """The records of a page in UTF-8 or UTF-16, bare, wrapped, or a single record.

    Raises:
        RecordRejected: ``PAGE_UNREADABLE``.
    """
    try:
        value = orjson.loads(_to_utf8(raw))
    except (orjson.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordRejected("PAGE_UNREADABLE", str(error)) from None
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        for name in _WRAPPERS:
            if isinstance(value.get(name), list):
                return list(value[name])
        return [value]
    raise RecordRejected("PAGE_UNREADABLE", f"a page cannot be a {type(value).__name__}")


def parse_market(record: Any) -> MarketRow:
    """Read one Gamma market.

    Raises:
        RecordRejected: NOT_AN_OBJECT, ID_MISSING, OUTCOMES_MISSING, OUTCOMES_UNREADABLE,
            PRICES_UNREADABLE, PRICES_OUT_OF_RANGE, TOKENS_UNREADABLE, TOKENS_MISMATCH,
            TIME_UNREADABLE or CLOSED_MISSING.
    """
    venue_id, event = _identity(record), _event_of(record)
    outcomes = _outcomes(record)
    tags = _tags(record, event)
    question = text_or_none(record.get("question")) or text_or_none(record.get("title")) or ""
    category = text_or_none(record.get("category")) or text_or_none(event.get("category"))
    event_id = text_or_none(event.get("id")) or text_or_none(record.get("eventId"))
    return MarketRow(
        market_id=f"{PLATFORM}:{venue_id}",
        event_id=f"{PLATFORM}:{event_id or 'market-' + venue_id}",
        platform=PLATFORM,
        venue_market_id=venue_id,
        condition_id=text_or_none(record.get("conditionId")),
        slug=text_or_none(record.get("slug")),
        question=question,
        outcomes=outcomes,
        token_ids=_tokens(record, outcomes),
        enable_order_book=flag_or_none(record.get("enableOrderBook")),
        tags=tags,
        category=canonical_category(category, tags, question),
        neg_risk=bool(record.get("negRisk")),
        market_structure=_structure(record, outcomes),
        tick_size=positive_or_none(record.get("orderPriceMinTickSize")),
        created_at=parse_time(record.get("createdAt"), "createdAt"),
        start_at=parse_time(record.get("startDate"), "startDate"),
        end_at=parse_time(record.get("endDate"), "endDate"),
        closed_at=parse_time(record.get("closedTime"), "closedTime"),
        uma_end_at=_uma_end(record),
        is_closed=bool(record["closed"]),
        volume_total=first_number(record, "volumeNum", "volume"),
        volume_24h=first_number(record, "volume24hr"),
        liquidity=first_number(record, "liquidityNum", "liquidity"),
        open_interest=first_number(record, "openInterest"),
        best_bid=first_number(record, "bestBid"),
        best_ask=first_number(record, "bestAsk"),
        last_trade_price=first_number(record, "lastTradePrice"),
        outcome_prices=_outcome_prices(record, outcomes),
        uma_status=_uma_status(record),
        venue_updated_at=parse_time(record.get("updatedAt"), "updatedAt"),
    )


def parse_event(record: Any) -> tuple[EventRow, list[Any]]:
    """Read one Gamma event.

    Returns:
        The event, and its nested markets as ``parse_market`` reads them: each with its event.

    Raises:
        RecordRejected: NOT_AN_OBJECT, ID_MISSING, CLOSED_MISSING or TIME_UNREADABLE.
    """
    venue_id = _identity(record)
    nested = record.get("markets")
    markets = nested if isinstance(nested, list) else []
    head = {name: value for name, value in record.items() if name != "markets"}
    title = text_or_none(record.get("title")) or ""
    tags = _tags(record, {})
    row = EventRow(
        event_id=f"{PLATFORM}:{venue_id}",
        platform=PLATFORM,
        slug=text_or_none(record.get("slug")),
        title=title,
        category=canonical_category(text_or_none(record.get("category")), tags, title),
        tags=tags,
        is_exclusive=record.get("negRisk") is True,
        market_count=len(markets),
        start_at=parse_time(record.get("startDate"), "startDate"),
        end_at=parse_time(record.get("endDate"), "endDate"),
        is_closed=bool(record["closed"]),
        venue_updated_at=parse_time(record.get("updatedAt"), "updatedAt"),
    )
    return row, [m | {"events": [head]} if isinstance(m, dict) else m for m in markets]


def parse_history(body: Any) -> tuple[list[int], list[float], list[tuple[str, Any]]]:
    """Read a ``/prices-history`` body.

    Returns:
        t: UTC seconds; p: prices in [0, 1]; rejects: (reason, point) of every other point,
        reasons POINT_UNREADABLE, TIME_OUT_OF_RANGE (before 2000 or after 2099, whether sent in
        seconds, milliseconds or microseconds), PRICE_OUT_OF_RANGE.

    Raises:
        RecordRejected: ``HISTORY_UNREADABLE`` when there is no list of points at all.
    """
    points = body.get("history") if isinstance(body, dict) else None
    if not isinstance(points, list):
        raise RecordRejected("HISTORY_UNREADABLE", type(body).__name__)
    t: list[int] = []
    p: list[float] = []
    rejects: list[tuple[str, Any]] = []
    for point in points:
        try:
            at, price = point["t"], float(point["p"])
            at = int(to_seconds(at if type(at) is int else float(at)))
        except (TypeError, KeyError, ValueError, OverflowError):
            rejects.append(("POINT_UNREADABLE", point))
            continue
        if not EARLIEST_SECONDS <= at < LATEST_SECONDS:
            rejects.append(("TIME_OUT_OF_RANGE", point))
            continue
        if not -1e-9 <= price <= 1 + 1e-9:
            rejects.append(("PRICE_OUT_OF_RANGE", point))
            continue
        t.append(at)
        p.append(min(max(price, 0.0), 1.0))
    return t, p, rejects


def _identity(record: Any) -> str:
    """The venue's id of a record that is worth reading on."""
    if not isinstance(record, dict):
        raise RecordRejected("NOT_AN_OBJECT", type(record).__name__)
    venue_id = text_or_none(record.get("id"))
    if venue_id is None:
        raise RecordRejected("ID_MISSING")
    if not isinstance(record.get("closed"), bool):
        raise RecordRejected("CLOSED_MISSING", repr(record.get("closed")))
    return venue_id


def _to_utf8(raw: bytes) -> bytes:
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16").encode()
    if len(raw) > 1 and raw[1:2] == b"\0":
        return raw.decode("utf-16-le").encode()
    return raw.removeprefix(codecs.BOM_UTF8)


def _event_of(record: dict[str, Any]) -> dict[str, Any]:
    events = record.get("events")
    if isinstance(events, list) and events and isinstance(events[0], dict):
        return events[0]
    return {}


def _outcomes(record: dict[str, Any]) -> list[str]:
    outcomes = listed(record.get("outcomes"), "OUTCOMES_UNREADABLE")
    if outcomes is None or len(outcomes) < 2:
        raise RecordRejected("OUTCOMES_MISSING", repr(outcomes))
    return [str(outcome) for outcome in outcomes]


def _tokens(record: dict[str, Any], outcomes: list[str]) -> list[str]:
    tokens = listed(record.get("clobTokenIds"), "TOKENS_UNREADABLE") or []
    if tokens and len(tokens) != len(outcomes):
        raise RecordRejected("TOKENS_MISMATCH", f"{len(tokens)} for {len(outcomes)} outcomes")
    return [str(token) for token in tokens]


def _outcome_prices(record: dict[str, Any], outcomes: list[str]) -> list[float] | None:
    listed_prices = listed(record.get("outcomePrices"), "PRICES_UNREADABLE")
    if listed_prices is None:
        return None
    prices = [number_or_none(price) for price in listed_prices]
    if None in prices or len(prices) != len(outcomes):
        raise RecordRejected("PRICES_UNREADABLE", repr(listed_prices)[:200])
    known = [price for price in prices if price is not None]
    if any(not -1e-9 <= price <= 1 + 1e-9 for price in known):
        raise RecordRejected("PRICES_OUT_OF_RANGE", repr(listed_prices)[:200])
    return known


def _tags(record: dict[str, Any], event: dict[str, Any]) -> list[str]:
    tags = record.get("tags") or event.get("tags")
    found = []
    for tag in tags if isinstance(tags, list) else []:
        label = tag.get("label") or tag.get("slug") if isinstance(tag, dict) else tag
        text = text_or_none(label)
        if text is not None:
            found.append(text)
    return found


def _structure(record: dict[str, Any], outcomes: list[str]) -> str:
    if record.get("marketType") == "scalar":
        return "SCALAR"
    return "BINARY" if len(outcomes) == 2 else "MULTI_OUTCOME"


def _uma_status(record: dict[str, Any]) -> str | None:
    status = text_or_none(record.get("umaResolutionStatus"))
    if status is not None:
        return status.lower()
    chain = listed(record.get("umaResolutionStatuses"), "UMA_UNREADABLE")
    return str(chain[-1]).lower() if chain else None


def _uma_end(record: dict[str, Any]) -> datetime | None:
    """A second-best closing time; old records hold English prose there ("April 27, 2022")."""
    try:
        return parse_time(record.get("umaEndDate"), "umaEndDate")
    except RecordRejected:
        return None
