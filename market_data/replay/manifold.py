"""What the replayed Manifold answers: markets, newest first, and the bets on each."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from market_data.replay.archive import Archive, Record
from market_data.replay.paths import BadRequest, NotFound, histories, whole

_WHOLE_ONLY = ("answers", "groupSlugs", "description")
_LONGEST = 1000


class Manifold:
    """The API over one archive; every method returns an encoded JSON body."""

    def __init__(self, archive: Archive) -> None:
        self._markets = sorted(archive.manifold_markets, key=_newest)
        self._listed = [
            {k: v for k, v in market.items() if k not in _WHOLE_ONLY} for market in self._markets
        ]
        self._place = {market["id"]: place for place, market in enumerate(self._markets)}
        self._history = histories(archive.prices, "manifold/")

    def markets(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/markets``; answers and groups are left out, as the real listing does."""
        options = dict(query)
        limit = _limit(options, 500)
        start = 0
        if options.get("before"):
            if options["before"] not in self._place:
                raise BadRequest("before is not the id of a market")
            start = self._place[options["before"]] + 1
        return orjson.dumps(self._listed[start : start + limit])

    def market(self, venue_id: str) -> bytes:
        """Body of ``/market/{id}``."""
        if venue_id not in self._place:
            raise NotFound("Contract not found")
        return orjson.dumps(self._markets[self._place[venue_id]])

    def bets(self, query: list[tuple[str, str]]) -> bytes:
        """Body of ``/bets`` of one market, newest first; each price of the archive is a bet."""
        options = dict(query)
        contract = options.get("contractId", "")
        if contract not in self._place:
            raise NotFound("Contract not found")
        token = "/".join(filter(None, (contract, options.get("answerId"))))
        t, p = self._history.get(token, (np.empty(0, dtype=np.int64), np.empty(0)))
        first = int(np.searchsorted(t * 1000, whole(options, "afterTime", 0), "right"))
        end = len(t)
        if options.get("before"):
            try:
                end = int(options["before"].rpartition("-")[2])
            except ValueError:
                raise BadRequest("before is not the id of a bet") from None
        begin = max(first, end - _limit(options, 1000))
        bets = [_bet(contract, place, t, p) for place in range(end - 1, begin - 1, -1)]
        return orjson.dumps(bets)


def _bet(contract: str, place: int, t: Any, p: Any) -> Record:
    before = float(p[place - 1]) if place else 0.5
    after = float(p[place])
    return {
        "id": f"{contract}-{place:06d}",
        "contractId": contract,
        "createdTime": int(t[place]) * 1000,
        "outcome": "YES" if after >= before else "NO",
        "amount": 10,
        "probBefore": before,
        "probAfter": after,
        "isFilled": True,
        "isCancelled": False,
    }


def _newest(market: Record) -> tuple[int, str]:
    return -int(market["createdTime"]), str(market["id"])


def _limit(options: dict[str, str], default: int) -> int:
    limit = whole(options, "limit", default)
    if not 1 <= limit <= _LONGEST:
        raise BadRequest(f"limit must be between 1 and {_LONGEST}")
    return limit
