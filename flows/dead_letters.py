"""Records that were rejected: what there is, and reading them again with today's parsers.

A letter keeps its record as text, so that a record of which a parser once thought too little
becomes a row when the parser has learned to read it, or is told to leave it out. The letter stays,
and says when it was settled and by which run. Of two records of a market the venue's own time
decides, and where that is the same, when each was received: an old one takes nothing from a newer
one. A letter without an answer of a venue is a request that failed; the next ingestion makes the
same request, as it asks for the flows of a market that has become known and for an outcome that
could not be read, so nothing is done here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any

import orjson
import polars as pl
from prefect import flow

from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import Run, StageCount
from flows.settings import FlowSettings
from market_data.errors import RecordLeftOut, RecordRejected
from market_data.event_ingest import store_event_records
from market_data.flow_rows import UNKNOWN_CONDITION
from market_data.ingest import store_market_records
from market_data.intake import Progress, Stores
from market_data.lake import Lake
from market_data.raw import RawStore
from market_data.venues.kalshi import parse as kalshi
from market_data.venues.manifold import parse as manifold
from market_data.venues.polymarket import parse as polymarket
from market_data.venues.sources import EVENTS_SOURCE, FLOWS_SOURCE, OUTCOMES_SOURCE, SOURCES

READERS: dict[str, Callable[[Any], Any]] = {
    SOURCES["polymarket"].markets: polymarket.parse_market,
    SOURCES["kalshi"].markets: kalshi.parse_market,
    SOURCES["manifold"].markets: manifold.parse_market,
    EVENTS_SOURCE: polymarket.parse_event,
}
"""Who reads the records of a source. A point of a history or a flow of collateral stays."""

ASKED = "asked again by the next ingestion"
OWED = "fetched once their market is known"
STAYS = "points and flows stay"

_Readable = tuple[str, str, datetime, Any]
"""(source, raw file, when the record was received, record)."""


def listed(lake: Lake, *, source: str = "", reason: str = "") -> list[dict[str, Any]]:
    """One row per source and reason: letters that are open and settled, and the newest one."""
    letters = _chosen(lake, source, reason).sort("first_seen_at")
    settled = pl.col("settled_at").is_not_null()
    return (
        letters.group_by("source", "reason")
        .agg(
            (~settled).sum().alias("open"),
            settled.sum().alias("settled"),
            pl.col("raw_sha256").is_null().all().alias("asked again"),
            pl.col("first_seen_at").max().dt.strftime("%Y-%m-%d %H:%M").alias("last new"),
            pl.col("record_id").last().alias("such as"),
            pl.col("detail").last(),
        )
        .sort("source", "reason")
        .to_dicts()
    )


@flow(name="replay", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False)
def replay(
    source: str = "",
    reason: str = "",
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Reads the open letters again, of one source or reason where one is given."""
    run = begin(as_of, flow_settings, pipeline="replay", progress=progress)
    run.parameters = {"source": source, "reason": reason}
    return carry_out(run, (as_task(letters),))


def letters(run: Run) -> StageCount:
    """Stores what can be read now, and settles its letters; the note counts them by reason."""
    chosen = _chosen(run.lake, run.parameters["source"], run.parameters["reason"])
    still_open = chosen.filter(pl.col("settled_at").is_null()).sort("letter_id")
    is_record = pl.col("raw_sha256").is_not_null() & pl.col("source").is_in(list(READERS))
    rows = still_open.filter(is_record)
    readable, rejected = _read(rows)
    written = _store(run, [found for found in readable.values() if found is not None])
    settled = rows.filter(pl.col("letter_id").is_in(list(readable)))
    run.lake.upsert(
        "dead_letter",
        settled.with_columns(
            settled_at=pl.lit(run.interval_end, dtype=rows.schema["settled_at"]),
            settled_by=pl.lit(run.run_id),
        ),
    )
    others = still_open.filter(~is_record).with_columns(_what_becomes().alias("becomes"))
    note = "; ".join(
        f"{said}: {_by_reason(found)}"
        for said, found in (
            ("settled", settled["reason"].to_list()),
            ("rejected again", rejected),
            *(
                (said, others.filter(becomes=said)["reason"].to_list())
                for said in (ASKED, OWED, STAYS)
            ),
        )
        if found
    )
    aside = still_open.height - settled.height
    return StageCount(
        still_open.height, settled.height, written, aside, note=note or "none is open"
    )


def _what_becomes() -> pl.Expr:
    """What comes of a letter that is no record of ``READERS``."""
    is_asked = pl.col("raw_sha256").is_null() | (pl.col("source") == OUTCOMES_SOURCE)
    is_owed = (pl.col("source") == FLOWS_SOURCE) & (pl.col("reason") == UNKNOWN_CONDITION)
    return (
        pl.when(is_asked)
        .then(pl.lit(ASKED))
        .when(is_owed)
        .then(pl.lit(OWED))
        .otherwise(pl.lit(STAYS))
    )


def _chosen(lake: Lake, source: str, reason: str) -> pl.DataFrame:
    wanted = pl.lit(value=True)
    if source:
        wanted = wanted & (pl.col("source") == source)
    if reason:
        wanted = wanted & (pl.col("reason") == reason)
    return lake.read("dead_letter", wanted)


def _read(rows: pl.DataFrame) -> tuple[dict[str, _Readable | None], list[str]]:
    """What can be read now by letter, None where it is left out; reasons of all others."""
    readable: dict[str, _Readable | None] = {}
    rejected = []
    named = rows.select("letter_id", "source", "raw_sha256", "first_seen_at", "record")
    for letter, source, raw_sha256, received_at, text in named.iter_rows():
        try:
            record = orjson.loads(text)
            READERS[source](record)
        except orjson.JSONDecodeError:
            rejected.append("CUT_SHORT")
        except RecordLeftOut:
            readable[letter] = None
        except RecordRejected as error:
            rejected.append(error.reason)
        else:
            readable[letter] = (source, raw_sha256, received_at, record)
    return readable, rejected


def _store(run: Run, readable: list[_Readable]) -> int:
    """Stores records by source, raw file and time; how many rows were new or changed."""
    platforms = {sources.markets: platform for platform, sources in SOURCES.items()}
    groups: dict[tuple[str, str, datetime], list[Any]] = {}
    for source, raw_sha256, received_at, record in readable:
        groups.setdefault((source, raw_sha256, received_at), []).append(record)
    written = 0
    for (source, raw_sha256, received_at), records in groups.items():
        stores = Stores(run.lake, RawStore(run.settings.raw), _always(received_at))
        if source == EVENTS_SOURCE:
            done, records = store_event_records(stores, records, raw_sha256)
            written += done.rows_written
            source = SOURCES["polymarket"].markets
        stored = store_market_records(
            stores, records, raw_sha256, platform=platforms[source], parse=READERS[source]
        )
        written += stored.rows_written
    return written


def _always(instant: datetime) -> Callable[[], datetime]:
    return lambda: instant


def _by_reason(reasons: list[str]) -> str:
    return ", ".join(f"{reason} {count}" for reason, count in sorted(Counter(reasons).items()))
