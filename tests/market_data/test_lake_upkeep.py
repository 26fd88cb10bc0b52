"""Upkeep changes files and never a row."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from market_data.lake import Lake
from market_data.lake_upkeep import tidy

BASE = datetime(2026, 9, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]
NOW = timedelta(0)


@pytest.fixture
def lake(tmp_path: Path, snapshot_rows: Rows) -> Lake:
    """Five commits of one day, so five generations of small files."""
    lake = Lake(tmp_path / "lake")
    for n in range(5):
        rows = [(f"m{k}", BASE + timedelta(minutes=n), 0.1 * n) for k in range(3)]
        lake.upsert("market_snapshot", snapshot_rows(rows))
    return lake


def stored_files(lake: Lake) -> set[str]:
    return {file.name for file in Path(lake.url("market_snapshot")).rglob("*.parquet")
            if "_delta_log" not in file.parts}  # fmt: skip


def test_small_files_become_one_and_no_row_changes(lake: Lake) -> None:
    before = lake.read("market_snapshot").sort("market_id", "ts")
    done = tidy(lake, "market_snapshot", keep=NOW)
    assert done.merged_from > 1
    assert done.merged_into == 1
    assert lake.read("market_snapshot").sort("market_id", "ts").equals(before)
    assert len(stored_files(lake)) == 1
    assert sum(map(len, lake.files("market_snapshot").values())) == 1


def test_a_second_upkeep_makes_no_commit(lake: Lake) -> None:
    tidy(lake, "market_snapshot", keep=NOW)
    version = lake.version("market_snapshot")
    done = tidy(lake, "market_snapshot", keep=NOW)
    assert (done.merged_from, done.removed) == (0, 0)
    assert lake.version("market_snapshot") == version


def test_files_of_young_versions_stay_for_their_readers(lake: Lake) -> None:
    reader = lake.scan("market_snapshot")
    done = tidy(lake, "market_snapshot", keep=timedelta(days=7))
    assert done.removed == 0
    assert reader.collect().height == 15


def test_files_of_a_killed_write_go_when_they_are_old_and_stay_while_they_are_young(
    lake: Lake,
) -> None:
    file = max(Path(lake.url("market_snapshot")).rglob("*.parquet"))
    old, young = (file.with_name(f"part-00000-{name}.parquet") for name in ("old", "young"))
    for orphan in (old, young):
        shutil.copyfile(file, orphan)
    weeks_ago = file.stat().st_mtime - timedelta(days=14).total_seconds()
    os.utime(old, (weeks_ago, weeks_ago))
    before = lake.read("market_snapshot").sort("market_id", "ts")
    assert tidy(lake, "market_snapshot", keep=timedelta(days=7)).removed == 1
    assert (old.exists(), young.exists()) == (False, True)
    assert lake.read("market_snapshot").sort("market_id", "ts").equals(before)


def test_rows_can_be_written_after_upkeep(lake: Lake, snapshot_rows: Rows) -> None:
    tidy(lake, "market_snapshot", keep=NOW)
    lake.upsert("market_snapshot", snapshot_rows([("m0", BASE, 0.9), ("new", BASE, 0.5)]))
    stored = lake.read("market_snapshot")
    assert stored.height == 16
    assert stored.filter(pl.col("market_id") == "m0").sort("ts")["p_yes"][0] == 0.9


def test_a_table_that_does_not_exist_is_left_alone(lake: Lake) -> None:
    assert tidy(lake, "scoreboard").removed == 0
    assert lake.version("scoreboard") is None
