"""A full disk, a damaged file, a clock that jumps: named, and nothing is lost or there twice."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.errors import TableDamaged
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, serve

Contents = dict[str, pl.DataFrame]
MakeSettings = Callable[..., FlowSettings]
ReadContents = Callable[[FlowSettings], Contents]

FULL_DISK = """
import json, resource, signal, sys
from datetime import datetime
from flows import daily
from flows.settings import FlowSettings
job = json.loads(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # a write that is too long fails, as on a full disk
resource.setrlimit(resource.RLIMIT_FSIZE, (job["bytes"], job["bytes"]))
daily.daily.fn(datetime.fromisoformat(job["as_of"]), FlowSettings(**job["settings"]))
"""


def assert_same(found: Contents, expected: Contents) -> None:
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"


@pytest.mark.parametrize(
    "most_bytes",
    [pytest.param(3_000, marks=pytest.mark.soak), 20_000,
     pytest.param(60_000, marks=pytest.mark.soak)],
)  # fmt: skip
def test_a_write_that_does_not_fit_fails_the_run_and_the_next_one_completes_it(
    most_bytes: int, archive: Archive, replay: RunningReplay, settings_for: MakeSettings,
    contents: ReadContents, expected: Contents,
) -> None:  # fmt: skip
    settings = settings_for(replay.base_url)
    job = {"settings": settings.model_dump(mode="json"), "as_of": archive.as_of.isoformat()}
    ended = subprocess.run(
        [sys.executable, "-c", FULL_DISK, json.dumps({**job, "bytes": most_bytes})],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 1, ended.stderr
    assert "File too large" in ended.stderr
    statuses = Lake(settings.lake).read("run_metadata")["status"].to_list()
    assert statuses in ([], ["RUNNING"], ["FAILED"])
    daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
    assert_same(contents(settings), expected)


@pytest.fixture
def copied(undisturbed: Run, tmp_path: Path) -> FlowSettings:
    """Settings over a copy of the undisturbed lake."""
    shutil.copytree(undisturbed.settings.lake, tmp_path / "lake")
    return undisturbed.settings.model_copy(update={"lake": str(tmp_path / "lake")})


@pytest.mark.parametrize("table", ["label_status", "market_snapshot", "cutoff_snapshot"])
def test_a_damaged_file_fails_the_run_with_its_table_and_is_not_written_over(
    table: str, copied: FlowSettings, undisturbed: Run
) -> None:
    lake = Lake(copied.lake)
    file = max(Path(lake.url(table)).rglob("*.parquet"))
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2])
    version = lake.version(table)
    with pytest.raises(TableDamaged, match=f"table '{table}': "):
        daily.calibrate.fn(undisturbed.interval_end, copied)
    (row,) = lake.read("run_metadata").to_dicts()
    assert row["status"] == "FAILED"
    assert f"TableDamaged: table '{table}': " in row["error"]
    assert file.name in row["error"]
    assert lake.version(table) == version
    file.write_bytes(whole)
    daily.calibrate.fn(undisturbed.interval_end, copied)
    assert lake.read("run_metadata")["status"].to_list() == ["SUCCESS"]


def test_a_clock_that_goes_back_loses_nothing_and_the_run_says_which_scoreboard_stays(
    copied: FlowSettings, contents: ReadContents, expected: Contents, undisturbed: Run
) -> None:
    earlier = undisturbed.interval_end - timedelta(days=2)
    run = daily.calibrate.fn(earlier, copied)
    (row,) = run.lake.read("run_metadata", pl.col("interval_end") == earlier).to_dicts()
    said = json.loads(row["stage_rows"])["scoreboard"]["note"]
    assert said == "the scoreboard of 2026-10-01 00:00 UTC is newer and stays"
    assert row["status"] == "SUCCESS"
    again = daily.calibrate.fn(undisturbed.interval_end, copied)
    found = contents(copied)
    for table in ("market_snapshot", "label_status", "cutoff_snapshot", "feature_frame",
                  "scoreboard", "recalibration_state", "recalibration_choice"):  # fmt: skip
        assert found[table].equals(expected[table]), f"table {table} differs"
    assert again.lake.read("run_metadata").height == 2


def ahead(archive: Archive, by: timedelta) -> Archive:
    """The archive of a venue whose clock runs ahead: its newest prices lie in the future."""
    t = pl.col("t")
    late = t.list.last() + int(by.total_seconds())
    moved = pl.concat_list(t.list.head(t.list.len() - 1), late)
    return replace(archive, prices=archive.prices.with_columns(moved.alias("t")))


def test_prices_of_the_future_are_kept_and_no_run_before_them_uses_them(
    archive: Archive, settings_for: MakeSettings, replay: RunningReplay
) -> None:
    with serve(ahead(archive, timedelta(days=20_000))) as venue:
        settings = settings_for(venue.base_url)
        run = daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
        first = run.lake.read("market_snapshot")
        late = first.filter(pl.col("ts") > run.now()).height
        said = run.stages["prices"].note
        assert said == f"{late} prices lie in the future of this machine's clock"
        daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
        assert run.lake.read("market_snapshot").height == first.height
    board: Any = run.lake.read("scoreboard")["price_ts"].max()
    assert isinstance(board, datetime)
    assert board <= archive.as_of
    assert run.lake.read("forecast_band")["ts"].max() <= archive.as_of  # type: ignore[operator]
    daily.daily.fn(as_of=archive.as_of, flow_settings=settings_for(replay.base_url))
    healed = run.lake.read("market_snapshot", pl.col("ts") <= archive.as_of)
    assert healed.n_unique(["ts", "market_id"]) == healed.height
