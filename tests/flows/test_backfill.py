"""Backfill: each day as of its end, whatever ran before, beside it or instead of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.backfill import backfill, days_between
from flows.backfill_days import AT_ONCE, IN_ORDER, end_of
from flows.runs import FlowError, Run
from flows.settings import FlowSettings
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay
from market_data.schemas import TABLES

Contents = dict[str, pl.DataFrame]
FIRST, LAST = date(2026, 9, 27), date(2026, 9, 30)
DAYS = [str(day) for day in days_between(FIRST, LAST)]
TOO_EARLY = date(2025, 1, 1)


@pytest.fixture(scope="module")
def ingested(
    archive: Archive,
    replay: RunningReplay,
    settings_in: Callable[..., FlowSettings],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The folder of a lake that holds what the venue has, and no calibration."""
    folder = tmp_path_factory.mktemp("ingested")
    settings = settings_in(folder, replay.base_url)
    daily.ingest.fn(as_of=archive.as_of, flow_settings=settings)
    return folder


@pytest.fixture
def lake_of(ingested: Path, tmp_path: Path) -> Callable[..., FlowSettings]:
    """Settings of flows over a copy of the ingested lake."""

    def copy(name: str = "copy", **changes: Any) -> FlowSettings:
        shutil.copytree(ingested / "lake", tmp_path / name)
        return FlowSettings(lake=str(tmp_path / name), raw=str(tmp_path / "raw"), **changes)

    return copy


def statuses(settings: FlowSettings) -> dict[str, str]:
    rows = Lake(settings.lake).read("run_metadata")
    return dict(rows.select("run_id", "status").iter_rows())


def assert_same(found: Contents, expected: Contents) -> None:
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"


def test_a_backfill_leaves_the_tables_of_one_run_after_the_other(
    lake_of: Callable[..., FlowSettings], contents: Callable[[FlowSettings], Contents]
) -> None:
    one_by_one, at_once = lake_of("one"), lake_of("several", backfill_concurrency=4)
    runs = [
        daily.calibrate.fn(as_of=day, flow_settings=one_by_one)
        for day in map(end_of, days_between(FIRST, LAST))
    ]
    run = backfill.fn(FIRST, LAST, at_once)
    assert list(run.stages) == [*(stage.name for stage in daily.SHARED), *DAYS]
    assert run.failures == []
    found, wanted = contents(at_once), contents(one_by_one)
    for tables in (found, wanted):  # the instant of a judgement is that of the run that made it
        tables["question_quality"] = tables["question_quality"].drop("scored_at")
    assert_same(found, wanted)
    expected = {own.run_id: "SUCCESS" for own in [*runs, run]}
    ingestion = {key: value for key, value in statuses(at_once).items() if "ingest" in key}
    assert statuses(at_once) == expected | ingestion


def test_a_day_of_a_backfill_has_every_stage_that_scores_a_day() -> None:
    halves = [stage.name for stage in (*AT_ONCE, *IN_ORDER)]
    assert sorted(halves) == sorted(stage.name for stage in daily.SCORING)


def test_a_second_backfill_changes_nothing(lake_of: Callable[..., FlowSettings]) -> None:
    settings = lake_of()
    backfill.fn(FIRST, LAST, settings)
    lake = Lake(settings.lake)
    tables = [name for name in TABLES if name != "run_metadata"]
    before = {name: lake.version(name) for name in tables}
    again = backfill.fn(FIRST, LAST, settings)
    assert {count.rows_written for count in again.stages.values()} == {0}
    assert {name: lake.version(name) for name in tables} == before


