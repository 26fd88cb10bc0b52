"""What a stream may not say: resolutions that it missed, and open interest."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from datetime import datetime

from flows.live_markets import Followed
from market_data.errors import RecordRejected, VenueError
from market_data.streaming.events import Event, OpenInterest, Resolved
from market_data.venues.http import VenueHttp
from market_data.venues.polymarket.parse import parse_market
from market_data.venues.rows import MarketRow

_LOG = logging.getLogger("flows.live")
PART = 50
"""Markets of one request."""
_PAYS = 1.0 - 1e-6


class Polls:
    """Asks Gamma for the markets that are followed."""

    def __init__(self, http: VenueHttp, gamma_url: str) -> None:
        self._http = http
        self._url = f"{gamma_url}/markets"
        self.failures = 0

    async def ask(self, markets: Sequence[Followed], now_ms: int) -> list[Event]:
        """What the venue says of markets now; a part that does not answer is left for next time."""
        by_condition = {one.condition_id: one for one in markets if one.condition_id}
        conditions = sorted(by_condition)
        events: list[Event] = []
        for begin in range(0, len(conditions), PART):
            part = conditions[begin : begin + PART]
            query = [("condition_ids", one) for one in part] + [("limit", str(PART))]
            try:
                for closed in ("true", "false"):
                    answer = await self._http.get(self._url, [*query, ("closed", closed)])
                    events += self._read(answer.value, by_condition, now_ms)
            except VenueError as error:
                self.failures += 1
                _LOG.warning("polling failed for %d markets: %s", len(part), error)
        return events

    def _read(
        self, records: Iterable[object], by_condition: dict[str, Followed], now_ms: int
    ) -> Iterable[Event]:
        for record in records if isinstance(records, list) else ():
            try:
                row = parse_market(record)
            except RecordRejected as error:
                _LOG.warning("a polled market cannot be read: %s", error)
                continue
            market = by_condition.get(row.condition_id or "")
            if market is not None:
                yield from events_of(row, market, now_ms)


def events_of(row: MarketRow, market: Followed, now_ms: int) -> Iterable[Event]:
    """What a record says: that its market is over, and what its contracts are worth in all."""
    if row.open_interest is not None:
        at = _ms(row.venue_updated_at) or now_ms
        key = f"{at}/{row.open_interest}"
        yield OpenInterest(market.market_id, at, key, now_ms, row.open_interest)
    prices = row.outcome_prices
    if not row.is_closed or not prices or len(prices) != len(market.token_ids):
        return
    at = _ms(row.closed_at) or now_ms
    best = max(range(len(prices)), key=prices.__getitem__)
    if prices[best] >= _PAYS:
        winner, outcome = market.token_ids[best], row.outcomes[best]
    elif prices[best] > 0.0 and all(abs(one - prices[0]) < 1e-9 for one in prices):
        winner, outcome = "", ""
    else:
        return  # closed, and what it pays is not final
    yield Resolved(market.market_id, at, f"r{winner}", now_ms, winner, outcome, "poll")


def _ms(instant: datetime | None) -> int:
    return 0 if instant is None else round(instant.timestamp() * 1_000)
