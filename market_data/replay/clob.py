"""Listings of the replayed order book: the markets of an archive as that interface tells them."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.paths import BadRequest, NotFound

LISTINGS = ("markets", "sampling-markets", "simplified-markets")
_PAGE = 1000
_END = "LTE="


class ClobListings:
    """``/markets``, ``/sampling-markets`` and ``/simplified-markets`` over one archive."""

    def __init__(self, archive: Archive) -> None:
        records = [_record(market) for market in archive.markets]
        self._by_condition = {record["condition_id"]: record for record in records}
        names = ("condition_id", "tokens", "active", "closed", "archived", "accepting_orders")
        self._listings = {
            "markets": records,
            "sampling-markets": [r for r in records if r["accepting_orders"]],
            "simplified-markets": [{name: r[name] for name in names} for r in records],
        }

    def page(self, name: str, query: list[tuple[str, str]]) -> bytes:
        """One page of a listing; ``next_cursor`` is "LTE=" behind the last one."""
        cursor = dict(query).get("next_cursor", "") or "MA=="
        try:
            start = int(base64.b64decode(cursor.encode()).decode())
        except (ValueError, binascii.Error):
            raise BadRequest("next item should be greater than or equal to 0") from None
        records = self._listings[name]
        chosen = records[start : start + _PAGE] if start >= 0 else []
        end = start + len(chosen)
        more = start >= 0 and end < len(records)
        following = base64.b64encode(str(end).encode()).decode() if more else _END
        return orjson.dumps(
            {"data": chosen, "next_cursor": following, "limit": _PAGE, "count": len(chosen)}
        )

    def market(self, condition_id: str) -> bytes:
        """Body of ``/markets/{condition_id}``."""
        if condition_id not in self._by_condition:
            raise NotFound("market not found")
        return orjson.dumps(self._by_condition[condition_id])


def _record(market: Record) -> Record:
    outcomes, tokens, prices = (
        _listed(market.get(name)) for name in ("outcomes", "clobTokenIds", "outcomePrices")
    )
    closed = bool(market.get("closed"))
    paid = [float(price) for price in prices] if closed else []
    return {
        "condition_id": market["conditionId"],
        "question": market.get("question"),
        "market_slug": market.get("slug"),
        "end_date_iso": market.get("endDate"),
        "active": True,
        "closed": closed,
        "archived": False,
        "accepting_orders": not closed,
        "enable_order_book": not closed,
        "neg_risk": bool(market.get("negRisk")),
        "is_50_50_outcome": len(paid) == 2 and set(paid) == {0.5},
        "tokens": [
            {"token_id": token, "outcome": outcome, "price": float(price),
             "winner": closed and float(price) == 1.0}
            for outcome, token, price in zip(outcomes, tokens, prices, strict=False)
        ],
    }  # fmt: skip


def _listed(value: Any) -> list[Any]:
    """A list that may be JSON text; a spoilt record has nothing to list."""
    try:
        listed = orjson.loads(value) if isinstance(value, str) and value else value or []
    except orjson.JSONDecodeError:
        return []
    return list(listed)
