"""Manifold's JSON → rows. Pure: no I/O, no clock.

Volumes and liquidity are play money ("mana"): every field in US dollars stays unknown. A market is
open until its creator has resolved it, also behind its closing time.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from market_data.categories import canonical_category
from market_data.errors import RecordLeftOut, RecordRejected
from market_data.labels import VENUE_SCALED, VENUE_VOID
from market_data.venues.fields import (
    EARLIEST_SECONDS,
    LATEST_SECONDS,
    number_or_none,
    text_or_none,
)
from market_data.venues.rows import MarketRow

PLATFORM = "manifold"

_TWO_SIDED = {
    "BINARY": ("BINARY", ("Yes", "No")),
    "PSEUDO_NUMERIC": ("SCALAR", ("Higher", "Lower")),
    "STONK": ("SCALAR", ("Higher", "Lower")),
}
_ANSWERED = ("MULTIPLE_CHOICE", "FREE_RESPONSE", "NUMBER", "MULTI_NUMERIC", "DATE")
_UNKNOWN = dict.fromkeys(
    ("volume_total", "volume_24h", "liquidity", "open_interest", "best_bid", "best_ask")
)
"""Play money is no US dollars, and an automated pool quotes no bid or ask."""

_PAID = {"YES": [1.0, 0.0], "NO": [0.0, 1.0]}
_SHARED = ("MKT", "CHOOSE_MULTIPLE")


def parse_market(record: Any) -> MarketRow:
    """Read one market of the listing, or a whole one.

    Raises:
        RecordLeftOut: NOT_A_MARKET (polls and bounties) or ANSWERS_MISSING (the listing leaves
            them out, and they were not asked for).
        RecordRejected: NOT_AN_OBJECT, ID_MISSING, RESOLVED_MISSING, ANSWERS_MISSING (fewer than
            two), ANSWERS_UNREADABLE, RESOLUTION_UNKNOWN or PRICES_OUT_OF_RANGE.
    """
    venue_id = _identity(record)
    is_resolved: bool = record["isResolved"]
    structure, outcomes, tokens, prices = _sides(record, venue_id)
    state, paid = _paid(record, tokens) if is_resolved else (None, None)
    question = text_or_none(record.get("question")) or ""
    groups = record.get("groupSlugs")
    tags = [str(group) for group in groups] if isinstance(groups, list) else []
    created, closes = _at(record, "createdTime"), _at(record, "closeTime")
    resolved = _at(record, "resolutionTime")
    ends = [at for at in (closes, resolved) if at is not None]
    return MarketRow(
        market_id=f"{PLATFORM}:{venue_id}",
        event_id=f"{PLATFORM}:{venue_id}",
        platform=PLATFORM,
        venue_market_id=venue_id,
        condition_id=None,
        slug=text_or_none(record.get("slug")),
        question=question,
        outcomes=outcomes,
        token_ids=tokens,
        enable_order_book=False,
        tags=tags,
        category=canonical_category(None, tags, question),
        neg_risk=False,
        market_structure=structure,
        tick_size=None,
        created_at=created,
        start_at=created,
        end_at=closes,
        closed_at=min(ends) if is_resolved and ends else None,
        uma_end_at=None,
        is_closed=is_resolved,
        **_UNKNOWN,
        last_trade_price=prices[0] if prices else None,
        outcome_prices=paid if is_resolved else prices,
        uma_status=state,
        venue_updated_at=_at(record, "lastUpdatedTime"),
    )


def parse_history(value: Any) -> tuple[list[int], list[float], list[tuple[str, Any]]]:
    """Read a page of ``/bets``: a bet is a price, the probability that it left behind.

    Returns:
        t: UTC seconds, ascending; p: probabilities in [0, 1]; rejects: (reason, bet), reasons
        POINT_UNREADABLE, TIME_OUT_OF_RANGE and PRICE_OUT_OF_RANGE.

    Raises:
        RecordRejected: ``HISTORY_UNREADABLE`` when there is no list of bets at all.
    """
    if not isinstance(value, list):
        raise RecordRejected("HISTORY_UNREADABLE", type(value).__name__)
    points: list[tuple[float, float]] = []
    rejects: list[tuple[str, Any]] = []
    for bet in reversed(value):  # newest first, as they come
        at = number_or_none(bet.get("createdTime")) if isinstance(bet, dict) else None
        price = number_or_none(bet.get("probAfter")) if isinstance(bet, dict) else None
        if at is None or price is None:
            rejects.append(("POINT_UNREADABLE", bet))
        elif not EARLIEST_SECONDS <= at / 1000 < LATEST_SECONDS:
            rejects.append(("TIME_OUT_OF_RANGE", bet))
        elif not -1e-9 <= price <= 1 + 1e-9:
            rejects.append(("PRICE_OUT_OF_RANGE", bet))
        else:
            points.append((at, min(max(price, 0.0), 1.0)))
    points.sort(key=lambda point: point[0])
    return [int(at // 1000) for at, _ in points], [price for _, price in points], rejects


def needs_answers(record: Any) -> bool:
    """Whether a record of the listing is a market whose answers the listing left out."""
    return (
        isinstance(record, dict)
        and text_or_none(record.get("outcomeType")) in _ANSWERED
        and not record.get("answers")
        and text_or_none(record.get("id")) is not None
    )


def _identity(record: Any) -> str:
    if not isinstance(record, dict):
        raise RecordRejected("NOT_AN_OBJECT", type(record).__name__)
    venue_id = text_or_none(record.get("id"))
    if venue_id is None:
        raise RecordRejected("ID_MISSING")
    if not isinstance(record.get("isResolved"), bool):
        raise RecordRejected("RESOLVED_MISSING", repr(record.get("isResolved"))[:200])
    return venue_id


def _sides(
    record: dict[str, Any], venue_id: str
) -> tuple[str, list[str], list[str], list[float] | None]:
    """(structure, outcomes, what histories are asked by, prices now) of a market."""
    kind = text_or_none(record.get("outcomeType"))
    if kind in _TWO_SIDED:
        structure, outcomes = _TWO_SIDED[kind]
        price = _probability(record.get("probability"))
        return structure, list(outcomes), [venue_id], None if price is None else [price, 1 - price]
    if kind not in _ANSWERED:
        raise RecordLeftOut("NOT_A_MARKET", repr(kind)[:200])
    if needs_answers(record):
        raise RecordLeftOut("ANSWERS_MISSING", kind or "")
    answers = record["answers"]
    if not isinstance(answers, list) or not all(_is_answer(answer) for answer in answers):
        raise RecordRejected("ANSWERS_UNREADABLE", repr(answers)[:200])
    if len(answers) < 2:
        raise RecordRejected("ANSWERS_MISSING", f"{len(answers)} of a {kind}")
    ordered = sorted(answers, key=lambda answer: number_or_none(answer.get("index")) or 0.0)
    prices = [_probability(answer.get("probability")) for answer in ordered]
    known = [price for price in prices if price is not None]
    return (
        "MULTI_OUTCOME",
        [str(answer.get("text") or answer["id"]) for answer in ordered],
        [f"{venue_id}/{answer['id']}" for answer in ordered],
        known if len(known) == len(prices) else None,
    )


def _is_answer(answer: Any) -> bool:
    return isinstance(answer, dict) and text_or_none(answer.get("id")) is not None


def _paid(record: dict[str, Any], tokens: list[str]) -> tuple[str | None, list[float] | None]:
    """(What ``uma_status`` says, what each outcome is paid) of a resolved market."""
    resolution = text_or_none(record.get("resolution"))
    if resolution == "CANCEL":
        return VENUE_VOID, None
    if len(tokens) == 1 and resolution in _PAID:
        return None, _PAID[resolution]
    if resolution in _SHARED:
        yes = _probability(record.get("resolutionProbability")) if len(tokens) == 1 else None
        return VENUE_SCALED, None if yes is None else [yes, 1 - yes]
    chosen = [token.partition("/")[2] == resolution for token in tokens]
    if resolution is None or sum(chosen) != 1:
        raise RecordRejected("RESOLUTION_UNKNOWN", repr(resolution)[:200])
    return None, [float(is_winner) for is_winner in chosen]


def _probability(value: Any) -> float | None:
    price = number_or_none(value)
    if price is None:
        return None
    if not -1e-9 <= price <= 1 + 1e-9:
        raise RecordRejected("PRICES_OUT_OF_RANGE", repr(value)[:200])
    return min(max(price, 0.0), 1.0)


def _at(record: dict[str, Any], name: str) -> datetime | None:
    """A time in milliseconds; what lies beyond all markets of today stands for "never"."""
    number = number_or_none(record.get(name))
    if number is None or not EARLIEST_SECONDS <= number / 1000 < LATEST_SECONDS:
        return None
    return datetime.fromtimestamp(number / 1000, tz=UTC)
