"""Kalshi's REST interface as async listings of pages, bodies as received."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from market_data.errors import VenueBadPayload
from market_data.venues.http import Answer, Page, Query, VenueHttp, cursor_pages
from market_data.venues.kalshi.parse import PLATFORM, parse_history, parse_market
from market_data.venues.kalshi.settings import KalshiSettings
from market_data.venues.port import HistoryRequest, MarketScope, Points
from market_data.venues.rows import MarketRow

_STATUSES = {False: ("open",), True: ("closed", "settled")}
_PARLAYS = ("mve_filter", "only")
_DEFAULT_DAYS = 365


class KalshiRest:
    """Asks Kalshi, or a replay of it.

    Markets are listed through their events, which say category, series and exclusivity.
    """

    def __init__(self, http: VenueHttp, settings: KalshiSettings) -> None:
        self._http = http
        self._settings = settings

    @property
    def platform(self) -> str:
        """What stands before the colon of a market id."""
        return PLATFORM

    def listings(self, scope: MarketScope) -> list[Query]:
        """One query for each status, in the order in which a market goes through them."""
        since = scope.end_from
        bound = [("min_close_ts", str(int(since.timestamp())))] if since is not None else []
        statuses = [status for closed in scope.states for status in _STATUSES[closed]]
        queries: list[Query] = [[("status", status), *bound] for status in statuses]
        if self._settings.with_parlays:
            queries += [[_PARLAYS, *query] for query in list(queries)]
        return queries

    async def market_pages(self, query: Query, scope: MarketScope) -> AsyncIterator[Page]:  # noqa: ARG002
        """Pages of ``/events`` with their markets, or of ``/markets`` where parlays are asked."""
        is_flat = _PARLAYS in query
        async for page in self.flat_pages(query) if is_flat else self.event_pages(query):
            yield page

    def parse_market(self, record: Any) -> MarketRow:
        """Read one market; raises ``RecordRejected``."""
        return parse_market(record)

    async def event_pages(self, query: Query) -> AsyncIterator[Page]:
        """Pages of ``/events``; the records are the nested markets, each with its event."""
        paging = [("with_nested_markets", "true"), ("limit", str(self._settings.page_size))]
        async for page in self._pages("events", query + paging):
            records = [market for event in page.records for market in with_events(event)]
            yield Page(page.body, records, page.next_cursor)

    async def flat_pages(self, query: Query) -> AsyncIterator[Page]:
        """Pages of ``/markets``."""
        paging = [("limit", str(5 * self._settings.page_size))]
        async for page in self._pages("markets", query + paging):
            yield page

    async def history(self, wanted: HistoryRequest) -> Sequence[Answer]:
        """The candles of one market, one answer for each span that a request may have."""
        series, _, ticker = wanted.token_id.partition("/")
        start = wanted.start_ts or wanted.opened_ts or wanted.until_ts - _DEFAULT_DAYS * 86_400
        span = 60 * self._settings.period_minutes * self._settings.candles_per_request
        url = f"{self._settings.url}/series/{series}/markets/{ticker}/candlesticks"
        answers = []
        for begin in range(start, max(wanted.until_ts, start) + 1, span):
            query = [
                ("start_ts", str(begin)),
                ("end_ts", str(min(begin + span - 1, max(wanted.until_ts, start)))),
                ("period_interval", str(self._settings.period_minutes)),
            ]
            answers.append(await self._http.get(url, query))
        return answers

    def is_empty(self, value: Any) -> bool:
        """Whether there is no candle."""
        return isinstance(value, dict) and value.get("candlesticks") == []

    def parse_history(self, value: Any) -> Points:
        """Read a ``candlesticks`` body; raises ``RecordRejected``."""
        return parse_history(value)

    async def _pages(self, name: str, query: Query) -> AsyncIterator[Page]:
        url = f"{self._settings.url}/{name}"

        async def fetch(cursor: str) -> Page:
            answer = await self._http.get(url, query + ([("cursor", cursor)] if cursor else []))
            records = answer.value.get(name) if isinstance(answer.value, dict) else None
            if not isinstance(records, list):
                raise VenueBadPayload(f"{url}: no list '{name}' in the answer", url=url)
            return Page(answer.body, records, str(answer.value.get("cursor") or ""))

        async for page in cursor_pages(fetch):
            yield page


def with_events(event: Any) -> list[Any]:
    """The markets of an event, each with its event; what is no event is a record by itself."""
    if not isinstance(event, dict):
        return [event]
    markets = event.get("markets")
    head = {name: value for name, value in event.items() if name != "markets"}
    return [
        market | {"event": head} if isinstance(market, dict) else market
        for market in (markets if isinstance(markets, list) else ())
    ]