def test_a_dry_run_says_what_would_run_and_why_and_writes_nothing(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of()
    backfill.fn(LAST, LAST, settings)
    versions = {name: Lake(settings.lake).version(name) for name in TABLES}
    said = backfill.fn(FIRST, LAST, settings, dry_run=True, only_failed=True)
    notes = {day: count.note for day, count in said.stages.items()}
    assert notes == dict.fromkeys(DAYS[:-1], "would run: it has no run") | {
        DAYS[-1]: "stays: its run is SUCCESS"
    }
    every = backfill.fn(LAST, LAST, settings, dry_run=True)
    assert every.stages[DAYS[-1]].note == "would run: its run is SUCCESS"
    assert {name: Lake(settings.lake).version(name) for name in TABLES} == versions


def test_only_days_without_a_successful_run_are_done_where_that_is_asked(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of()
    backfill.fn(FIRST, LAST, settings)
    lake = Lake(settings.lake)
    rows = lake.read("run_metadata", pl.col("pipeline") == "daily").sort("interval_end")
    changed = rows.head(3).with_columns(
        status=pl.Series(["FAILED", "PARTIAL_SUCCESS", "RUNNING"]),
        error_stage=pl.Series(["metrics", None, None], dtype=pl.String),
    )
    lake.upsert("run_metadata", changed)
    said = backfill.fn(FIRST, LAST, settings, only_failed=True, dry_run=True)
    assert [count.note for count in said.stages.values()] == [
        "would run: its run is FAILED in metrics",
        "would run: its run is PARTIAL_SUCCESS",
        "would run: its run is RUNNING",
        "stays: its run is SUCCESS",
    ]
    done = backfill.fn(FIRST, LAST, settings, only_failed=True)
    assert [day for day in DAYS if done.stages[day].rows_in] == DAYS[:3]
    assert set(statuses(settings).values()) == {"SUCCESS"}
    nothing = backfill.fn(FIRST, LAST, settings, only_failed=True)
    assert list(nothing.stages) == DAYS


def test_a_day_that_fails_stops_no_other_and_is_named(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of(windows=("1d",))
    until = LAST + timedelta(days=2)  # nothing resolved in the day before its end
    run = backfill.fn(LAST, until, settings)
    assert [day for day in run.stages if run.stages[day].failures] == ["2026-10-01", "2026-10-02"]
    rows = {row["run_id"]: row for row in run.lake.read("run_metadata").to_dicts()}
    own = rows[run.run_id]
    assert own["status"] == "PARTIAL_SUCCESS"
    assert "2026-10-02: metrics: NoDataError: no market with a price" in own["error"]
    assert list(json.loads(own["stage_rows"]))[-3:] == ["2026-09-30", "2026-10-01", "2026-10-02"]
    of_days = [row for key, row in sorted(rows.items()) if key.startswith("daily:")]
    assert [row["status"] for row in of_days] == ["SUCCESS", "FAILED", "FAILED"]
    assert [row["error_stage"] for row in of_days] == [None, "metrics", "metrics"]


def test_a_backfill_of_which_every_day_fails_has_failed(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of()
    with pytest.raises(FlowError, match="every day failed: 2025-01-01: metrics: NoDataError"):
        backfill.fn(TOO_EARLY, TOO_EARLY + timedelta(days=1), settings)
    assert {s for key, s in statuses(settings).items() if "ingest" not in key} == {"FAILED"}


def test_a_newer_scoreboard_stays(lake_of: Callable[..., FlowSettings], archive: Archive) -> None:
    settings = lake_of()
    newest = daily.calibrate.fn(as_of=archive.as_of, flow_settings=settings)
    before = newest.lake.version("scoreboard")
    run = backfill.fn(FIRST, LAST - timedelta(days=1), settings)
    assert run.lake.version("scoreboard") == before
    assert set(run.lake.read("scoreboard")["run_id"]) == {newest.run_id}


def test_ingestion_comes_first_where_it_is_asked_for(
    settings_for: Callable[..., FlowSettings], replay: RunningReplay, undisturbed: Run
) -> None:
    run = backfill.fn(LAST, LAST, settings_for(replay.base_url), with_ingestion=True)
    assert list(run.stages)[:2] == ["markets", "outcomes"]
    scores = [one.lake.read("calibration_metrics").drop("run_id") for one in (run, undisturbed)]
    assert scores[0].sort("window", "segment_key").equals(scores[1].sort("window", "segment_key"))


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        (LAST, FIRST, "lies behind the last day"),
        (date(2010, 1, 1), LAST, "at most 3660 at once"),
    ],
)
def test_a_range_that_is_none_is_refused(first: date, last: date, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        days_between(first, last)


def test_a_day_that_the_schedule_has_scored_is_left_alone_where_only_others_are_asked_for(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of()
    half_an_hour_later = end_of(LAST) + timedelta(minutes=30)
    daily.calibrate.fn(half_an_hour_later, settings)
    planned = backfill.fn(LAST, LAST, settings, only_failed=True, dry_run=True)
    assert [count.note for count in planned.stages.values()] == ["stays: its run is SUCCESS"]


def test_days_of_which_nobody_can_know_anything_yet_are_refused(
    lake_of: Callable[..., FlowSettings],
) -> None:
    settings = lake_of()
    with pytest.raises(ValueError, match="lies in the future: prices are known until 2026-"):
        backfill.fn(date(2990, 1, 1), date(2990, 1, 2), settings)
    assert Lake(settings.lake).read("run_metadata", pl.col("pipeline") == "backfill").is_empty()
