"""Recorded streams: records in order of receipt, read one after the other.

A capture file is gzip of JSON lines, written by ``write_capture``::

    {"recv_ms": 1789460500131, "channel": "polymarket", "frame": "{\\"event_type\\":\\"book\\",…}"}

``channel`` is ``polymarket`` or ``binance`` (frames as the venue sent them), or ``gamma``: a market
record of the REST interface that is valid from that time on, which no socket ever carries. That is
how a resolution that the stream withheld is told. ``recv_ms`` (Unix milliseconds) never decreases.

``read_capture`` also reads what others recorded: parquet with ``recv_ts`` and ``frame``, and JSON
lines (plain or gzip) with ``frame`` or ``raw_frame`` and ``recv_ts`` (seconds), ``recv_ts_us`` or
``received_at`` (ISO). Records that step back in time are given the time of the one before.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow
import pyarrow.parquet as pq

from market_data.errors import CaptureError

CHANNELS = ("polymarket", "binance", "gamma")
_BATCH_ROWS = 4096


class Record(NamedTuple):
    """One frame of a capture; a tuple, since a benchmark makes millions of them.

    Attributes:
        recv_ms: Unix milliseconds at which it was received.
        channel: one of ``CHANNELS``.
        frame: as the venue sent it.
    """

    recv_ms: int
    channel: str
    frame: bytes


Capture = Callable[[], Iterator[Record]]
"""Opens the records from the beginning; as often as wanted, with the same records each time."""


def write_capture(path: Path, records: Iterable[Record]) -> int:
    """Write a capture file; returns the number of records.

    Raises:
        CaptureError: a record is out of order, or its channel or frame cannot be written.
    """
    written, before = 0, 0
    with gzip.open(path, "wb", compresslevel=5) as file:
        for record in records:
            if record.channel not in CHANNELS:
                raise CaptureError(f"record {written}: channel {record.channel!r}")
            if record.recv_ms < before:
                raise CaptureError(f"record {written}: recv_ms {record.recv_ms} is before {before}")
            before = record.recv_ms
            try:
                row = record._asdict() | {"frame": record.frame.decode()}
            except UnicodeDecodeError as error:
                raise CaptureError(f"record {written}: frame: {error}") from None
            file.write(orjson.dumps(row) + b"\n")
            written += 1
    return written


def read_capture(path: Path) -> Capture:
    """The records of a file, read as they are asked for.

    Raises:
        CaptureError: the file is not there; and later, while reading, a damaged line or field.
    """
    if not path.is_file():
        raise CaptureError(f"{path}: no such file")
    read = _parquet if path.suffix == ".parquet" else _lines
    return lambda: _in_order(read(path))


def _in_order(records: Iterator[Record]) -> Iterator[Record]:
    latest = 0
    for record in records:
        latest = max(latest, record.recv_ms)
        yield record if record.recv_ms == latest else record._replace(recv_ms=latest)


def _parquet(path: Path) -> Iterator[Record]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, columns=["recv_ts", "frame"]):
                times, frames = (column.to_pylist() for column in batch.columns)
                for number, (seconds, text) in enumerate(zip(times, frames, strict=True)):
                    yield _record(f"{path.name}: row {number}", {"recv_ts": seconds, "frame": text})
    except (pyarrow.ArrowException, KeyError) as error:
        raise CaptureError(f"{path.name}: {error}") from None


def _lines(path: Path) -> Iterator[Record]:
    number = 0
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                value = orjson.loads(line)
                if not isinstance(value, dict):
                    raise CaptureError(f"{path.name}: line {number}: not an object")
                yield _record(f"{path.name}: line {number}", value)
    except orjson.JSONDecodeError as error:
        raise CaptureError(f"{path.name}: line {number}: {error}") from None
    except (EOFError, OSError) as error:
        raise CaptureError(f"{path.name}: after line {number}: {error}") from None


def _record(where: str, value: dict[str, Any]) -> Record:
    text = value.get("frame", value.get("raw_frame"))
    if not isinstance(text, str):
        raise CaptureError(f"{where}: frame is missing or no text")
    frame = text.encode()
    channel = value.get("channel", "binance" if frame.startswith(b'{"stream"') else "polymarket")
    if channel not in CHANNELS:
        raise CaptureError(f"{where}: channel {channel!r}")
    return Record(_received_ms(where, value), channel, frame)


def _received_ms(where: str, value: dict[str, Any]) -> int:
    try:
        if "recv_ms" in value:
            return int(value["recv_ms"])
        if "recv_ts_us" in value:
            return int(value["recv_ts_us"]) // 1000
        if "recv_ts" in value:
            return round(float(value["recv_ts"]) * 1e3)
        return round(datetime.fromisoformat(value["received_at"]).timestamp() * 1e3)
    except (KeyError, TypeError, ValueError) as error:
        raise CaptureError(f"{where}: time of receipt: {error!r}") from None
