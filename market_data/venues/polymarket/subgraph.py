"""The activity subgraph: several entities in one request, and each failing for itself.

A `Segment` is what can fail alone: one entity between two instants, of all conditions or of some.
Segments of one batch travel in one request as long as that works. When a request fails for good,
or the answer lacks an entity, each segment goes on by itself from where it stood; the one that
fails again is reported, and the others are read to their end.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from market_data.errors import PagingLoop, VenueBadPayload, VenueError
from market_data.venues.fields import text_or_none
from market_data.venues.http import Answer, VenueHttp
from market_data.venues.polymarket.settings import PolymarketSettings

AMOUNT_FIELDS = {"splits": "amount", "merges": "amount", "redemptions": "payout"}
"""The entities that move collateral, and the field that holds the amount."""

_PATIENCE = 4


@dataclass(frozen=True, slots=True)
class Segment:
    """One entity between two instants (UTC seconds, included); no conditions means all.

    Pages go by id, and ids are in no order of time: a flow that is indexed while the pages are read
    may lie behind the cursor. So ``until_ts`` is an instant up to which all is indexed.
    """

    entity: str
    since_ts: int
    until_ts: int
    conditions: tuple[str, ...] = ()

    def request(self) -> dict[str, Any]:
        """What was asked, for the raw file and the dead letter."""
        asked: dict[str, Any] = {
            "entity": self.entity,
            "timestamp_gte": self.since_ts,
            "timestamp_lte": self.until_ts,
        }
        return asked | ({"condition_in": list(self.conditions)} if self.conditions else {})


@dataclass(frozen=True, slots=True)
class FlowPage:
    """An answer as received and its entities by segment."""

    body: bytes
    records: dict[Segment, list[Any]]


@dataclass(frozen=True, slots=True)
class SegmentFailure:
    """A segment that failed for good; what came of it before is not complete."""

    segment: Segment
    error: VenueError


@dataclass(slots=True)
class _Reading:
    """How far a segment has been read."""

    segment: Segment
    after: str = ""
    seen: set[bytes] = field(default_factory=set)


class Subgraph:
    """Asks the activity subgraph, or a replay of it."""

    def __init__(self, http: VenueHttp, settings: PolymarketSettings) -> None:
        self._http = http
        self._url = settings.subgraph_url
        self._first = settings.subgraph_page_size

    async def flows(self, batch: Sequence[Segment]) -> AsyncIterator[FlowPage | SegmentFailure]:
        """The pages of all segments of a batch, which share their end and their conditions.

        Args:
            batch: segments of different entities with the same end and conditions.
        """
        async for part in self._together([_Reading(segment) for segment in batch]):
            yield part

    async def _together(self, open_: list[_Reading]) -> AsyncIterator[FlowPage | SegmentFailure]:
        while open_:
            try:
                page, lacking = await self._page(open_)
            except VenueError as error:
                if len(open_) == 1:
                    yield SegmentFailure(open_[0].segment, error)
                    return
                page, lacking = None, open_
            if page is not None:
                yield page
            for reading in lacking:
                async for part in self._together([reading]):
                    yield part
            open_ = [] if page is None else self._unread(open_, page, lacking)

    def _unread(
        self, open_: list[_Reading], page: FlowPage, lacking: list[_Reading]
    ) -> list[_Reading]:
        """The segments of which more may come; a page that is not full is the last one."""
        more = []
        for reading in open_:
            if reading in lacking or len(page.records[reading.segment]) < self._first:
                continue
            last = page.records[reading.segment][-1]
            reading.after = text_or_none(last.get("id") if isinstance(last, dict) else None) or ""
            more.append(reading)
        return more

    async def _page(self, open_: list[_Reading]) -> tuple[FlowPage, list[_Reading]]:
        """One answer, and the segments that it lacks; a page that came before is asked again."""
        for _ in range(_PATIENCE):
            answer = await self._http.post(self._url, self._payload(open_))
            data = answer.value.get("data") if isinstance(answer.value, dict) else None
            found = data if isinstance(data, dict) else {}
            told = [r for r in open_ if isinstance(found.get(r.segment.entity), list)]
            if not told:
                raise VenueBadPayload(f"{self._url}: {_errors(answer)}", url=self._url)
            digests = {id(r): _digest(found[r.segment.entity]) for r in told}
            if any(found[r.segment.entity] and digests[id(r)] in r.seen for r in told):
                continue
            for reading in told:
                reading.seen.add(digests[id(reading)])
            records = {r.segment: found[r.segment.entity] for r in told}
            return FlowPage(answer.body, records), [r for r in open_ if r not in told]
        raise PagingLoop(f"{self._url}: a page came back {_PATIENCE} times", url=self._url)

    def _payload(self, open_: list[_Reading]) -> dict[str, Any]:
        until = str(open_[0].segment.until_ts)
        variables: dict[str, Any] = {"first": self._first, "until": until}
        for entity in AMOUNT_FIELDS:
            reading = next((r for r in open_ if r.segment.entity == entity), None)
            variables |= {
                f"with{entity.title()}": reading is not None,
                f"{entity}After": reading.after if reading else "",
                f"{entity}Since": str(reading.segment.since_ts) if reading else "0",
            }
        conditions = open_[0].segment.conditions
        if not conditions:
            return {"query": document("flows"), "variables": variables}
        variables["conditions"] = list(conditions)
        return {"query": document("flows_of_conditions"), "variables": variables}


@cache
def document(name: str) -> str:
    """The GraphQL document of this name, from the folder of this module."""
    return files(__package__).joinpath(f"{name}.graphql").read_text(encoding="utf-8")


def _errors(answer: Answer) -> str:
    said = answer.value.get("errors") if isinstance(answer.value, dict) else None
    return str(said or "no entity in the answer")[:300]


def _digest(records: list[Any]) -> bytes:
    return hashlib.sha256(orjson.dumps(records)).digest()
