"""What every ingestion shares: where things are kept, and the account that it gives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Any

import orjson
import polars as pl

from market_data.lake import Lake, polars_schema
from market_data.raw import RawAnswer, RawFile, RawStore
from market_data.schemas import SCHEMA_VERSION

Progress = Callable[[str, int, int | None], None]
"""Called with (stage, items done, items in all or None where unknown)."""

_RECORD_LIMIT = 65_536


@dataclass(frozen=True, slots=True)
class Stores:
    """Where ingested data goes, and the clock that stamps it."""

    lake: Lake
    raw: RawStore
    now: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class IngestResult:
    """The account of one ingestion.

    ``rows_in = rows_out + duplicates + dead_letters + left_out``, except that ``failures`` count
    whole requests.

    Attributes:
        stage: "markets", "prices" or "open_interest".
        rows_in: records received.
        rows_out: records that became, or already were, rows of the lake.
        duplicates: records that another record of the same key superseded.
        left_out: records that are stored raw alone, by rule: price points at or after a resolution,
            polls, and markets whose answers are not asked for.
        dead_letters: records that are in ``dead_letter`` with a reason.
        failures: requests that failed for good; each has a dead letter too.
        requests: answers received; skipped: markets that needed no request.
        rows_written: rows that were new or changed; 0 for an identical re-run.
        failed: names of parts that failed for good, where a part has one, and why.
    """

    stage: str
    rows_in: int = 0
    rows_out: int = 0
    duplicates: int = 0
    left_out: int = 0
    dead_letters: int = 0
    failures: int = 0
    requests: int = 0
    skipped: int = 0
    rows_written: int = 0
    failed: tuple[str, ...] = ()


@dataclass(slots=True)
class DeadLetters:
    """Collects rejected records; ``frame`` makes them rows of ``dead_letter``."""

    source: str
    rows: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    count: int = 0

    def add(self, record: Any, reason: str, detail: str, raw_sha256: str | None) -> None:
        """Keep one rejected record; the same record twice is one letter, and counts twice."""
        text = record if isinstance(record, str) else _json_text(record)
        letter_id = hashlib.sha256(f"{self.source}\n{text}".encode()).hexdigest()
        record_id = str(record.get("id", "")) if isinstance(record, dict) else ""
        self.count += 1
        self.rows[letter_id] = (
            letter_id, self.source, record_id, reason, detail[:500], text[:_RECORD_LIMIT],
            raw_sha256,
        )  # fmt: skip

    def frame(self, first_seen_at: datetime) -> pl.DataFrame:
        """The letters as rows; what is rejected now is open, also where it was settled before."""
        schema = polars_schema("dead_letter")
        later = ("first_seen_at", "settled_at", "settled_by", "schema_version")
        names = [c for c in schema if c not in later]
        frame = pl.DataFrame(
            list(self.rows.values()), schema={n: schema[n] for n in names}, orient="row"
        )
        return frame.with_columns(
            first_seen_at=pl.lit(first_seen_at, dtype=schema["first_seen_at"]),
            settled_at=pl.lit(None, dtype=schema["settled_at"]),
            settled_by=pl.lit(None, dtype=schema["settled_by"]),
            schema_version=pl.lit(SCHEMA_VERSION, dtype=pl.Int32),
        )


def added(total: IngestResult, part: IngestResult) -> IngestResult:
    """Both accounts as one, under the name of the first."""
    sums = {
        f.name: getattr(total, f.name) + getattr(part, f.name)
        for f in fields(total)
        if f.name != "stage"
    }
    return replace(total, **sums)


def keep_raw(stores: Stores, source: str, answers: Sequence[RawAnswer]) -> RawFile:
    """Store answers as one raw file and name it in ``raw_file``."""
    file = stores.raw.put(source, answers)
    row = {
        "sha256": file.sha256,
        "source": source,
        "path": file.path,
        "records": file.records,
        "bytes": file.size,
        "fetched_at": stores.now(),
        "schema_version": SCHEMA_VERSION,
    }
    stores.lake.upsert("raw_file", pl.DataFrame([row], schema=polars_schema("raw_file")))
    return file


def bury(stores: Stores, letters: DeadLetters) -> None:
    """Write collected dead letters to the lake."""
    if letters.rows:
        stores.lake.upsert("dead_letter", letters.frame(stores.now()))


def silent(_stage: str, _done: int, _total: int | None) -> None:
    """Progress that nobody watches."""


def _json_text(record: Any) -> str:
    return orjson.dumps(record, option=orjson.OPT_SORT_KEYS, default=repr).decode()
