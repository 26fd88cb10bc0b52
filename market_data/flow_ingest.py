"""Open interest from collateral flows: splits add to it, merges and redemptions take from it.

Open interest of a market in USD = (splits − merges − redemptions) / 10⁶ up to an instant, because
each USDC split makes one full set of outcome tokens. Conversions inside negative-risk events do
not move collateral of a single condition and are not counted.

Flows are kept by their id, so that one which comes twice counts once. Of each entity only what
came since its newest stored flow is fetched (that instant included); the open interest is computed
anew from the earliest fetched flow on. An entity that fails for good is a dead letter and counts in
``failures``; the next run asks for it from where it stood, and the open interest is put right.
Flows of a market that the registry does not know are dead letters UNKNOWN_CONDITION; once it is
known, all flows of its condition are fetched.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import polars as pl

from market_data.errors import RecordRejected, VenueError
from market_data.intake import (
    DeadLetters,
    IngestResult,
    Progress,
    Stores,
    bury,
    keep_raw,
    silent,
)
from market_data.lake import conform, polars_schema
from market_data.raw import RawAnswer
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.fields import number_or_none, parse_time, text_or_none
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.subgraph import AMOUNT_FIELDS, Segment, SegmentFailure

MICRO_USD = 1_000_000
_SIGNS = {"splits": 1.0, "merges": -1.0, "redemptions": -1.0}
_SOURCE = "polymarket/subgraph/activity"
_UNKNOWN = "UNKNOWN_CONDITION"
_PAGES_PER_FILE = 20

_CONDITIONS_PER_REQUEST = 100

Flow = tuple[str, str, str, datetime, float]
"""(flow id, entity, market_id, UTC time, signed USD)."""


@dataclass(slots=True)
class _Read:
    """What the segments of a run gave."""

    letters: DeadLetters
    flows: list[Flow] = field(default_factory=list)
    rows_in: int = 0
    requests: int = 0
    failed: list[VenueError] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


async def ingest_open_interest(
    rest: PolymarketRest,
    stores: Stores,
    *,
    since: datetime | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """Fetch flows into ``collateral_flow`` and derive ``open_interest`` from them.

    Args:
        since: first instant to fetch of each entity; by default that of its newest stored flow.

    Raises:
        VenueError: not a single entity could be read; its dead letters are written all the same.
    """
    stored = stores.lake.read("open_interest")
    registry = stores.lake.read("market_registry", columns=["market_id", "condition_id"])
    markets = {c: m for m, c in registry.iter_rows() if c is not None}
    read = _Read(DeadLetters(_SOURCE))
    for batch in _batches(stores, markets, since):
        await _read_batch(rest, stores, batch, markets, read, progress)
    bury(stores, read.letters)
    if read.failed and not read.requests:
        raise read.failed[0]
    fetched = _frame(read.flows)
    flows = fetched.unique(["ts", "flow_id"], keep="last")
    total = IngestResult(
        "open_interest",
        rows_in=read.rows_in,
        rows_out=flows.height,
        duplicates=fetched.height - flows.height,
        dead_letters=read.letters.count,
        failures=len(read.failed),
        failed=tuple(read.names),
        requests=read.requests,
    )
    if flows.is_empty():
        return total
    done = stores.lake.upsert("open_interest", _derived(stores, stored, flows))
    progress("open_interest", total.rows_in, None)
    # Last: a run that is killed before it fetches the same flows again.
    stores.lake.upsert("collateral_flow", flows)
    return replace(total, rows_written=done.rows_new + done.rows_changed)


def _derived(stores: Stores, stored: pl.DataFrame, flows: pl.DataFrame) -> pl.DataFrame:
    """The open interest of the markets of these flows from the earliest of them on."""
    start = flows["ts"].min()
    later = stores.lake.read("collateral_flow", pl.col("ts") >= start)
    touched = later.join(flows.select("market_id").unique(), on="market_id", how="semi")
    every = pl.concat([touched, flows], how="vertical_relaxed").unique("flow_id", keep="last")
    return accumulate(every, stored.filter(pl.col("ts") < start))


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


def _batches(
    stores: Stores, markets: dict[str, str], since: datetime | None
) -> list[list[Segment]]:
    """What is new of each entity, and everything of the conditions that were turned away."""
    newest: dict[str, datetime] = dict(
        stores.lake.scan("collateral_flow")
        .group_by("entity")
        .agg(pl.col("ts").max())
        .collect()
        .iter_rows()
    )
    starts = {entity: since or newest.get(entity) for entity in AMOUNT_FIELDS}
    new = [Segment(e, int(at.timestamp()) if at else 0) for e, at in starts.items()]
    owed = sorted(_owed(stores, markets)) if any(starts.values()) else []
    chunks = [
        tuple(owed[at : at + _CONDITIONS_PER_REQUEST])
        for at in range(0, len(owed), _CONDITIONS_PER_REQUEST)
    ]
    return [new, *([Segment(entity, 0, chunk) for entity in AMOUNT_FIELDS] for chunk in chunks)]


def _owed(stores: Stores, markets: dict[str, str]) -> set[str]:
    """Conditions that are known by now and of which a flow was turned away.

    A letter is settled by the flow of its market and instant that is stored, and asked for until
    there is one.
    """
    is_unknown = (pl.col("source") == _SOURCE) & (pl.col("reason") == _UNKNOWN)
    letters = stores.lake.read("dead_letter", is_unknown, columns=["record"])
    turned_away = letters.select(
        pl.col("record").str.json_path_match(f"$.{name}").alias(name)
        for name in ("condition", "timestamp")
    ).unique()
    known = [
        (condition, markets[condition], _time_or_none(timestamp))
        for condition, timestamp in turned_away.iter_rows()
        if condition in markets
    ]
    if not known:
        return set()
    key = ["market_id", "ts"]
    stored = stores.lake.read("collateral_flow", columns=key)
    schema = {"condition": pl.String()} | {name: stored.schema[name] for name in key}
    flows = pl.DataFrame(known, schema=schema, orient="row")
    return set(flows.drop_nulls().join(stored, on=key, how="anti")["condition"])


def _time_or_none(value: str | None) -> datetime | None:
    try:
        return parse_time(value, "timestamp")
    except RecordRejected:
        return None


async def _read_batch(
    rest: PolymarketRest,
    stores: Stores,
    batch: list[Segment],
    markets: dict[str, str],
    read: _Read,
    progress: Progress,
) -> None:
    """Read the segments of a batch to their ends; raw pages are stored as they come."""
    bodies: list[bytes] = []
    async for part in rest.flows(batch):
        if isinstance(part, SegmentFailure):
            name = type(part.error).__name__
            read.letters.add(part.segment.request(), name, str(part.error), None)
            read.failed.append(part.error)
            read.names.append(f"{part.segment.entity} ({name})")
            continue
        bodies.append(part.body)
        read.requests += 1
        for segment, records in part.records.items():
            read.rows_in += len(records)
            read.flows += _read_page(records, segment.entity, markets, read.letters)
        progress("open_interest", read.rows_in, None)
        if len(bodies) == _PAGES_PER_FILE:
            _keep(stores, batch, bodies)
            bodies = []
    if bodies:
        _keep(stores, batch, bodies)


def _keep(stores: Stores, batch: list[Segment], bodies: list[bytes]) -> None:
    request = {"segments": [segment.request() for segment in batch]}
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
    flow_id = f"{entity}:{record['id']}"
    return flow_id, entity, market_id, at, _SIGNS[entity] * amount / MICRO_USD


def _frame(flows: list[Flow]) -> pl.DataFrame:
    """``collateral_flow`` rows."""
    columns = polars_schema("collateral_flow")
    names = ("flow_id", "entity", "market_id", "ts", "usd")
    frame = pl.DataFrame(flows, schema={name: columns[name] for name in names}, orient="row")
    return conform(
        "collateral_flow",
        frame.with_columns(
            schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32),
            dt=pl.col("ts").dt.strftime("%Y-%m-%d"),
        ),
    )
