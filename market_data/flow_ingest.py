"""Open interest from collateral flows: splits add to it, merges and redemptions take from it.

Open interest of a market in USD = (splits − merges − redemptions) / 10⁶ up to an instant, because
each USDC split makes one full set of outcome tokens. Conversions inside negative-risk events do
not move collateral of a single condition and are not counted.

Only flows since the newest stored row are fetched (that instant included, and computed anew from
the rows before it). Flows of a market that the registry does not know are dead letters
UNKNOWN_CONDITION; once it is known, everything since the earliest of them is fetched once more.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import polars as pl

from market_data.errors import RecordRejected
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
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.fields import number_or_none, parse_time, text_or_none
from market_data.venues.polymarket.rest import AMOUNT_FIELDS, PolymarketRest

MICRO_USD = 1_000_000
_SIGNS = {"splits": 1.0, "merges": -1.0, "redemptions": -1.0}
_SOURCE = "polymarket/subgraph/activity"
_UNKNOWN = "UNKNOWN_CONDITION"
_PAGES_PER_FILE = 20

Flow = tuple[str, str, datetime, float]
"""(entity id, market_id, UTC time, signed USD)."""


async def ingest_open_interest(
    rest: PolymarketRest,
    stores: Stores,
    *,
    since: datetime | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """Fetch flows and upsert ``open_interest``.

    Args:
        since: first instant to fetch; by default the newest stored one or, where a market has
            become known since, its earliest flow that was turned away; else the beginning.

    Raises:
        VenueError: a listing could not be read to its end; nothing of it is stored as rows.
    """
    stored = stores.lake.read("open_interest")
    registry = stores.lake.read("market_registry", columns=["market_id", "condition_id"])
    markets = {c: m for m, c in registry.iter_rows() if c is not None}
    start = since or _start(stores, stored, markets)
    letters = DeadLetters(_SOURCE)
    flows: list[Flow] = []
    total = IngestResult("open_interest")
    for entity in AMOUNT_FIELDS:
        found, part = await _listing(rest, stores, entity, start, markets, letters)
        flows += found
        total = replace(
            total,
            rows_in=total.rows_in + part.rows_in,
            requests=total.requests + part.requests,
        )
        progress("open_interest", total.rows_in, None)
    bury(stores, letters)
    rows = accumulate(
        _frame(flows), stored if start is None else stored.filter(pl.col("ts") < start)
    )
    total = replace(total, rows_out=len(flows), dead_letters=letters.count)
    if rows.is_empty():
        return total
    done = stores.lake.upsert("open_interest", rows)
    return replace(total, rows_written=done.rows_new + done.rows_changed)


def accumulate(flows: pl.DataFrame, before: pl.DataFrame) -> pl.DataFrame:
    """Running open interest of each market.

    Args:
        flows: market_id, ts UTC, usd float64 (signed); any order.
        before: ``open_interest`` rows older than every flow; the last of each market counts.

    Returns:
        ``open_interest`` rows, one for each market and instant with flows.
    """
    base = (
        before.sort("ts").group_by("market_id").agg(pl.col("open_interest").last().alias("_base"))
    )
    return (
        flows.group_by("market_id", "ts")
        .agg(pl.col("usd").sort().sum())
        .sort("market_id", "ts")
        .join(base, on="market_id", how="left", maintain_order="left")
        .select(
            "ts",
            "market_id",
            (pl.col("_base").fill_null(0.0) + pl.col("usd").cum_sum().over("market_id"))
            .round(6)
            .alias("open_interest"),
            pl.lit(SCHEMA_VERSION, dtype=pl.Int32).alias("schema_version"),
            pl.col("ts").dt.strftime("%Y-%m-%d").alias("dt"),
        )
    )


def _start(stores: Stores, stored: pl.DataFrame, markets: dict[str, str]) -> datetime | None:
    """The newest stored instant, or an earlier one from which a market of today was turned away.

    Where a flow was counted, its market has a row at its instant; so a letter is settled by what
    is stored, and asked for until it is.
    """
    if stored.is_empty():
        return None
    is_unknown = (pl.col("source") == _SOURCE) & (pl.col("reason") == _UNKNOWN)
    letters = stores.lake.read("dead_letter", is_unknown, columns=["record"])
    turned_away = letters.select(
        pl.col("record").str.json_path_match(f"$.{name}").alias(name)
        for name in ("condition", "timestamp")
    ).unique()
    known = [
        (markets[condition], _time_or_none(timestamp))
        for condition, timestamp in turned_away.iter_rows()
        if condition in markets
    ]
    key = ["market_id", "ts"]
    flows = pl.DataFrame(known, schema={name: stored.schema[name] for name in key}, orient="row")
    owed = flows.drop_nulls().join(stored, on=key, how="anti")
    newest, earliest = stored["ts"].max(), owed["ts"].min()
    assert isinstance(newest, datetime)
    return min(newest, earliest) if isinstance(earliest, datetime) else newest


def _time_or_none(value: str | None) -> datetime | None:
    try:
        return parse_time(value, "timestamp")
    except RecordRejected:
        return None


async def _listing(
    rest: PolymarketRest,
    stores: Stores,
    entity: str,
    start: datetime | None,
    markets: dict[str, str],
    letters: DeadLetters,
) -> tuple[list[Flow], IngestResult]:
    """Read one entity to its end; raw pages are stored as they come."""
    since_ts = 0 if start is None else int(start.timestamp())
    flows: list[Flow] = []
    bodies: list[bytes] = []
    rows_in = pages = 0
    async for page in rest.flow_pages(entity, since_ts):
        bodies.append(page.body)
        pages += 1
        rows_in += len(page.records)
        flows += _read_page(page.records, entity, markets, letters)
        if len(bodies) == _PAGES_PER_FILE:
            _keep(stores, entity, since_ts, bodies)
            bodies = []
    if bodies:
        _keep(stores, entity, since_ts, bodies)
    return flows, IngestResult("open_interest", rows_in=rows_in, requests=pages)


def _keep(stores: Stores, entity: str, since_ts: int, bodies: list[bytes]) -> None:
    request = {"entity": entity, "timestamp_gte": since_ts}
    keep_raw(stores, _SOURCE, [RawAnswer(request, body) for body in bodies])


def _read_page(
    records: list[Any], entity: str, markets: dict[str, str], letters: DeadLetters
) -> list[Flow]:
    flows: list[Flow] = []
    for record in records:
        try:
            flows.append(_flow(record, entity, markets))
        except RecordRejected as rejected:
            letters.add(record, rejected.reason, rejected.detail, None)
    return flows


def _flow(record: Any, entity: str, markets: dict[str, str]) -> Flow:
    if not isinstance(record, dict) or text_or_none(record.get("id")) is None:
        raise RecordRejected("ID_MISSING")
    condition = text_or_none(record.get("condition"))
    market_id = markets.get(condition or "")
    if market_id is None:
        raise RecordRejected(_UNKNOWN, str(condition))
    amount = number_or_none(record.get(AMOUNT_FIELDS[entity]))
    if amount is None or amount < 0:
        raise RecordRejected("AMOUNT_UNREADABLE", repr(record.get(AMOUNT_FIELDS[entity])))
    at = parse_time(record.get("timestamp"), "timestamp")
    if at is None:
        raise RecordRejected("TIME_MISSING")
    return str(record["id"]), market_id, at, _SIGNS[entity] * amount / MICRO_USD


def _frame(flows: list[Flow]) -> pl.DataFrame:
    kind = polars_schema("open_interest")["ts"]
    frame = pl.DataFrame(
        flows,
        schema={"id": pl.String(), "market_id": pl.String(), "ts": kind, "usd": pl.Float64()},
        orient="row",
    )
    return frame.drop("id")
