"""Polymarket's REST and GraphQL interfaces as async listings of pages, bodies as received."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from market_data.errors import VenueBadPayload, VenueNotFound
from market_data.venues.http import Answer, Page, Query, VenueHttp, cursor_pages, offset_pages
from market_data.venues.polymarket.parse import PLATFORM, decode_page, parse_history, parse_market
from market_data.venues.polymarket.settings import PolymarketSettings
from market_data.venues.polymarket.subgraph import FlowPage, Segment, SegmentFailure, Subgraph
from market_data.venues.port import HistoryRequest, MarketScope, Points
from market_data.venues.rows import MarketRow


class PolymarketRest:
    """Asks Polymarket, or a replay of it."""

    def __init__(self, http: VenueHttp, settings: PolymarketSettings) -> None:
        self._http = http
        self._settings = settings
        self._subgraph = Subgraph(http, settings)

    @property
    def platform(self) -> str:
        """What stands before the colon of a market id."""
        return PLATFORM

    def listings(self, scope: MarketScope) -> list[Query]:
        """One query for each value of Gamma's ``closed`` filter."""
        bounds = [("end_date_min", scope.end_from), ("end_date_max", scope.end_to)]
        within = [(k, at.strftime("%Y-%m-%dT%H:%M:%SZ")) for k, at in bounds if at is not None]
        return [[("closed", "true" if closed else "false"), *within] for closed in scope.states]

    async def market_pages(self, query: Query, scope: MarketScope) -> AsyncIterator[Page]:
        """All pages of a listing, by cursor where the scope asks for it and the venue can."""
        if scope.by_cursor:
            began = False
            try:
                async for page in self.market_pages_by_cursor(query):
                    began = True
                    yield page
            except VenueNotFound:
                if began:
                    raise
            else:
                return
        async for page in self.market_pages_by_offset(query):
            yield page

    def parse_market(self, record: Any) -> MarketRow:
        """Read one Gamma market; raises ``RecordRejected``."""
        return parse_market(record)

    async def history(self, wanted: HistoryRequest) -> Sequence[Answer]:
        """The one answer that holds a history."""
        return (await self.prices_history(wanted.token_id, start_ts=wanted.start_ts),)

    def is_empty(self, value: Any) -> bool:
        """Whether a history has no point."""
        return bool(value == {"history": []})

    def parse_history(self, value: Any) -> Points:
        """Read a ``/prices-history`` body; raises ``RecordRejected``."""
        return parse_history(value)

    async def market_pages_by_offset(self, query: Query) -> AsyncIterator[Page]:
        """Pages of Gamma ``/markets`` by offset, in the order of their ids."""
        url = f"{self._settings.gamma_url}/markets"

        async def fetch(offset: int) -> Page:
            paging = [("limit", str(self._settings.page_size)), ("offset", str(offset))]
            order = [("order", "id"), ("ascending", "true")]
            answer = await self._http.get(url, query + paging + order)
            return Page(answer.body, decode_page(answer.body))

        async for page in offset_pages(fetch):
            yield page

    async def market_pages_by_cursor(self, query: Query) -> AsyncIterator[Page]:
        """Pages of Gamma ``/markets/keyset``; each goes on behind the last market so far.

        Raises:
            VenueNotFound: the venue has no such listing.
        """
        async for page in self._keyset("markets", query):
            yield page

    async def _keyset(self, name: str, query: Query) -> AsyncIterator[Page]:
        url = f"{self._settings.gamma_url}/{name}/keyset"

        async def fetch(cursor: str) -> Page:
            paging = [("limit", str(self._settings.page_size)), ("after_cursor", cursor)]
            answer = await self._http.get(url, query + [(k, v) for k, v in paging if v])
            records = _field(answer, name, list, url)
            return Page(answer.body, records, str(answer.value.get("next_cursor") or ""))

        async for page in cursor_pages(fetch):
            yield page

    async def prices_history(
        self, token_id: str, *, start_ts: int | None = None, end_ts: int | None = None
    ) -> Answer:
        """``/prices-history`` of one token; bounds are UTC seconds, included."""
        query = [("market", token_id), ("fidelity", str(self._settings.fidelity_minutes))]
        if start_ts is None and end_ts is None:
            query.append(("interval", "max"))
        if start_ts is not None:
            query.append(("startTs", str(start_ts)))
        if end_ts is not None:
            query.append(("endTs", str(end_ts)))
        return await self._http.get(f"{self._settings.clob_url}/prices-history", query)

    async def clob_market(self, condition_id: str) -> Answer:
        """``/markets/{condition_id}`` of the order book; raises ``VenueNotFound``."""
        return await self._http.get(f"{self._settings.clob_url}/markets/{condition_id}")

    async def event_pages(self, query: Query) -> AsyncIterator[Page]:
        """Pages of Gamma ``/events/keyset``: events with their markets."""
        async for page in self._keyset("events", query):
            yield page

    def flows(self, batch: Sequence[Segment]) -> AsyncIterator[FlowPage | SegmentFailure]:
        """Pages of splits, merges and redemptions; what fails for good fails by segment."""
        return self._subgraph.flows(batch)


def _field(answer: Answer, name: str, kind: type, url: str) -> Any:
    value = answer.value.get(name) if isinstance(answer.value, dict) else None
    if not isinstance(value, kind):
        raise VenueBadPayload(f"{url}: no '{name}' in the answer", url=url)
    return value
