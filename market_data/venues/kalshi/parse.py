"""Kalshi's JSON → rows. Pure: no I/O, no clock.

A market may stand alone or carry its event as the field ``event``. Prices come in cents or, in
newer answers, as text in dollars (``…_dollars``, which wins); sizes in contracts of one dollar
each, which is what volumes and open interest in US dollars are here: notional, not premium.
The fields of the older version 1 are read under their names as well.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

from market_data.categories import canonical_category, kalshi_category
from market_data.errors import RecordRejected
from market_data.labels import VENUE_NOT_FINAL, VENUE_SCALED, VENUE_VOID
from market_data.venues.fields import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    first_number,
    number_or_none,
    parse_time,
    positive_or_none,
    text_or_none,
)
from market_data.venues.rows import MarketRow

PLATFORM = "kalshi"
SANE_SPREAD = 0.10
"""The mid of bid and ask is a price only while they are this close, in probability units."""

_OPEN = ("initialized", "inactive", "unopened", "active", "open", "paused")
_PENDING = ("closed", "determined", "disputed", "amended")
_FINAL = ("finalized", "settled")
_PAID = {"yes": [1.0, 0.0], "no": [0.0, 1.0]}
_VOID = ("void", "voided", "cancelled", "canceled", "annulled")
_PLAYER_SERIES = re.compile(
    r"KX(NBA|WNBA|NFL|MLB|NHL|NCAAMB|NCAAFB|EPL)"
    r"(PTS|REB|AST|3PT|BLK|STL|PRA|2D|3D|REC|RECYDS|RSHYDS|PASSYDS|PASSTDS|ANYTD|FIRSTTD|"
    r"HIT|HR|KS|TB|GOAL|ASSIST|SAVES|SOG)-"
)
_PLAYER_TITLE = re.compile(r"^[A-Z][\w.'’-]*(?: [A-Z][\w.'’-]*)+: \d+\+")


def parse_market(record: Any) -> MarketRow:
    """Read one market.

    Raises:
        RecordRejected: NOT_AN_OBJECT, ID_MISSING, STATUS_UNKNOWN, RESULT_UNKNOWN,
            PRICES_OUT_OF_RANGE or TIME_UNREADABLE.
    """
    ticker = _identity(record)
    event = record["event"] if isinstance(record.get("event"), dict) else {}
    is_closed, state, paid = _state(record)
    event_ticker = _text(record, "event_ticker") or _text(event, "event_ticker", "ticker")
    series = _text(event, "series_ticker") or (event_ticker or ticker).split("-")[0]
    last = _dollars(record, "last_price") or None
    close = _at(record, "close_time", "close_date")
    question = _question(record, event)
    tags = [*_tags(event), series]
    return MarketRow(
        market_id=f"{PLATFORM}:{ticker}",
        event_id=f"{PLATFORM}:{event_ticker or 'market-' + ticker}",
        platform=PLATFORM,
        venue_market_id=ticker,
        condition_id=None,
        slug=None,
        question=question,
        outcomes=["Yes", "No"],
        token_ids=[f"{series}/{ticker}"],
        enable_order_book=True,
        tags=tags,
        category=canonical_category(
            kalshi_category(_text(event, "category"), series), tags, question
        ),
        neg_risk=event.get("mutually_exclusive") is True,
        market_structure=_structure(record, ticker, question),
        created_at=_at(record, "created_time", "create_date"),
        start_at=_at(record, "open_time", "open_date"),
        end_at=_at(record, "expected_expiration_time", "expected_expiration_date") or close,
        closed_at=_earliest(close, _at(record, "settlement_ts")) if is_closed else None,
        uma_end_at=None,
        is_closed=is_closed,
        last_trade_price=last,
        **_amounts(record),
        outcome_prices=paid if is_closed or last is None else [last, 1.0 - last],
        uma_status=state,
        venue_updated_at=_at(record, "updated_time"),
    )


def parse_history(value: Any) -> tuple[list[int], list[float], list[tuple[str, Any]]]:
    """Read a ``candlesticks`` body; a candle is a price at its end.

    The price is the mid of bid and ask at the candle's end while their spread is sane, else the
    last trade within the candle. A candle with neither holds no price and gives no point.

    Returns:
        t: UTC seconds; p: prices in [0, 1]; rejects: (reason, candle) with the reasons
        POINT_UNREADABLE, TIME_OUT_OF_RANGE and PRICE_OUT_OF_RANGE.

    Raises:
        RecordRejected: ``HISTORY_UNREADABLE`` when there is no list of candles at all.
    """
    candles = value.get("candlesticks") if isinstance(value, dict) else None
    if not isinstance(candles, list):
        raise RecordRejected("HISTORY_UNREADABLE", type(value).__name__)
    t: list[int] = []
    p: list[float] = []
    rejects: list[tuple[str, Any]] = []
    for candle in candles:
        at = number_or_none(candle.get("end_period_ts")) if isinstance(candle, dict) else None
        if at is None:
            rejects.append(("POINT_UNREADABLE", candle))
            continue
        if not EARLIEST_SECONDS <= at < LATEST_SECONDS:
            rejects.append(("TIME_OUT_OF_RANGE", candle))
            continue
        try:
            price = _candle_price(candle)
        except RecordRejected:
            rejects.append(("PRICE_OUT_OF_RANGE", candle))
            continue
        if price is not None:
            t.append(int(at))
            p.append(price)
    return t, p, rejects


def _identity(record: Any) -> str:
    if not isinstance(record, dict):
        raise RecordRejected("NOT_AN_OBJECT", type(record).__name__)
    ticker = _text(record, "ticker", "ticker_name")
    if ticker is None:
        raise RecordRejected("ID_MISSING")
    return ticker


def _amounts(record: dict[str, Any]) -> dict[str, float | None]:
    """The fields of a row that are quotes, or US dollars."""
    contract = _dollars(record, "notional_value") or 1.0
    sizes = {"volume_total": "volume", "volume_24h": "volume_24h", "open_interest": "open_interest"}
    dollars = {
        field: _scaled(first_number(record, f"{name}_fp", name), contract)
        for field, name in sizes.items()
    }
    return dollars | {
        "liquidity": positive_or_none(_money(record, "liquidity")),
        "best_bid": _side(_dollars(record, "yes_bid")),
        "best_ask": _side(_dollars(record, "yes_ask")),
        "tick_size": _tick(record),
    }


def _candle_price(candle: dict[str, Any]) -> float | None:
    bid, ask, traded = (
        _dollars(candle.get(part), "close") for part in ("yes_bid", "yes_ask", "price")
    )
    bid, ask = _side(bid), _side(ask)
    if bid is not None and ask is not None and 0 < ask - bid <= SANE_SPREAD + 1e-9:
        return round((bid + ask) / 2, 6)
    return traded


def _state(record: dict[str, Any]) -> tuple[bool, str | None, list[float] | None]:
    """(is closed, what ``uma_status`` says, what each side is paid) of a market."""
    status = (text_or_none(record.get("status")) or "").lower()
    if status in _OPEN:
        return False, None, None
    if status in _PENDING:
        return True, VENUE_NOT_FINAL, None
    if status not in _FINAL:
        raise RecordRejected("STATUS_UNKNOWN", repr(record.get("status"))[:200])
    result = (text_or_none(record.get("result")) or "").lower()
    if result in _PAID:
        return True, None, _PAID[result]
    if result in _VOID:
        return True, VENUE_VOID, None
    if result == "scalar":
        yes = _settlement(record)
        return True, VENUE_SCALED, None if yes is None else [yes, 1.0 - yes]
    if result:
        raise RecordRejected("RESULT_UNKNOWN", result[:200])
    return True, None, None


def _settlement(record: dict[str, Any]) -> float | None:
    """What YES was paid in dollars; version 1 counts in hundredths of a cent."""
    paid = _dollars(record, "settlement_value")
    small = number_or_none(record.get("settlement_value_centicents"))
    return paid if paid is not None or small is None else _probability(small / 1e4)


def _structure(record: dict[str, Any], ticker: str, question: str) -> str:
    if record.get("market_type") == "scalar":
        return "SCALAR"
    if record.get("mve_selected_legs") or record.get("mve_collection_ticker"):
        return "MULTI_LEG"
    if ticker.startswith("KXMVE"):
        return "MULTI_LEG"
    is_player = _PLAYER_SERIES.match(ticker) or _PLAYER_TITLE.match(question)
    return "PLAYER_PROP" if is_player else "BINARY"


def _question(record: dict[str, Any], event: dict[str, Any]) -> str:
    """The title, and what distinguishes the market within its event where the title does not."""
    title = _text(record, "title") or _text(event, "title") or ""
    part = _text(record, "yes_sub_title", "subtitle", "sub_title") or ""
    if not title or part.lower() in title.lower():
        return title or part
    return f"{title} {part}"


def _tags(event: dict[str, Any]) -> list[str]:
    tags = event.get("tags")
    found = [text_or_none(tag) for tag in tags] if isinstance(tags, list) else []
    return [tag for tag in found if tag is not None]


def _tick(record: dict[str, Any]) -> float | None:
    ranges = record.get("price_ranges")
    if isinstance(ranges, list) and ranges and isinstance(ranges[0], dict):
        return positive_or_none(ranges[0].get("step"))
    return _scaled(positive_or_none(record.get("tick_size")), 0.01)


def _money(record: Any, name: str) -> float | None:
    """US dollars of a field in cents or, under ``<name>_dollars``, in dollars."""
    if not isinstance(record, dict):
        return None
    dollars = number_or_none(record.get(f"{name}_dollars"))
    return dollars if dollars is not None else _scaled(number_or_none(record.get(name)), 0.01)


def _dollars(record: Any, name: str) -> float | None:
    """A price in [0, 1]; raises ``RecordRejected`` outside."""
    price = _money(record, name)
    return None if price is None else _probability(price)


def _probability(price: float) -> float:
    if not -1e-9 <= price <= 1 + 1e-9:
        raise RecordRejected("PRICES_OUT_OF_RANGE", repr(price))
    return round(min(max(price, 0.0), 1.0), 6)


def _side(price: float | None) -> float | None:
    """A bid of nothing and an offer at the full dollar mean that nobody quotes."""
    return price if price is not None and 0 < price < 1 else None


def _scaled(number: float | None, factor: float) -> float | None:
    return None if number is None else round(number * factor, 6)


def _at(record: dict[str, Any], *names: str) -> datetime | None:
    """The first of these times that is there; the year 1 stands for none."""
    for name in names:
        value = record.get(name)
        if isinstance(value, str) and value.startswith("0001-"):
            continue
        at = parse_time(value, name)
        if at is not None:
            return at
    return None


def _earliest(*times: datetime | None) -> datetime | None:
    return min((at for at in times if at is not None), default=None)


def _text(record: dict[str, Any], *names: str) -> str | None:
    for name in names:
        text = text_or_none(record.get(name))
        if text is not None:
            return text
    return None
