"""A lake and its raw files on an object store: moto's server, which speaks S3, on loopback."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import boto3
import polars as pl

from market_data.lake import Lake
from market_data.lake_upkeep import tidy
from market_data.raw import RawAnswer, RawStore

BASE = datetime(2026, 9, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]


def test_a_lake_on_an_object_store_does_what_one_in_a_folder_does(
    bucket: str, snapshot_rows: Rows
) -> None:
    lake = Lake(f"{bucket}/one")
    rows = snapshot_rows([("a", BASE, 0.1), ("b", BASE + timedelta(days=1), 0.2)])
    assert lake.version("market_snapshot") is None
    assert lake.upsert("market_snapshot", rows).rows_new == 2
    assert lake.upsert("market_snapshot", rows).rows_unchanged == 2
    lake.upsert("market_snapshot", snapshot_rows([("a", BASE, 0.3)]))
    assert lake.read("market_snapshot").sort("market_id")["p_yes"].to_list() == [0.3, 0.2]
    assert lake.read("market_snapshot", days=("2026-09-02", "2026-09-02")).height == 1
    assert list(lake.files("market_snapshot")) == ["2026-09-01", "2026-09-02"]
    assert lake.remove_days("market_snapshot", before="2026-09-02") == 1


def test_two_writers_on_an_object_store_lose_nothing(bucket: str, snapshot_rows: Rows) -> None:
    def write(number: int) -> None:
        rows = [(f"m{number}", BASE + timedelta(minutes=k), 0.5) for k in range(5)]
        Lake(f"{bucket}/two").upsert("market_snapshot", snapshot_rows(rows))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(8)))
    stored = Lake(f"{bucket}/two").read("market_snapshot")
    assert stored.height == stored.select("market_id", "ts").n_unique() == 40


def test_upkeep_works_on_an_object_store(bucket: str, snapshot_rows: Rows) -> None:
    lake = Lake(f"{bucket}/three")
    for number in range(4):
        lake.upsert("market_snapshot", snapshot_rows([(f"m{number}", BASE, 0.5)]))
    done = tidy(lake, "market_snapshot", keep=timedelta(0))
    assert done.merged_from > 1
    assert done.removed > 0
    assert lake.read("market_snapshot").height == 4


def test_raw_answers_are_kept_on_an_object_store(bucket: str) -> None:
    store = RawStore(f"{bucket}/raw")
    answers = [RawAnswer({"page": 1}, b'{"x": [1,\n 2]}'), RawAnswer({"page": 2}, b"[]")]
    first, again = store.put("venue/markets", answers), store.put("venue/markets", answers)
    assert (first.is_new, again.is_new) == (True, False)
    assert [answer.body for answer in store.read(first)] == [b'{"x": [1,  2]}', b"[]"]
    found = boto3.client("s3").list_objects_v2(Bucket=bucket.removeprefix("s3://"), Prefix="raw/")[
        "Contents"
    ]
    assert [entry["Key"] for entry in found] == [f"raw/{first.path}"]
