"""The stages of ingestion: from the venue into the lake.

Plain functions without Prefect, like those of ``flows.stages``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import polars as pl

from flows.runs import NoDataError, Run, StageCount
from market_data import ingest
from market_data.intake import IngestResult, Stores
from market_data.lake import Lake
from market_data.raw import RawStore
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.settings import PolymarketSettings
from market_data.venues.sources import HISTORY_SOURCES

Ingestion = Callable[[PolymarketRest, Stores], Awaitable[IngestResult]]


def markets(run: Run) -> StageCount:
    """Lists the venue's markets into the registry."""
    count = _ingest(
        run, lambda rest, stores: ingest.ingest_markets(rest, stores, progress=run.progress)
    )
    if not run.lake.scan("market_registry").select(pl.len()).collect().item():
        raise NoDataError(
            f"the venue at {run.settings.gamma_url} lists no market: there is nothing to calibrate"
        )
    return count


def open_interest(run: Run) -> StageCount:
    """Reads splits, merges and redemptions into open interest."""
    if not run.settings.subgraph_url:
        return StageCount(0, 0, note="no subgraph is configured: open interest stays unknown")
    return _ingest(
        run, lambda rest, stores: ingest.ingest_open_interest(rest, stores, progress=run.progress)
    )


def prices(run: Run) -> StageCount:
    """Reads price histories into snapshots."""
    scope = ingest.PriceScope(market_ids=_within_reach(run))
    count = _ingest(
        run,
        lambda rest, stores: ingest.ingest_prices(rest, stores, scope=scope, progress=run.progress),
    )
    if not run.lake.scan("market_snapshot").select(pl.len()).collect().item():
        raise NoDataError(
            f"the venue at {run.settings.clob_url} has no price of any market: nothing to calibrate"
        )
    if not count.failures:
        return count
    note = failed_histories(run.lake)
    return replace(count, note=f"{count.failures} price histories failed for good: {note}")


def _within_reach(run: Run) -> tuple[str, ...]:
    """Markets whose prices the run can use: open ones, and those that ended in its interval."""
    ended = pl.coalesce("resolved_at", "closed_at", "end_at")
    usable = (pl.col("status") == "ACTIVE") | ended.is_null() | (ended >= run.interval_start)
    return tuple(run.lake.read("market_registry", usable, columns=("market_id",))["market_id"])


def failed_histories(lake: Lake) -> str:
    """Markets whose history could not be fetched since their last price, and why; five at most."""
    letters = lake.read(
        "dead_letter",
        pl.col("source").is_in(HISTORY_SOURCES) & pl.col("raw_sha256").is_null(),
        columns=("record_id", "reason", "record"),
    )
    asked = letters.select(
        pl.col("record_id").alias("market_id"),
        "reason",
        pl.col("record").str.json_path_match("$.startTs").cast(pl.Int64).alias("start"),
    )
    reached = (
        lake.scan("market_snapshot")
        .filter(pl.col("data_source").is_in(HISTORY_SOURCES))
        .group_by("market_id")
        .agg((pl.col("ts").max().dt.epoch("s") + 1).alias("next"))
        .collect()
    )
    still = (
        asked.join(reached, on="market_id", how="left")
        .filter(pl.col("start").eq_missing(pl.col("next")))
        .sort("market_id")
    )
    named = [f"{market} ({reason})" for market, reason, *_ in still.head(5).iter_rows()]
    return ", ".join(named) + (" and others" if still.height > len(named) else "")


def _ingest(run: Run, ingestion: Ingestion) -> StageCount:
    settings = run.settings
    stores = Stores(run.lake, RawStore(Path(settings.raw)), run.now)
    policy = HttpPolicy(
        max_in_flight=settings.venue_concurrency,
        requests_per_second=settings.venue_rate,
        attempts=settings.venue_attempts,
        backoff_seconds=settings.venue_backoff_seconds,
    )
    venue = PolymarketSettings(
        gamma_url=settings.gamma_url, clob_url=settings.clob_url, subgraph_url=settings.subgraph_url
    )

    async def ask() -> IngestResult:
        async with VenueHttp(policy) as http:
            return await ingestion(PolymarketRest(http, venue), stores)

    result = asyncio.run(ask())
    aside = result.dead_letters + result.left_out
    return StageCount(
        result.rows_in, result.rows_out, result.rows_written, aside, failures=result.failures
    )
