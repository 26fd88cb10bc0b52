"""Records of the order book's interface. Pure: no I/O, no clock.

Of ``/markets/{condition_id}`` and its listings are read ``tokens[].winner``, ``closed`` and
``is_50_50_outcome``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from market_data.errors import RecordRejected
from market_data.venues.fields import text_or_none


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
