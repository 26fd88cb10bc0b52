"""Events with their titles, tags and markets: ``market_event``, and the markets' own rows.

No flow lists events: ``market_event`` is for reading by hand, and ``ingest_events`` is called so.
Replaying dead letters stores the events that were rejected then.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import polars as pl

from market_data.errors import RecordRejected
from market_data.ingest import store_market_records
from market_data.intake import (
    DeadLetters,
    IngestResult,
    Progress,
    Stores,
    added,
    bury,
    keep_raw,
    silent,
)
from market_data.lake import polars_schema
from market_data.raw import RawAnswer
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.polymarket.parse import parse_event
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.port import MarketScope
from market_data.venues.rows import EventRow
from market_data.venues.sources import EVENTS_SOURCE


async def ingest_events(
    rest: PolymarketRest,
    stores: Stores,
    *,
    scope: MarketScope | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """List events and store them with their markets; the account counts events.

    Raises:
        VenueError: a listing could not be read to its end; what came before is stored.
    """
    total = IngestResult("events")
    for query in rest.listings(scope or MarketScope()):
        async for page in rest.event_pages(query):
            file = keep_raw(stores, EVENTS_SOURCE, [RawAnswer({"events": query}, page.body)])
            part, markets = store_event_records(stores, page.records, file.sha256)
            store_market_records(stores, markets, file.sha256)
            total = added(total, replace(part, requests=1))
            progress("events", total.rows_in, None)
    return total


def store_event_records(
    stores: Stores, records: Sequence[Any], raw_sha256: str | None
) -> tuple[IngestResult, list[Any]]:
    """Store events that are at hand; their account and their markets' records."""
    letters = DeadLetters(EVENTS_SOURCE)
    rows: dict[str, EventRow] = {}
    markets: list[Any] = []
    for record in records:
        try:
            row, nested = parse_event(record)
        except RecordRejected as rejected:
            letters.add(record, rejected.reason, rejected.detail, raw_sha256)
            continue
        rows[row.event_id] = row
        markets += nested
    bury(stores, letters)
    read = len(records) - letters.count
    result = IngestResult(
        "events",
        rows_in=len(records),
        rows_out=len(rows),
        duplicates=read - len(rows),
        dead_letters=letters.count,
    )
    if not rows:
        return result, markets
    values = [asdict(row) | {"schema_version": SCHEMA_VERSION} for row in rows.values()]
    frame = pl.DataFrame(values, schema=polars_schema("market_event"))
    done = stores.lake.upsert("market_event", _without_older(stores, frame))
    return replace(result, rows_written=done.rows_new + done.rows_changed), markets


def _without_older(stores: Stores, frame: pl.DataFrame) -> pl.DataFrame:
    """The events that are not older than the stored ones, by the venue's own time of update."""
    is_named = pl.col("event_id").is_in(frame["event_id"].to_list())
    stored = stores.lake.read(
        "market_event", is_named, columns=["event_id", "venue_updated_at"]
    ).rename({"venue_updated_at": "_stored"})
    is_older = pl.col("venue_updated_at") < pl.col("_stored")
    joined = frame.join(stored, on="event_id", how="left")
    return joined.filter(~is_older.fill_null(value=False)).drop("_stored")
