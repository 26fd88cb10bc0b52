"""An archive: everything that a venue would answer, frozen at one instant.

On disk it is a folder::

    manifest.json        {"format": 1, "as_of": "…Z", "counts": {…}}
    markets.jsonl        Gamma market records, exactly as the venue sends them
    events.jsonl         Gamma event records, without their nested markets
    prices.parquet       token_id text, t list[int64 UTC seconds], p list[float64]
    splits.jsonl         activity-subgraph entities; likewise merges.jsonl, redemptions.jsonl
    kalshi_events.jsonl  optional: Kalshi's events with their nested markets
    manifold_markets.jsonl  optional: Manifold's markets, whole records
    truth.json           optional: what a simulated archive was drawn from

Prices of the other venues stand in prices.parquet too, under the tokens "kalshi/<ticker>" and
"manifold/<id>". A recorded archive has the same files without ``truth.json``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import polars as pl

from market_data.errors import ArchiveError

FORMAT = 1
PRICE_SCHEMA = {"token_id": pl.String(), "t": pl.List(pl.Int64()), "p": pl.List(pl.Float64())}

_RECORDS = ("markets", "events", "splits", "merges", "redemptions")
_OTHERS = ("kalshi_events", "manifold_markets")
_REQUIRED = {
    "markets": ("id", "conditionId"),
    "events": ("id",),
    "splits": ("id", "timestamp", "condition", "amount"),
    "merges": ("id", "timestamp", "condition", "amount"),
    "redemptions": ("id", "timestamp", "condition", "payout"),
    "kalshi_events": ("event_ticker", "series_ticker", "markets"),
    "manifold_markets": ("id", "createdTime"),
}

Record = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Archive:
    """A venue at one instant.

    Attributes:
        as_of: aware UTC time after which nothing is in the archive.
        markets, events, splits, merges, redemptions: records as the venue sends them.
        prices: one row for each token with a history, schema ``PRICE_SCHEMA``; the second token
            of a two-outcome market needs no row, its price is 1 − p.
        truth: what the archive was drawn from, None for recorded ones.
    """

    as_of: datetime
    markets: list[Record]
    events: list[Record]
    prices: pl.DataFrame
    splits: list[Record] = field(default_factory=list)
    merges: list[Record] = field(default_factory=list)
    redemptions: list[Record] = field(default_factory=list)
    truth: Record | None = None
    kalshi_events: list[Record] = field(default_factory=list)
    manifold_markets: list[Record] = field(default_factory=list)


def write_archive(archive: Archive, folder: Path) -> None:
    """Write ``archive`` into ``folder`` (made if absent); the manifest comes last."""
    folder.mkdir(parents=True, exist_ok=True)
    counts: dict[str, int] = {}
    for name in _RECORDS + _OTHERS:
        records: list[Record] = getattr(archive, name)
        if name in _OTHERS and not records:
            (folder / f"{name}.jsonl").unlink(missing_ok=True)
            continue
        (folder / f"{name}.jsonl").write_bytes(
            b"".join(orjson.dumps(record) + b"\n" for record in records)
        )
        counts[name] = len(records)
    archive.prices.write_parquet(folder / "prices.parquet", compression="zstd")
    counts["prices"] = archive.prices.height
    if archive.truth is not None:
        (folder / "truth.json").write_bytes(orjson.dumps(archive.truth))
    manifest = {
        "format": FORMAT,
        "as_of": archive.as_of.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "counts": counts,
    }
    (folder / "manifest.json").write_bytes(orjson.dumps(manifest, option=orjson.OPT_INDENT_2))


def read_archive(folder: Path) -> Archive:
    """Read an archive.

    Raises:
        ArchiveError: a file is missing or unreadable, a record lacks a field, or the counts of
            the manifest do not hold. The message names the file, and the line and field.
    """
    manifest = _read_json(folder / "manifest.json")
    if manifest.get("format") != FORMAT:
        raise ArchiveError(f"{folder / 'manifest.json'}: field 'format' must be {FORMAT}")
    as_of = _as_of(folder, manifest)
    there = [*_RECORDS, *(name for name in _OTHERS if (folder / f"{name}.jsonl").exists())]
    records = {name: _read_records(folder / f"{name}.jsonl", name) for name in there}
    prices = _read_prices(folder / "prices.parquet")
    found = {name: len(rows) for name, rows in records.items()} | {"prices": prices.height}
    for name, expected in dict(manifest.get("counts") or {}).items():
        if found.get(name) != expected:
            raise ArchiveError(
                f"{folder / 'manifest.json'}: counts.{name} says {expected}, "
                f"the file holds {found.get(name)}"
            )
    truth_file = folder / "truth.json"
    truth = _read_json(truth_file) if truth_file.exists() else None
    return Archive(as_of=as_of, prices=prices, truth=truth, **records)


def _as_of(folder: Path, manifest: Record) -> datetime:
    text = manifest.get("as_of")
    try:
        as_of = datetime.fromisoformat(str(text))
    except ValueError:
        raise ArchiveError(f"{folder / 'manifest.json'}: field 'as_of' is not a time") from None
    if as_of.tzinfo is None:
        raise ArchiveError(f"{folder / 'manifest.json'}: field 'as_of' has no time zone")
    return as_of.astimezone(UTC)


def _read_json(path: Path) -> Record:
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArchiveError(f"{path}: missing") from None
    except orjson.JSONDecodeError as error:
        raise ArchiveError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict):
        raise ArchiveError(f"{path}: not a JSON object")
    return value


def _read_records(path: Path, name: str) -> list[Record]:
    if not path.exists():
        raise ArchiveError(f"{path}: missing")
    records: list[Record] = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ArchiveError(f"{path}:{number}: not JSON ({error})") from None
        missing = [f for f in _REQUIRED[name] if f not in record]
        if missing:
            raise ArchiveError(f"{path}:{number}: field '{missing[0]}' is missing")
        records.append(record)
    return records


def _read_prices(path: Path) -> pl.DataFrame:
    if not path.exists():
        raise ArchiveError(f"{path}: missing")
    try:
        frame = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ArchiveError(f"{path}: not a parquet file ({error})") from None
    for column, kind in PRICE_SCHEMA.items():
        if frame.schema.get(column) != kind:
            raise ArchiveError(f"{path}: column '{column}' must be {kind}")
    return frame.select(list(PRICE_SCHEMA))
