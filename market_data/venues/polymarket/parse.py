"""Polymarket's JSON → rows. Pure: no I/O, no clock.

Tolerated, because real records do it: lists as JSON text, numbers as text, an event id that only
stands in ``events[]`` or nowhere, times in seconds or milliseconds or with a space and "+00",
pages as UTF-16 with a byte order mark, pages wrapped in an object. Everything else is a
``RecordRejected`` with a reason, so that the record lands in the dead letters.
"""

from __future__ import annotations

import codecs
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from market_data.categories import canonical_category
from market_data.errors import RecordRejected

PLATFORM = "polymarket"

_WRAPPERS = ("markets", "events", "value", "data", "results")
_EPOCH_LIMIT_SECONDS = 100_000_000_000  # beyond it a number of seconds would be the year 5138
_EARLIEST_SECONDS = 946_684_800  # 2000-01-01, before any prediction market of today
_LATEST_SECONDS = 4_102_444_800  # 2100-01-01, after the end of all that are open


@dataclass(frozen=True, slots=True)
class MarketRow:
    """One Gamma market, read; fields as in ``schemas.MARKET_REGISTRY``.

    ``is_closed`` and ``uma_end_at`` serve to decide status and resolution time.
    """

    market_id: str
    event_id: str
    venue_market_id: str
    condition_id: str | None
    slug: str | None
    question: str
    outcomes: list[str]
    token_ids: list[str]
    enable_order_book: bool | None
    tags: list[str]
    category: str
    neg_risk: bool
    market_structure: str
    tick_size: float | None
    created_at: datetime | None
    start_at: datetime | None
    end_at: datetime | None
    closed_at: datetime | None
    uma_end_at: datetime | None
    is_closed: bool
    volume_total: float | None
    volume_24h: float | None
    liquidity: float | None
    open_interest: float | None
    best_bid: float | None
    best_ask: float | None
    last_trade_price: float | None
    outcome_prices: list[float] | None
    uma_status: str | None
    venue_updated_at: datetime | None


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
    venue_id = _identity(record)
    event = _event_of(record)
    outcomes = _outcomes(record)
    tags = _tags(record, event)
    question = text_or_none(record.get("question")) or text_or_none(record.get("title")) or ""
    category = text_or_none(record.get("category")) or text_or_none(event.get("category"))
    event_id = text_or_none(event.get("id")) or text_or_none(record.get("eventId"))
    return MarketRow(
        market_id=f"{PLATFORM}:{venue_id}",
        event_id=f"{PLATFORM}:{event_id or 'market-' + venue_id}",
        venue_market_id=venue_id,
        condition_id=text_or_none(record.get("conditionId")),
        slug=text_or_none(record.get("slug")),
        question=question,
        outcomes=outcomes,
        token_ids=_tokens(record, outcomes),
        enable_order_book=_flag(record.get("enableOrderBook")),
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
        volume_total=_first_number(record, "volumeNum", "volume"),
        volume_24h=_first_number(record, "volume24hr"),
        liquidity=_first_number(record, "liquidityNum", "liquidity"),
        open_interest=_first_number(record, "openInterest"),
        best_bid=_first_number(record, "bestBid"),
        best_ask=_first_number(record, "bestAsk"),
        last_trade_price=_first_number(record, "lastTradePrice"),
        outcome_prices=_outcome_prices(record, outcomes),
        uma_status=_uma_status(record),
        venue_updated_at=parse_time(record.get("updatedAt"), "updatedAt"),
    )


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
            at = int(_seconds(at if type(at) is int else float(at)))
        except (TypeError, KeyError, ValueError, OverflowError):
            rejects.append(("POINT_UNREADABLE", point))
            continue
        if not _EARLIEST_SECONDS <= at < _LATEST_SECONDS:
            rejects.append(("TIME_OUT_OF_RANGE", point))
            continue
        if not -1e-9 <= price <= 1 + 1e-9:
            rejects.append(("PRICE_OUT_OF_RANGE", point))
            continue
        t.append(at)
        p.append(min(max(price, 0.0), 1.0))
    return t, p, rejects


def parse_time(value: Any, name: str = "time") -> datetime | None:
    """Aware UTC time of ISO text, seconds, milliseconds or microseconds; None when absent.

    >>> parse_time("2021-02-08 03:15:35+00").isoformat()
    '2021-02-08T03:15:35+00:00'
    >>> parse_time(1770394157000) == parse_time(1770394157)
    True

    Raises:
        RecordRejected: ``TIME_UNREADABLE``.
    """
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    try:
        if math.isfinite(number):
            return datetime.fromtimestamp(_seconds(number), tz=UTC)
        at = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        raise RecordRejected("TIME_UNREADABLE", f"{name}={value!r}") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def _seconds(number: float) -> float:
    """A time in seconds, milliseconds or microseconds as seconds; whole numbers stay exact."""
    for _ in range(2):
        if abs(number) < _EPOCH_LIMIT_SECONDS:
            break
        number = number // 1000 if isinstance(number, int) else number / 1000.0
    return number


def text_or_none(value: Any) -> str | None:
    """Text of an id or a name; None for absent or blank values and for containers."""
    if value is None or isinstance(value, (dict, list, bool)):
        return None
    return str(value).strip() or None


def number_or_none(value: Any) -> float | None:
    """A finite number, also from text; None for everything else."""
    if value is None or isinstance(value, (bool, dict, list)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def positive_or_none(value: Any) -> float | None:
    """A finite number above zero, else None."""
    number = number_or_none(value)
    return number if number is not None and number > 0 else None


def listed(value: Any, reason: str) -> list[Any] | None:
    """A list that may be written as JSON text; None when absent.

    Raises:
        RecordRejected: ``reason``.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise RecordRejected(reason, value[:200]) from None
    if value is None:
        return None
    if not isinstance(value, list):
        raise RecordRejected(reason, repr(value)[:200])
    return value


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


def _flag(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _first_number(record: dict[str, Any], *names: str) -> float | None:
    for name in names:
        number = number_or_none(record.get(name))
        if number is not None:
            return number
    return None
