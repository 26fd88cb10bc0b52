"""The port: what ingestion asks of a venue, and nothing more.

A venue is a folder beside this module with ``parse.py`` (pure: record → row, or a reason),
``rest.py`` (the class that answers this port over HTTP) and ``settings.py``.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from market_data.venues.http import Answer, Page, Query
from market_data.venues.rows import MarketRow

Points = tuple[list[int], list[float], list[tuple[str, Any]]]
"""(t: UTC seconds, p: prices of YES in [0, 1], rejects: (reason, point) of every other point)."""


@dataclass(frozen=True, slots=True)
class MarketScope:
    """Which markets are asked for.

    Attributes:
        states: whether closed markets are listed; open ones first, so that a market which closes
            while the listing goes on is seen at least once.
        end_from, end_to: bounds on the announced end, included; None means no bound. A venue that
            cannot filter by them lists more.
        by_cursor: of a venue that lists both ways: page by cursor, and by offset only where it
            has no such listing (404). By offset, a market that leaves the listing between two
            pages moves another one into the gap, which is then not seen.
    """

    states: tuple[bool, ...] = (False, True)
    end_from: datetime | None = None
    end_to: datetime | None = None
    by_cursor: bool = True


@dataclass(frozen=True, slots=True)
class HistoryRequest:
    """One history to ask for; times are UTC seconds.

    Attributes:
        token_id: what the venue calls it, see ``MarketRow.token_ids``.
        start_ts: first instant to fetch; None for the beginning.
        opened_ts: when the market came into being, None where unknown.
        until_ts: last instant to fetch: when the market closed, or now.
    """

    market_id: str
    token_id: str
    start_ts: int | None
    opened_ts: int | None
    until_ts: int


class Venue(Protocol):
    """A venue whose markets and prices can be ingested."""

    @property
    def platform(self) -> str:
        """Its name, a key of ``sources.SOURCES``."""
        ...

    def listings(self, scope: MarketScope) -> Sequence[Query]:
        """The queries that together list every market of the scope."""
        ...

    def market_pages(self, query: Query, scope: MarketScope) -> AsyncIterator[Page]:
        """The pages of one listing; each record can be given to ``parse_market``."""
        ...

    def parse_market(self, record: Any) -> MarketRow:
        """Read one record; raises ``RecordRejected``."""
        ...

    async def history(self, wanted: HistoryRequest) -> Sequence[Answer]:
        """The answers that hold one history, oldest first; raises ``VenueError``."""
        ...

    def is_empty(self, value: Any) -> bool:
        """Whether an answer of ``history`` holds nothing; it is counted, and not kept."""
        ...

    def parse_history(self, value: Any) -> Points:
        """Read one answer of ``history``; raises ``RecordRejected``."""
        ...
