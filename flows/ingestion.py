"""The stages of ingestion: from the venues into the lake.

Plain functions without Prefect, like those of ``flows.stages``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta

import polars as pl

from flows.runs import NoDataError, Run, StageCount
from market_data import ingest
from market_data.errors import VenueError
from market_data.intake import IngestResult, Stores, added
from market_data.lake import Lake
from market_data.matching import MATCHED_BY, match_markets
from market_data.raw import RawStore
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.kalshi.rest import KalshiRest
from market_data.venues.kalshi.settings import KalshiSettings
from market_data.venues.manifold.rest import ManifoldRest
from market_data.venues.manifold.settings import ManifoldSettings
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.settings import PolymarketSettings
from market_data.venues.port import Venue
from market_data.venues.sources import HISTORY_SOURCES

_CLOCK_SKEW = timedelta(minutes=5)
"""How far the clocks of a venue and of this machine may differ."""
Ingestion = Callable[[Venue, Stores], Awaitable[IngestResult]]


def markets(run: Run) -> StageCount:
    """Lists the venues' markets into the registry."""
    count = _from_venues(
        run, lambda venue, stores: ingest.ingest_markets(venue, stores, progress=run.progress)
    )
    known = run.lake.read("market_registry", columns=("platform",))["platform"].unique()
    silent = [name for name in dict.fromkeys(run.settings.venues) if name not in known]
    if len(silent) == len(set(run.settings.venues)):
        raise NoDataError(
            f"the venue at {_places(run)} lists no market: there is nothing to calibrate"
        )
    if not silent or count.note:
        return count
    note = f"{' and '.join(silent)} listed no market"
    return replace(count, failures=count.failures + len(silent), note=note)


def outcomes(run: Run) -> StageCount:
    """Asks the order book who won, where a closed market's own record does not say it."""
    if "polymarket" not in run.settings.venues:
        return StageCount(0, 0, note="no venue with a second source of outcomes is ingested")
    result = _from_polymarket(
        run,
        lambda rest, stores: ingest.ingest_outcomes(
            rest, stores, market_ids=_within_reach(run), progress=run.progress
        ),
    )
    named = [f"failed for good: {', '.join(result.failed)}"] if result.failed else []
    if result.failures:
        named.append(f"{result.failures} outcomes could not be asked for")
    return _count(result, "; ".join(named))


def matches(run: Run) -> StageCount:
    """Finds the markets that ask the same on several platforms."""
    registry = run.lake.read("market_registry", columns=MATCHED_BY)
    found = match_markets(registry)
    done = run.lake.replace("market_match", found)
    return StageCount(registry.height, found.height, done.rows_new + done.rows_changed)


def open_interest(run: Run) -> StageCount:
    """Reads splits, merges and redemptions into open interest."""
    if not run.settings.subgraph_url or "polymarket" not in run.settings.venues:
        return StageCount(0, 0, note="no subgraph is configured: open interest stays unknown")
    result = _from_polymarket(
        run,
        lambda rest, stores: ingest.ingest_open_interest(rest, stores, progress=run.progress),
    )
    note = f"failed for good: {', '.join(result.failed)}" if result.failed else ""
    return _count(result, note)


def prices(run: Run) -> StageCount:
    """Reads price histories into snapshots."""
    scope = ingest.PriceScope(market_ids=_within_reach(run))
    count = _from_venues(
        run,
        lambda venue, stores: ingest.ingest_prices(
            venue, stores, scope=scope, progress=run.progress
        ),
    )
    if not run.lake.scan("market_snapshot").select(pl.len()).collect().item():
        raise NoDataError(
            f"the venue at {_places(run)} has no price of any market: nothing to calibrate"
        )
    named = [count.note] if count.note else []
    if count.failures and not count.note:
        failed = failed_histories(run.lake)
        named.append(f"{count.failures} price histories failed for good: {failed}")
    return replace(count, note="; ".join([*named, *_of_the_future(run)]))


def _of_the_future(run: Run) -> list[str]:
    """Names prices that a venue, or this machine, dates wrongly; none where there are none."""
    ahead = run.lake.scan("market_snapshot").filter(pl.col("ts") > run.now() + _CLOCK_SKEW)
    count = int(ahead.select(pl.len()).collect().item())
    return [f"{count} prices lie in the future of this machine's clock"] if count else []


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


def _from_venues(run: Run, ingestion: Ingestion) -> StageCount:
    """Ingests from each venue of the settings; one that fails takes no other with it.

    Raises:
        VenueError: every venue failed; the first one's error.
    """
    total = IngestResult("venues")
    failed: dict[str, VenueError] = {}

    async def ask(name: str) -> IngestResult:
        async with VenueHttp(_policy(run)) as http:
            return await ingestion(_venue(run, name, http), _stores(run))

    for name in dict.fromkeys(run.settings.venues):
        try:
            total = added(total, asyncio.run(ask(name)))
        except VenueError as error:
            failed[name] = error
    if len(failed) == len(set(run.settings.venues)):
        raise next(iter(failed.values()))
    named = "; ".join(f"{name} failed for good ({error})" for name, error in failed.items())
    return _count(replace(total, failures=total.failures + len(failed)), named)


def _from_polymarket(
    run: Run, ingestion: Callable[[PolymarketRest, Stores], Awaitable[IngestResult]]
) -> IngestResult:
    """Ingests what only Polymarket has."""

    async def ask() -> IngestResult:
        async with VenueHttp(_policy(run)) as http:
            return await ingestion(_polymarket(run, http), _stores(run))

    return asyncio.run(ask())


def _count(result: IngestResult, note: str = "") -> StageCount:
    aside = result.dead_letters + result.left_out
    return StageCount(
        result.rows_in, result.rows_out, result.rows_written, aside, result.failures, note
    )


def _venue(run: Run, name: str, http: VenueHttp) -> Venue:
    match name:
        case "kalshi":
            parlays = run.settings.kalshi_parlays
            return KalshiRest(http, KalshiSettings(run.settings.kalshi_url, with_parlays=parlays))
        case "manifold":
            answers = run.settings.manifold_answers
            place = run.settings.manifold_url
            return ManifoldRest(http, ManifoldSettings(place, with_answers=answers))
        case _:
            return _polymarket(run, http)


def _polymarket(run: Run, http: VenueHttp) -> PolymarketRest:
    settings = run.settings
    return PolymarketRest(
        http, PolymarketSettings(settings.gamma_url, settings.clob_url, settings.subgraph_url)
    )


def _stores(run: Run) -> Stores:
    return Stores(run.lake, RawStore(run.settings.raw), run.now)


def _policy(run: Run) -> HttpPolicy:
    return HttpPolicy(
        max_in_flight=run.settings.venue_concurrency,
        requests_per_second=run.settings.venue_rate,
        attempts=run.settings.venue_attempts,
        backoff_seconds=run.settings.venue_backoff_seconds,
    )


def _places(run: Run) -> str:
    """The addresses of the venues that are asked."""
    settings = run.settings
    known = {
        "polymarket": settings.gamma_url,
        "kalshi": settings.kalshi_url,
        "manifold": settings.manifold_url,
    }
    return " and ".join(known[name] for name in dict.fromkeys(settings.venues))
