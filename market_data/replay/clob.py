"""Outcomes in the replayed order book: the markets of an archive as that interface tells them."""

from __future__ import annotations

from typing import Any

import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.paths import NotFound


class ClobOutcomes:
    """``/markets/{condition_id}`` over one archive."""

    def __init__(self, archive: Archive) -> None:
        records = [_record(market) for market in archive.markets]
        self._by_condition = {record["condition_id"]: record for record in records}

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
