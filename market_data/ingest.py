"""Ingestion: what the flows call to fill the lake from a venue.

Public signatures, in the order in which they are called::

    Stores(lake: Lake, raw: RawStore, now: Callable[[], datetime])
    PolymarketRest(http: VenueHttp, settings: PolymarketSettings)       a ``venues.port.Venue``
    KalshiRest(http: VenueHttp, settings: KalshiSettings)               another one
    ManifoldRest(http: VenueHttp, settings: ManifoldSettings)           another one

    await ingest_markets(venue, stores, *, scope=MarketScope(), progress=silent) -> IngestResult
    await ingest_outcomes(rest, stores, *, market_ids=None, progress=silent)     -> IngestResult
    await ingest_open_interest(rest, stores, *, progress=silent)                 -> IngestResult
    await ingest_prices(venue, stores, *, scope=PriceScope(), progress=silent)   -> IngestResult

    derive_labels(lake)                         -> StageResult   registry (and evidence) → labels

    store_market_records(stores, records, raw_sha256, platform=…, parse=…) -> IngestResult
                                                                            records at hand

Pure stages, frames in and out::

    build_labels(registry) -> label_status rows
    build_snapshots(prices, registry, open_interest=None) -> market_snapshot rows
    build_quotes(registry, open_interest=None) -> market_snapshot rows of open markets
    build_cutoffs(snapshots, registry, labels=None, policy=None) -> cutoff_snapshot rows
    before_resolution(snapshots, registry) -> snapshots that a scorer or trainer may see

Every record that a venue sends is stored raw, and becomes a row, or a dead letter with its reason.
A failed request for one market is a dead letter and counts in ``failures``; a listing that cannot
be read to its end raises a ``VenueError``. Running again changes nothing and makes no commit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import polars as pl

from market_data.cutoffs import CutoffPolicy, build_cutoffs
from market_data.errors import RecordLeftOut, RecordRejected
from market_data.flow_ingest import ingest_open_interest
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
from market_data.labels import build_labels
from market_data.lake import Lake
from market_data.outcome_ingest import ingest_outcomes
from market_data.price_ingest import PriceScope, ingest_prices
from market_data.raw import RawAnswer
from market_data.registry import registry_frame, update_registry
from market_data.snapshots import before_resolution, build_quotes, build_snapshots
from market_data.venues.http import Page, Query
from market_data.venues.polymarket.parse import PLATFORM, parse_market
from market_data.venues.port import MarketScope, Venue
from market_data.venues.rows import MarketRow
from market_data.venues.sources import SOURCES

__all__ = [
    "CutoffPolicy",
    "IngestResult",
    "MarketScope",
    "PriceScope",
    "Progress",
    "StageResult",
    "Stores",
    "before_resolution",
    "build_cutoffs",
    "build_labels",
    "build_quotes",
    "build_snapshots",
    "derive_labels",
    "ingest_markets",
    "ingest_open_interest",
    "ingest_outcomes",
    "ingest_prices",
    "store_market_records",
]

_PAGES_PER_FILE = 20


@dataclass(frozen=True, slots=True)
class StageResult:
    """Account of a derived table: rows read, rows it now has from them, rows written."""

    stage: str
    rows_in: int
    rows_out: int
    rows_written: int
    version: int | None


async def ingest_markets(
    venue: Venue,
    stores: Stores,
    *,
    scope: MarketScope | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """List markets and fold them into ``market_registry`` and its history.

    Raises:
        VenueError: a listing could not be read to its end; what came before is stored.
    """
    scope = scope or MarketScope()
    total = IngestResult("markets")
    for query in venue.listings(scope):
        pages: list[Page] = []
        async for page in venue.market_pages(query, scope):
            pages.append(page)
            if len(pages) == _PAGES_PER_FILE:
                total = added(total, _store_pages(venue, stores, query, pages))
                progress("markets", total.rows_in, None)
                pages = []
        if pages:
            total = added(total, _store_pages(venue, stores, query, pages))
            progress("markets", total.rows_in, None)
    return total


def store_market_records(
    stores: Stores,
    records: Sequence[Any],
    raw_sha256: str | None,
    *,
    platform: str = PLATFORM,
    parse: Callable[[Any], MarketRow] = parse_market,
) -> IngestResult:
    """Fold records that are already at hand into the registry; Gamma's unless told otherwise."""
    letters = DeadLetters(SOURCES[platform].markets)
    rows: list[MarketRow] = []
    left_out = 0
    for record in records:
        try:
            rows.append(parse(record))
        except RecordLeftOut:
            left_out += 1
        except RecordRejected as rejected:
            letters.add(record, rejected.reason, rejected.detail, raw_sha256)
    bury(stores, letters)
    result = IngestResult(
        "markets", rows_in=len(records), left_out=left_out, dead_letters=letters.count
    )
    if not rows:
        return result
    names = [raw_sha256 or ""] * len(rows)
    incoming = registry_frame(rows, names, stores.now())
    is_named = pl.col("market_id").is_in(incoming["market_id"].unique().to_list())
    update = update_registry(stores.lake.read("market_registry", is_named), incoming)
    if update.history.height:  # first: once the registry has changed, the change is not seen again
        stores.lake.upsert("market_registry_history", update.history)
    written = stores.lake.upsert("market_registry", update.rows)
    return replace(
        result,
        rows_out=len(rows) - update.superseded,
        duplicates=update.superseded,
        rows_written=written.rows_new + written.rows_changed,
    )


def derive_labels(lake: Lake) -> StageResult:
    """Write ``label_status`` for every market of the registry."""
    registry = lake.read("market_registry")
    labels = build_labels(registry, lake.read("outcome_evidence"))
    done = lake.upsert("label_status", labels)
    return StageResult(
        "labels", registry.height, labels.height, done.rows_new + done.rows_changed,
        done.version,
    )  # fmt: skip


def _store_pages(venue: Venue, stores: Stores, query: Query, pages: Sequence[Page]) -> IngestResult:
    answers = [RawAnswer({"markets": query}, page.body) for page in pages]
    file = keep_raw(stores, SOURCES[venue.platform].markets, answers)
    records = [record for page in pages for record in page.records]
    stored = store_market_records(
        stores, records, file.sha256, platform=venue.platform, parse=venue.parse_market
    )
    return replace(stored, requests=len(pages))
