"""Who won, as the order book's interface says it, where the record of a closed market does not.

Asked is only for closed Polymarket markets whose registry row has no final state and of which no
decisive evidence is stored. What comes becomes ``outcome_evidence``; ``labels`` decides what it is
worth. A market that the interface does not know has none; a request that fails for good is a dead
letter and counts in ``failures``. A batch in which every request failed is the last one: the
interface is down, which ``failed`` says by name.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import polars as pl

from market_data.errors import RecordRejected, VenueError, VenueNotFound
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
from market_data.venues.http import Answer
from market_data.venues.polymarket.clob import parse_outcome
from market_data.venues.polymarket.rest import PolymarketRest
from market_data.venues.sources import OUTCOMES_SOURCE

_BATCH = 250

_Answered = tuple[str, str, Answer]
"""(market id, condition, what the interface said)."""


async def ingest_outcomes(
    rest: PolymarketRest,
    stores: Stores,
    *,
    market_ids: tuple[str, ...] | None = None,
    progress: Progress = silent,
) -> IngestResult:
    """Fetch evidence for closed markets without a final state.

    Args:
        market_ids: these markets alone; None means all.
    """
    wanted = _wanted(stores, market_ids)
    letters = DeadLetters(OUTCOMES_SOURCE)
    total = IngestResult("outcomes")
    for start in range(0, len(wanted), _BATCH):
        batch = wanted[start : start + _BATCH]
        answers = await asyncio.gather(*(_ask(rest, condition) for _, condition in batch))
        found: list[_Answered] = []
        errors: list[VenueError] = []
        for (market, condition), answer in zip(batch, answers, strict=True):
            if isinstance(answer, VenueNotFound):
                continue
            if isinstance(answer, VenueError):
                request = {"id": market, "condition_id": condition}
                letters.add(request, type(answer).__name__, str(answer), None)
                errors.append(answer)
                continue
            found.append((market, condition, answer))
        total = _store(
            stores, replace(total, failures=total.failures + len(errors)), found, letters
        )
        progress("outcomes", min(start + _BATCH, len(wanted)), len(wanted))
        if len(errors) == len(batch) < len(wanted) - start:
            named = f"the order book ({type(errors[0]).__name__})"
            total = replace(total, failed=(*total.failed, named))
            break
    bury(stores, letters)
    return replace(total, dead_letters=letters.count, rows_in=total.rows_out + letters.count)


def _wanted(stores: Stores, market_ids: tuple[str, ...] | None) -> list[tuple[str, str]]:
    registry = stores.lake.read(
        "market_registry",
        (pl.col("platform") == "polymarket")
        & (pl.col("status") == "UNRESOLVED")
        & pl.col("condition_id").is_not_null(),
        columns=["market_id", "condition_id"],
    )
    known = stores.lake.read(
        "outcome_evidence", pl.col("winner").is_not_null() | pl.col("is_fifty_fifty")
    )
    asked = registry.join(known, on="market_id", how="anti").sort("market_id")
    if market_ids is not None:
        asked = asked.filter(pl.col("market_id").is_in(list(market_ids)))
    return [(market, condition) for market, condition in asked.iter_rows()]


async def _ask(rest: PolymarketRest, condition_id: str) -> Answer | VenueError:
    try:
        return await rest.clob_market(condition_id)
    except VenueError as error:  # one market's failure is its own; it is counted
        return error


def _rows(market: str, value: Any, letters: DeadLetters, raw_sha256: str) -> list[dict[str, Any]]:
    try:
        outcome = parse_outcome(value)
    except RecordRejected as rejected:
        letters.add(value, rejected.reason, rejected.detail, raw_sha256)
        return []
    return [
        {
            "market_id": market,
            "source": OUTCOMES_SOURCE,
            "winner": outcome.winner,
            "is_fifty_fifty": outcome.is_fifty_fifty,
            "is_closed": outcome.is_closed,
            "schema_version": SCHEMA_VERSION,
        }
    ]


def _store(
    stores: Stores, total: IngestResult, found: list[_Answered], letters: DeadLetters
) -> IngestResult:
    """Store answers raw and what they say as rows."""
    if not found:
        return total
    bodies = [RawAnswer({"condition_id": condition}, answer.body) for _, condition, answer in found]
    file = keep_raw(stores, OUTCOMES_SOURCE, bodies)
    rows = [
        row
        for market, _, answer in found
        for row in _rows(market, answer.value, letters, file.sha256)
    ]
    frame = pl.DataFrame(rows, schema=polars_schema("outcome_evidence"))
    done = stores.lake.upsert("outcome_evidence", frame) if rows else None
    return replace(
        total,
        requests=total.requests + len(bodies),
        rows_out=total.rows_out + len(rows),
        rows_written=total.rows_written + (done.rows_new + done.rows_changed if done else 0),
    )
