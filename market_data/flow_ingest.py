"""Open interest from collateral flows: splits add to it, merges and redemptions take from it.

Open interest of a market in USD = (splits − merges − redemptions) / 10⁶ up to an instant, because
each USDC split makes one full set of outcome tokens. Conversions inside negative-risk events do
not move collateral of a single condition and are not counted.

Flows are kept by their id, so that one which comes twice counts once, and stored while the pages
come. ``flow_reach`` says of each entity up to when all its flows are stored; it moves only when the
entity has been read to its end, and the next run reads from there. No run reads the last
``INDEXING_LAG``, and none moves the reach behind the newest flow that the subgraph told, however
late it is. An entity that fails for good is a dead letter and counts in ``failures``: open interest
is wrong until the next run has read all of it again.

Flows of a market that the registry does not know are dead letters UNKNOWN_CONDITION; once it is
known, all flows of its condition are fetched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import polars as pl

from market_data.errors import RecordRejected
from market_data.flow_rows import UNKNOWN_CONDITION, Flow, accumulate, flow_frame, parse_flow
from market_data.intake import (
    DeadLetters,
    IngestResult,
    Progress,
    Stores,
    bury,
    keep_raw,
    silent,
)
from market_data.raw import RawAnswer
from market_data.schemas import SCHEMA_VERSION
from market_data.venues.fields import parse_time
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.polymarket.subgraph import (
    AMOUNT_FIELDS,
    FlowPage,
    Segment,
    SegmentFailure,
)
from market_data.venues.sources import FLOWS_SOURCE

INDEXING_LAG = timedelta(minutes=10)
"""How long after a flow at the latest it is indexed while the subgraph keeps up."""

_PAGES_PER_FILE = 20
_CONDITIONS_PER_REQUEST = 100
_MARKETS_AT_ONCE = 50_000


@dataclass(slots=True)
class _Read:
    """What the segments of a run gave; the flows themselves are in the lake by then.

    Attributes:
        markets: those with flows; since, newest: the first and last instant of a flow.
        failed: entities that failed for good, and why.
        incomplete: entities of which the new flows are not all there.
    """

    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0
    dead_letters: int = 0
    requests: int = 0
    markets: set[str] = field(default_factory=set)
    since: datetime | None = None
    newest: datetime | None = None
    failed: list[str] = field(default_factory=list)
    incomplete: set[str] = field(default_factory=set)


async def ingest_open_interest(
    rest: PolymarketRest, stores: Stores, *, progress: Progress = silent
) -> IngestResult:
    """Fetch flows into ``collateral_flow`` and derive ``open_interest`` from them.

    What fails for good is named in ``failed``; a subgraph of which nothing can be read is asked
    for nothing more.
    """
    registry = stores.lake.read("market_registry", columns=["market_id", "condition_id"])
    markets = {c: m for m, c in registry.iter_rows() if c is not None}
    until = stores.now() - INDEXING_LAG
    read = _Read()
    for batch in _batches(stores, markets, int(until.timestamp())):
        await _read_batch(rest, stores, batch, markets, read, progress)
        if not read.requests:
            break
    written = _derive(stores, read)
    progress("open_interest", read.rows_in, None)
    # Last: a run that is killed before it fetches the same flows again.
    _move_reach(stores, read, until)
    return IngestResult(
        "open_interest",
        rows_in=read.rows_in,
        rows_out=read.rows_out,
        duplicates=read.duplicates,
        dead_letters=read.dead_letters,
        failures=len(read.failed),
        failed=tuple(read.failed),
        requests=read.requests,
        rows_written=written,
    )


def _derive(stores: Stores, read: _Read) -> int:
    """Write the open interest of the markets with flows from the earliest of these on."""
    written, touched = 0, sorted(read.markets)
    for at in range(0, len(touched), _MARKETS_AT_ONCE):
        of_them = pl.col("market_id").is_in(touched[at : at + _MARKETS_AT_ONCE])
        later = stores.lake.read("collateral_flow", of_them & (pl.col("ts") >= read.since))
        before = stores.lake.read("open_interest", of_them & (pl.col("ts") < read.since))
        flows = later.sort("ts").unique("flow_id", keep="last")
        done = stores.lake.upsert("open_interest", accumulate(flows, before))
        written += done.rows_new + done.rows_changed
    return written


def _reach(stores: Stores) -> dict[str, datetime]:
    """Up to when all flows are stored, by entity."""
    stored = stores.lake.read("flow_reach", columns=["entity", "complete_until"])
    return dict(stored.iter_rows())


def _move_reach(stores: Stores, read: _Read, until: datetime) -> None:
    """Note up to when the entities are complete that were read to their end."""
    complete = [entity for entity in AMOUNT_FIELDS if entity not in read.incomplete]
    if read.newest is None or not complete:
        return
    reached, told = _reach(stores), min(read.newest, until)
    frame = pl.DataFrame(
        {
            "entity": complete,
            "complete_until": [max(reached.get(entity, told), told) for entity in complete],
        }
    )
    stores.lake.upsert("flow_reach", frame.with_columns(schema_version=SCHEMA_VERSION))


def _batches(stores: Stores, markets: dict[str, str], until_ts: int) -> Iterator[list[Segment]]:
    """What is new of each entity, and everything of the conditions that were turned away."""
    reached = _reach(stores)
    owed = sorted(_owed(stores, markets)) if reached else []
    starts = {e: int(reached[e].timestamp()) if e in reached else 0 for e in AMOUNT_FIELDS}
    yield [Segment(entity, start, until_ts) for entity, start in starts.items()]
    for at in range(0, len(owed), _CONDITIONS_PER_REQUEST):
        chunk = tuple(owed[at : at + _CONDITIONS_PER_REQUEST])
        yield [Segment(entity, 0, until_ts, chunk) for entity in AMOUNT_FIELDS]


def _owed(stores: Stores, markets: dict[str, str]) -> set[str]:
    """Conditions that are known by now and of which a flow was turned away.

    A letter is settled by the very flow that is stored, and asked for until there is one.
    """
    is_unknown = (pl.col("source") == FLOWS_SOURCE) & (pl.col("reason") == UNKNOWN_CONDITION)
    letters = stores.lake.read("dead_letter", is_unknown, columns=["record"])
    turned_away = letters.select(
        pl.col("record").str.json_path_match(f"$.{name}").alias(name)
        for name in ("id", "condition", "timestamp")
    ).unique()
    known = [
        (venue_id, condition, markets[condition], _time_or_none(timestamp))
        for venue_id, condition, timestamp in turned_away.iter_rows()
        if condition in markets
    ]
    if not known:
        return set()
    stored = stores.lake.read("collateral_flow", columns=["flow_id", "market_id", "ts"])
    named = stored.with_columns(venue_id=pl.col("flow_id").str.replace(r"^[a-z]+:", ""))
    key = ["venue_id", "market_id", "ts"]
    schema = {name: named.schema[name] for name in key}
    schema = {"venue_id": schema.pop("venue_id"), "condition": pl.String()} | schema
    flows = pl.DataFrame(known, schema=schema, orient="row").drop_nulls()
    return set(flows.join(named, on=key, how="anti")["condition"])


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
    """Read the segments of a batch to their ends, and store their pages as they come."""
    failures = DeadLetters(FLOWS_SOURCE)
    pages: list[FlowPage] = []
    async for part in rest.flows(batch):
        if isinstance(part, SegmentFailure):
            name = type(part.error).__name__
            failures.add(part.segment.request(), name, str(part.error), None)
            read.failed.append(f"{part.segment.entity} ({name})")
            if not part.segment.conditions:
                read.incomplete.add(part.segment.entity)
            continue
        pages.append(part)
        read.requests += 1
        read.rows_in += sum(map(len, part.records.values()))
        progress("open_interest", read.rows_in, None)
        if len(pages) == _PAGES_PER_FILE:
            _store(stores, batch, pages, markets, read)
            pages = []
    if pages:
        _store(stores, batch, pages, markets, read)
    read.dead_letters += failures.count
    bury(stores, failures)


def _store(
    stores: Stores,
    batch: Sequence[Segment],
    pages: Sequence[FlowPage],
    markets: dict[str, str],
    read: _Read,
) -> None:
    """Store pages raw and their flows as rows."""
    request = {"segments": [segment.request() for segment in batch]}
    file = keep_raw(stores, FLOWS_SOURCE, [RawAnswer(request, page.body) for page in pages])
    letters = DeadLetters(FLOWS_SOURCE)
    flows: list[Flow] = []
    for page in pages:
        for segment, records in page.records.items():
            flows += _readable(records, segment.entity, markets, letters, file.sha256)
    bury(stores, letters)
    read.dead_letters += letters.count
    if not flows:
        return
    frame = flow_frame(flows)
    stores.lake.upsert("collateral_flow", frame)
    read.rows_out += frame.height
    read.duplicates += len(flows) - frame.height
    read.markets.update(frame["market_id"])
    times = [at for *_, at, _usd in flows]
    read.since = min(times) if read.since is None else min(read.since, *times)
    read.newest = max(times) if read.newest is None else max(read.newest, *times)


def _readable(
    records: Sequence[Any],
    entity: str,
    markets: dict[str, str],
    letters: DeadLetters,
    raw_sha256: str,
) -> Iterator[Flow]:
    """The flows of a page; what is none goes to the letters."""
    for record in records:
        try:
            yield parse_flow(record, entity, markets)
        except RecordRejected as rejected:
            letters.add(record, rejected.reason, rejected.detail, raw_sha256)
