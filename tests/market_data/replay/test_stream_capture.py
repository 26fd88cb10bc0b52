"""Captures: what is written is read, what others recorded is read, what is damaged is named."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

import orjson
import pytest

from market_data.errors import CaptureError
from market_data.replay.stream_capture import Record, read_capture, write_capture
from market_data.replay.stream_simulate import StreamDay, simulate_records

DAY = StreamDay(n_conditions=3, duration_s=30, n_jumps=0, resolved_share=0.5)


def test_a_capture_comes_back_as_it_was_and_as_often_as_asked(tmp_path: Path) -> None:
    records = list(simulate_records(DAY))

    assert write_capture(tmp_path / "day.jsonl.gz", records) == len(records)
    capture = read_capture(tmp_path / "day.jsonl.gz")

    assert list(capture()) == records
    assert list(capture()) == records


def test_a_capture_is_read_as_it_is_asked_for(tmp_path: Path) -> None:
    write_capture(tmp_path / "day.jsonl.gz", simulate_records(DAY))
    damaged = gzip.decompress((tmp_path / "day.jsonl.gz").read_bytes()) + b'{"recv_ms": 1}\n'
    (tmp_path / "damaged.jsonl").write_bytes(damaged)

    capture = read_capture(tmp_path / "damaged.jsonl")

    assert len(list(itertools.islice(capture(), 10))) == 10
    with pytest.raises(CaptureError, match=r"damaged.jsonl: line \d+: frame is missing"):
        list(capture())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{", "line 1: unexpected end"),
        (b"[1]", "line 1: not an object"),
        (b'{"frame": "{}"}', "line 1: time of receipt"),
        (b'{"frame": "{}", "recv_ms": "soon"}', "line 1: time of receipt"),
        (b'{"frame": "{}", "received_at": "yesterday"}', "line 1: time of receipt"),
        (b'{"frame": 3, "recv_ms": 1}', "line 1: frame"),
        (b'{"frame": "{}", "recv_ms": 1, "channel": "radio"}', "line 1: channel 'radio'"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    (tmp_path / "bad.jsonl").write_bytes(line + b"\n")

    with pytest.raises(CaptureError, match=f"bad.jsonl: {message}"):
        list(read_capture(tmp_path / "bad.jsonl")())


def test_a_file_that_ends_too_early_is_named(tmp_path: Path) -> None:
    write_capture(tmp_path / "day.jsonl.gz", simulate_records(DAY))
    whole = (tmp_path / "day.jsonl.gz").read_bytes()
    (tmp_path / "day.jsonl.gz").write_bytes(whole[: len(whole) // 2])

    with pytest.raises(CaptureError, match=r"day.jsonl.gz: after line \d+"):
        list(read_capture(tmp_path / "day.jsonl.gz")())
    (tmp_path / "no.parquet").write_bytes(b"PAR1")
    with pytest.raises(CaptureError, match=r"no\.parquet"):
        list(read_capture(tmp_path / "no.parquet")())
    with pytest.raises(CaptureError, match="no such file"):
        read_capture(tmp_path / "absent.jsonl")


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([Record(2, "polymarket", b"{}"), Record(1, "polymarket", b"{}")], "record 1: recv_ms 1"),
        ([Record(1, "radio", b"{}")], "record 0: channel 'radio'"),
        ([Record(1, "binance", b"\xff")], "record 0: frame"),
    ],
)
def test_refuses_to_write_what_could_not_be_replayed(
    tmp_path: Path, records: list[Record], message: str
) -> None:
    with pytest.raises(CaptureError, match=message):
        write_capture(tmp_path / "bad.jsonl.gz", records)


def test_a_record_that_steps_back_in_time_takes_the_time_of_the_one_before(tmp_path: Path) -> None:
    lines = [{"recv_ts": 5.0, "frame": "{}"}, {"recv_ts": 4.0, "frame": "{}"}]
    (tmp_path / "day.jsonl").write_bytes(b"\n".join(map(orjson.dumps, lines)))

    assert [record.recv_ms for record in read_capture(tmp_path / "day.jsonl")()] == [5000, 5000]


@pytest.mark.parametrize(
    ("name", "channel", "count"),
    [
        ("clob_ws_book_btc5m.parquet", "polymarket", 111_881),
        ("clob_ws_book_sample.jsonl.gz", "polymarket", 3_000),
        ("clob_ws_price_change_eth15m.jsonl", "polymarket", 19),
        ("binance_futures_btcusdt_20230405.jsonl.gz", "binance", 60_381),
        ("binance_futures_binance_futures_ws_1_0.jsonl.gz", "binance", 1_535),
    ],
)
def test_recorded_streams_of_others_are_read(
    recorded: Path, name: str, channel: str, count: int
) -> None:
    records, before = 0, 0
    for record in read_capture(recorded / "ws" / name)():
        records += 1
        assert record.channel == channel
        assert record.recv_ms >= before > -1
        before = record.recv_ms

    assert records == count
    assert 1_600_000_000_000 < before < 1_900_000_000_000
