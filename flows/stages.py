"""The stages: each reads tables and writes tables, and says how many rows came in and out.

Plain functions without Prefect, so that a stage can be called from a test, a flow or a shell.
A stage that finds nothing to do says so in its note, or raises `NoDataError` where that would
make the run worthless.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from calibration_service.features import build_features
from calibration_service.metrics import ScoredRows, build_metrics, build_reliability, scored_rows
from calibration_service.scoreboard import build_scoreboard
from calibration_service.trust import build_trust
from flows.runs import NoDataError, Run, StageCount, window_length
from market_data import ingest
from market_data.intake import IngestResult, Stores
from market_data.lake import Lake, UpsertResult, empty
from market_data.raw import RawStore
from market_data.snapshots import HISTORY_SOURCE
from market_data.venues.http import HttpPolicy, VenueHttp
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.settings import PolymarketSettings

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
        (pl.col("source") == HISTORY_SOURCE) & pl.col("raw_sha256").is_null(),
        columns=("record_id", "reason", "record"),
    )
    asked = letters.select(
        pl.col("record_id").alias("market_id"),
        "reason",
        pl.col("record").str.json_path_match("$.startTs").cast(pl.Int64).alias("start"),
    )
    reached = (
        lake.scan("market_snapshot")
        .filter(pl.col("data_source") == HISTORY_SOURCE)
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


def labels(run: Run) -> StageCount:
    """Decides what happened in each market."""
    return _derived(ingest.derive_labels(run.lake))


def cutoffs(run: Run) -> StageCount:
    """Picks the price at fixed times before the end."""
    return _derived(ingest.derive_cutoffs(run.lake))


def metrics(run: Run) -> StageCount:
    """Scores segments of resolved markets, and their reliability curves, per window."""
    total = StageCount(0, 0)
    without: list[str] = []
    scores, curves = [empty("calibration_metrics")], [empty("reliability_curve")]
    for window in run.settings.windows:
        scored = scored_in_window(run, window)
        if scored.frame.is_empty():
            without.append(window)
            continue
        key: dict[str, Any] = {"window": window, "run_id": run.run_id, "as_of": run.interval_end}
        draws = np.random.default_rng(run.settings.seed)
        scores.append(build_metrics(scored.frame, rng=draws, **key))
        curves.append(build_reliability(scored.frame, **key))
        aside = scored.without_truth + scored.without_price
        total = replace(
            total,
            rows_in=total.rows_in + scored.frame.height + aside,
            set_aside=total.set_aside + aside,
        )
    for table, parts in (("calibration_metrics", scores), ("reliability_curve", curves)):
        rows = pl.concat(parts, how="diagonal_relaxed")
        done = run.lake.replace_part(table, rows, column="run_id", value=run.run_id)
        total = replace(
            total,
            rows_out=total.rows_out + rows.height,
            rows_written=total.rows_written + _written(done),
        )
    if not without:
        return total
    note = (
        f"no market with a price and an outcome resolved in the {' and '.join(without)} before "
        f"{run.interval_end:%Y-%m-%d %H:%M} UTC: nothing to score"
    )
    if len(without) == len(run.settings.windows):
        raise NoDataError(note)
    return replace(total, failures=len(without), note=note)


def scored_in_window(run: Run, window: str) -> ScoredRows:
    """Cutoff rows of the markets that were resolved in the window before the run's end."""
    until = run.interval_end
    resolved = run.lake.read(
        "label_status",
        (pl.col("resolved_at") > until - window_length(window)) & (pl.col("resolved_at") <= until),
    )
    chosen = run.lake.read("cutoff_snapshot").join(
        resolved.select("market_id"), on="market_id", how="semi"
    )
    return scored_rows(chosen, labels=resolved, registry=run.lake.read("market_registry"))


def features(run: Run) -> StageCount:
    """What alerts and models look at, for each snapshot."""
    snapshots = _snapshots(run)
    frame = build_features(snapshots, registry=run.lake.read("market_registry"))
    done = run.lake.upsert("feature_frame", frame)
    return StageCount(snapshots.height, frame.height, _written(done))


def trust(run: Run) -> StageCount:
    """How far each market's price can be trusted at its last snapshot."""
    snapshots = _snapshots(run)
    frame = build_trust(snapshots)
    done = run.lake.upsert("trust_score", frame)
    return StageCount(snapshots.height, frame.height, _written(done))


def scoreboard(run: Run) -> StageCount:
    """One row per market and window: price, trust, and the scores of its segment.

    A newer scoreboard stays: a run over the past never takes its place.
    """
    registry = registry_at(run.lake.read("market_registry"), run.interval_end)
    published = run.lake.scan("scoreboard").select(pl.col("as_of").max()).collect().item()
    if published is not None and published > run.interval_end:
        note = f"the scoreboard of {published:%Y-%m-%d %H:%M} UTC is newer and stays"
        return StageCount(registry.height, 0, note=note)
    latest = _snapshots(run)
    trusted = run.lake.read("trust_score", pl.col("ts") <= run.interval_end)
    boards = [
        build_scoreboard(
            registry,
            latest=latest,
            trust=trusted,
            window=window,
            run_id=run.run_id,
            as_of=run.interval_end,
            metrics=run.lake.read(
                "calibration_metrics",
                (pl.col("run_id") == run.run_id) & (pl.col("window") == window),
            ),
        )
        for window in run.settings.windows
    ]
    board = pl.concat(boards)
    done = run.lake.replace("scoreboard", board)
    return StageCount(registry.height, board.height, _written(done))


def registry_at(registry: pl.DataFrame, instant: datetime) -> pl.DataFrame:
    """The markets that existed at ``instant``; those that closed later are ACTIVE."""
    ended = pl.coalesce("closed_at", "resolved_at")
    existed = (pl.col("created_at") <= instant).fill_null(value=True)
    return registry.filter(existed).with_columns(
        pl.when(ended > instant).then(pl.lit("ACTIVE")).otherwise(pl.col("status")).alias("status")
    )


def _snapshots(run: Run) -> pl.DataFrame:
    return run.lake.read("market_snapshot", pl.col("ts") <= run.interval_end)


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


def _derived(result: ingest.StageResult) -> StageCount:
    return StageCount(result.rows_in, result.rows_out, result.rows_written)


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
