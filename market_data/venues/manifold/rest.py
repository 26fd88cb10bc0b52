"""Manifold's REST interface as async listings of pages, bodies as received."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from market_data.errors import VenueBadPayload
from market_data.venues.http import Answer, Page, Query, VenueHttp, cursor_pages
from market_data.venues.manifold.parse import PLATFORM, needs_answers, parse_history, parse_market
from market_data.venues.manifold.settings import ManifoldSettings
from market_data.venues.port import HistoryRequest, MarketScope, Points
from market_data.venues.rows import MarketRow


class ManifoldRest:
    """Asks Manifold, or a replay of it."""

    def __init__(self, http: VenueHttp, settings: ManifoldSettings) -> None:
        self._http = http
        self._settings = settings

    @property
    def platform(self) -> str:
        """What stands before the colon of a market id."""
        return PLATFORM

    def listings(self, scope: MarketScope) -> list[Query]:  # noqa: ARG002
        """One query: the listing has no filter by state or end."""
        return [[("limit", str(self._settings.page_size))]]

    async def market_pages(self, query: Query, scope: MarketScope) -> AsyncIterator[Page]:  # noqa: ARG002
        """Pages of ``/markets``, newest market first; each goes on behind the last id so far.

        With answers, a market that needs them leaves its page and comes as a page of its own.
        """
        url = f"{self._settings.url}/markets"
        async for page in self._pages(url, query, self._settings.page_size):
            short = [r for r in page.records if self._settings.with_answers and needs_answers(r)]
            whole = [record for record in page.records if record not in short]
            yield Page(page.body, whole, page.next_cursor)
            for record in short:
                answer = await self.market(record["id"])
                yield Page(answer.body, [answer.value])

    async def market(self, venue_id: str) -> Answer:
        """``/market/{id}``: one market with its answers and groups."""
        return await self._http.get(f"{self._settings.url}/market/{venue_id}")

    def parse_market(self, record: Any) -> MarketRow:
        """Read one market; raises ``RecordRejected``."""
        return parse_market(record)

    async def history(self, wanted: HistoryRequest) -> Sequence[Answer]:
        """The bets on one market or answer, oldest page first."""
        market, _, answer_id = wanted.token_id.partition("/")
        query = [("contractId", market), ("limit", str(self._settings.bets_per_page))]
        if answer_id:
            query.append(("answerId", answer_id))
        if wanted.start_ts is not None:
            query.append(("afterTime", str(wanted.start_ts * 1000 - 1)))
        url = f"{self._settings.url}/bets"
        pages = self._pages(url, query, self._settings.bets_per_page)
        answers = [Answer(page.body, page.records) async for page in pages]
        return answers[::-1]

    def is_empty(self, value: Any) -> bool:
        """Whether there is no bet."""
        return bool(value == [])

    def parse_history(self, value: Any) -> Points:
        """Read a page of ``/bets``; raises ``RecordRejected``."""
        return parse_history(value)

    async def _pages(self, url: str, query: Query, size: int) -> AsyncIterator[Page]:
        async def fetch(before: str) -> Page:
            answer = await self._http.get(url, query + ([("before", before)] if before else []))
            records = answer.value
            if not isinstance(records, list):
                raise VenueBadPayload(f"{url}: not a list", url=url)
            last = records[-1] if len(records) >= size else None
            cursor = str(last.get("id") or "") if isinstance(last, dict) else ""
            return Page(answer.body, records, cursor)

        async for page in cursor_pages(fetch):
            yield page
