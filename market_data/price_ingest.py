"""Price histories: asked for concurrently, stored raw in batches, kept as snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import polars as pl

from market_data.errors import RecordRejected, VenueBadPayload, VenueError, VenueRefused
from market_data.intake import (
    DeadLetters,
    IngestResult,
    Progress,
    Stores,
    bury,
    keep_raw,
    silent,
)
from market_data.lake import polars_schema
from market_data.raw import RawAnswer
from market_data.snapshots import build_quotes, build_snapshots, yes_tokens
from market_data.venues.http import Answer
from market_data.venues.port import HistoryRequest, Venue
from market_data.venues.sources import SOURCES

_TIMES = ("created_at", "start_at", "closed_at")
_CLOCK_SKEW = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class PriceScope:
    """Which histories are asked for.

    Attributes:
        market_ids: these markets alone; None means all that have tokens.
        complete_within_seconds: a closed market whose stored history reaches this close to its
            closing time is complete and is not asked for again.
        with_quotes: also keep the quote of each open market's own record as a snapshot.
        batch_size: histories per raw file.
        flush_rows: snapshots gathered before they are written.
    """

    market_ids: tuple[str, ...] | None = None
    complete_within_seconds: int = 7200
    with_quotes: bool = True
    batch_size: int = 250
    flush_rows: int = 1_000_000


async def ingest_prices(
    venue: Venue,
    stores: Stores,
    *,
    scope: PriceScope | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """Fetch what the lake does not hold yet and upsert ``market_snapshot``.

    A history that cannot be fetched is a failure of its market alone, also where it is the only
    one asked for.

    Raises:
        VenueError: several histories were asked for and not a single one could be fetched; each
            has its dead letter all the same.
    """
    scope = scope or PriceScope()
    registry = stores.lake.read("market_registry", pl.col("platform") == venue.platform)
    if scope.market_ids is not None:
        registry = registry.filter(pl.col("market_id").is_in(list(scope.market_ids)))
    open_interest = stores.lake.read("open_interest")
    source = SOURCES[venue.platform].history
    wanted, skipped = _plan(stores, registry, scope, source)
    letters = DeadLetters(source)
    total = IngestResult("prices", skipped=skipped)
    held: list[pl.DataFrame] = []
    failed: list[VenueError] = []
    for number, batch in enumerate(_batches(wanted, scope.batch_size), start=1):
        points, part, errors = await _fetch(venue, stores, batch, letters)
        held.append(points)
        failed += errors
        total = _account(total, part)
        progress("prices", min(number * scope.batch_size, len(wanted)), len(wanted))
        if sum(frame.height for frame in held) >= scope.flush_rows:
            bury(stores, letters)  # before the rows: the next run asks only behind them
            total = _flush(stores, total, held, registry, open_interest)
            held = []
        if not total.requests and _is_down(failed):
            break
    bury(stores, letters)
    total = _flush(stores, total, held, registry, open_interest)
    if not total.requests and len(failed) > 1:
        raise failed[0]
    if scope.with_quotes:
        quotes = build_quotes(registry, open_interest)
        total = _store(stores, replace(total, rows_in=total.rows_in + quotes.height), quotes)
    return replace(total, dead_letters=letters.count)


def _plan(
    stores: Stores, registry: pl.DataFrame, scope: PriceScope, source: str
) -> tuple[list[HistoryRequest], int]:
    """Histories to ask for, and how many markets with tokens need no request.

    A stored price of the future does not count: behind it nothing would ever be found.
    """
    is_past = pl.col("ts") <= stores.now() + _CLOCK_SKEW
    stored = (
        stores.lake.scan("market_snapshot")
        .filter((pl.col("data_source") == source) & is_past)
        .group_by("market_id")
        .agg(pl.col("ts").max().alias("last"))
        .collect()
    )
    plan = (
        yes_tokens(registry)
        .join(registry.select("market_id", "status", *_TIMES), on="market_id")
        .join(stored, on="market_id", how="left")
        .sort("market_id")
    )
    gap = (pl.col("closed_at") - pl.col("last")).dt.total_seconds()
    is_complete = (pl.col("status") != "ACTIVE") & (gap <= scope.complete_within_seconds)
    todo = plan.filter(~is_complete.fill_null(value=False))
    asked = todo.select(
        "market_id",
        "token_id",
        pl.col("last").dt.epoch("s") + 1,
        pl.min_horizontal("start_at", "created_at").dt.epoch("s"),
        pl.col("closed_at").dt.epoch("s").fill_null(int(stores.now().timestamp())),
    )
    return [HistoryRequest(*row) for row in asked.iter_rows()], plan.height - todo.height


async def _fetch(
    venue: Venue, stores: Stores, batch: Sequence[HistoryRequest], letters: DeadLetters
) -> tuple[pl.DataFrame, IngestResult, list[VenueError]]:
    """Ask for one batch; points as (market_id, ts, p_yes), in the order asked, and failures."""
    outcomes = list(
        zip(batch, await asyncio.gather(*(_ask(venue, wanted) for wanted in batch)), strict=True)
    )
    failed = [(w, e) for w, e in outcomes if isinstance(e, VenueError)]
    answered = [(w, a) for w, part in outcomes if not isinstance(part, VenueError) for a in part]
    telling = [(w, answer) for w, answer in answered if not venue.is_empty(answer.value)]
    raw_sha256 = None
    if telling:
        bodies = [RawAnswer(_request(w), answer.body) for w, answer in telling]
        raw_sha256 = keep_raw(stores, letters.source, bodies).sha256
    for wanted, error in failed:
        letters.add(_request(wanted), type(error).__name__, str(error), None)
    before = letters.count
    points = _points(venue, telling, letters, raw_sha256)
    part = IngestResult(
        "prices",
        rows_in=points.height + letters.count - before,
        failures=len(failed),
        requests=len(answered),
    )
    return points, part, [error for _, error in failed]


def _is_down(failed: Sequence[VenueError]) -> bool:
    """Whether it is the venue that fails and not its markets: no use to ask for all the others."""
    own = (VenueRefused, VenueBadPayload)
    return len(failed) > 1 and not any(isinstance(error, own) for error in failed)


async def _ask(venue: Venue, wanted: HistoryRequest) -> Sequence[Answer] | VenueError:
    try:
        return await venue.history(wanted)
    except VenueError as error:  # one market's failure is its own; it is counted
        return error


def _points(
    venue: Venue,
    answered: Sequence[tuple[HistoryRequest, Answer]],
    letters: DeadLetters,
    raw_sha256: str | None,
) -> pl.DataFrame:
    ids: list[str] = []
    times: list[list[int]] = []
    prices: list[list[float]] = []
    for wanted, answer in answered:
        try:
            t, p, rejects = venue.parse_history(answer.value)
        except RecordRejected as rejected:
            letters.add(_request(wanted), rejected.reason, rejected.detail, raw_sha256)
            continue
        for reason, point in rejects:
            letters.add({"id": wanted.market_id, "point": point}, reason, "", raw_sha256)
        ids.append(wanted.market_id)
        times.append(t)
        prices.append(p)
    schema = {"market_id": pl.String(), "t": pl.List(pl.Int64()), "p_yes": pl.List(pl.Float64())}
    nested = pl.DataFrame({"market_id": ids, "t": times, "p_yes": prices}, schema=schema)
    kind = polars_schema("market_snapshot")["ts"]
    return (
        nested.filter(pl.col("t").list.len() > 0)
        .explode("t", "p_yes")
        .select("market_id", pl.from_epoch("t").cast(kind).alias("ts"), "p_yes")
    )


def _flush(
    stores: Stores,
    total: IngestResult,
    held: Sequence[pl.DataFrame],
    registry: pl.DataFrame,
    open_interest: pl.DataFrame,
) -> IngestResult:
    if not held:
        return total
    points = pl.concat(held)
    snapshots = build_snapshots(points, registry, open_interest)
    distinct = points.select("market_id", "ts").n_unique()
    total = replace(
        total,
        duplicates=total.duplicates + points.height - distinct,
        left_out=total.left_out + distinct - snapshots.height,
    )
    return _store(stores, total, snapshots)


def _store(stores: Stores, total: IngestResult, snapshots: pl.DataFrame) -> IngestResult:
    if snapshots.is_empty():
        return total
    done = stores.lake.upsert("market_snapshot", snapshots)
    return replace(
        total,
        rows_out=total.rows_out + snapshots.height,
        rows_written=total.rows_written + done.rows_new + done.rows_changed,
    )


def _account(total: IngestResult, part: IngestResult) -> IngestResult:
    return replace(
        total,
        rows_in=total.rows_in + part.rows_in,
        failures=total.failures + part.failures,
        requests=total.requests + part.requests,
    )


def _request(wanted: HistoryRequest) -> dict[str, Any]:
    return {"id": wanted.market_id, "market": wanted.token_id, "startTs": wanted.start_ts}


def _batches(wanted: Sequence[HistoryRequest], size: int) -> Iterator[Sequence[HistoryRequest]]:
    for start in range(0, len(wanted), size):
        yield wanted[start : start + size]
