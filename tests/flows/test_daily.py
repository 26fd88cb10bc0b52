"""The daily flow: the same tables however often it runs, and no silence about what went wrong."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from flows import daily, pipeline
from flows.daily import CALIBRATION, INGESTION
from flows.runs import NoDataError, Run
from flows.settings import FlowSettings
from market_data.errors import VenueUnreachable
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, serve
from market_data.schemas import TABLES

STAGES = [stage.name for stage in (*INGESTION, *CALIBRATION)]
Contents = dict[str, pl.DataFrame]
ReadContents = Callable[[FlowSettings], Contents]
ReadRow = Callable[[Run | FlowSettings], dict[str, Any]]
MakeSettings = Callable[..., FlowSettings]


def assert_same(found: Contents, expected: Contents) -> None:
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"


def run_daily(archive: Archive, settings: FlowSettings) -> Run:
    return daily.daily.fn(as_of=archive.as_of, flow_settings=settings)


def test_a_run_performs_every_stage_and_says_so(undisturbed: Run, run_row: ReadRow) -> None:
    assert list(undisturbed.stages) == STAGES
    empty = [name for name, count in undisturbed.stages.items() if not count.rows_out]
    assert set(empty) <= {"outcomes", "matches", "drift"}  # one venue, twelve days
    row = run_row(undisturbed)
    assert (row["status"], row["error_stage"], row["error"]) == ("SUCCESS", None, None)
    assert list(json.loads(row["stage_rows"])) == STAGES
    assert row["finished_at"] >= row["started_at"]
    assert row["interval_end"] - row["interval_start"] == timedelta(days=90)


def test_a_second_run_changes_nothing_and_makes_no_commit(
    archive: Archive, replay: RunningReplay, settings_for: MakeSettings, contents: ReadContents
) -> None:
    settings = settings_for(replay.base_url)
    run_daily(archive, settings)
    lake = Lake(settings.lake)
    tables = [name for name in TABLES if name not in ("run_metadata", "raw_file")]
    before, versions = contents(settings), {name: lake.version(name) for name in tables}
    again = run_daily(archive, settings)
    assert {name: count.rows_written for name, count in again.stages.items()} == dict.fromkeys(
        STAGES, 0
    )
    assert {name: lake.version(name) for name in tables} == versions
    assert_same(contents(settings), before)


def test_faults_at_the_venue_change_no_table(
    archive: Archive, settings_for: MakeSettings, contents: ReadContents, expected: Contents
) -> None:
    plan = dataclasses.replace(FaultPlan.everything(0.15, seed=5), latency_ms=1.0)
    with serve(archive, faults=plan) as shaky:
        settings = settings_for(shaky.base_url)
        run = run_daily(archive, settings)
        assert shaky.faults is not None
        assert all(shaky.faults.injected[kind] > 0 for kind in ("rate_limit", "drop", "truncate"))
    assert run.failures == []
    assert_same(contents(settings), expected)


def test_a_venue_without_markets_fails_the_run(
    archive: Archive, settings_for: MakeSettings, run_row: ReadRow
) -> None:
    nothing = dataclasses.replace(archive, markets=[], events=[], prices=archive.prices.clear())
    with serve(nothing) as empty:
        settings = settings_for(empty.base_url)
        with pytest.raises(NoDataError, match="lists no market"):
            run_daily(archive, settings)
    row = run_row(settings)
    assert (row["status"], row["error_stage"]) == ("FAILED", "markets")
    assert "lists no market" in row["error"]


def test_a_venue_without_prices_fails_the_run(
    archive: Archive, settings_for: MakeSettings, run_row: ReadRow
) -> None:
    closed = [market for market in archive.markets if market["closed"]]
    silent = dataclasses.replace(archive, markets=closed, prices=archive.prices.clear())
    with serve(silent) as venue:
        settings = settings_for(venue.base_url)
        with pytest.raises(NoDataError, match="no price of any market"):
            run_daily(archive, settings)
    row = run_row(settings)
    assert (row["status"], row["error_stage"]) == ("FAILED", "prices")
    assert list(json.loads(row["stage_rows"])) == [
        "markets", "outcomes", "matches", "open_interest",
    ]  # fmt: skip


def test_a_window_in_which_nothing_resolved_fails_the_run(
    archive: Archive, replay: RunningReplay, settings_for: MakeSettings, run_row: ReadRow
) -> None:
    settings = settings_for(replay.base_url)
    with pytest.raises(NoDataError, match="resolved in the 30d and 90d before 2025-01-01"):
        daily.daily.fn(as_of=datetime(2025, 1, 1, tzinfo=UTC), flow_settings=settings)
    row = run_row(settings)
    assert (row["status"], row["error_stage"]) == ("FAILED", "metrics")
    assert Lake(settings.lake).version("scoreboard") is None


def test_one_window_without_outcomes_is_a_partial_success_that_names_it(
    archive: Archive, replay: RunningReplay, settings_for: MakeSettings, run_row: ReadRow
) -> None:
    settings = settings_for(replay.base_url, windows=("1d", "90d"))
    until = archive.as_of + timedelta(days=5)
    run = daily.daily.fn(as_of=until, flow_settings=settings)
    row = run_row(run)
    assert (row["status"], row["error_stage"]) == ("PARTIAL_SUCCESS", None)
    assert "metrics: no market with a price and an outcome resolved in the 1d" in row["error"]
    assert set(run.lake.read("calibration_metrics")["window"]) == {"90d"}


def test_a_venue_that_is_down_fails_the_run_and_the_next_one_succeeds(
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    run_row: ReadRow,
    contents: ReadContents,
    expected: Contents,
) -> None:
    with serve(archive) as gone:
        nowhere = gone.base_url
    settings = settings_for(nowhere, venue_attempts=2)
    with pytest.raises(VenueUnreachable):
        run_daily(archive, settings)
    failed = run_row(settings)
    assert (failed["status"], failed["error_stage"]) == ("FAILED", "markets")
    assert f"VenueUnreachable: {nowhere}/gamma/markets/keyset: no answer" in failed["error"]
    back = settings_for(replay.base_url)
    run_daily(archive, back)
    row = run_row(back)
    assert (row["run_id"], row["status"], row["error"]) == (failed["run_id"], "SUCCESS", None)
    assert_same(contents(back), expected)


def test_histories_that_fail_for_good_are_named_and_come_with_the_next_run(
    archive: Archive, settings_for: MakeSettings, run_row: ReadRow, contents: ReadContents,
    replay: RunningReplay, expected: Contents,
) -> None:  # fmt: skip
    plan = FaultPlan(server_error=0.3, seed=9)
    with serve(archive, faults=plan) as shaky:
        # One attempt: what fails once fails for good. The listings come from the sound venue.
        settings = settings_for(
            replay.base_url, clob_url=f"{shaky.base_url}/clob", venue_attempts=1
        )
        run = run_daily(archive, settings)
    failed = run.stages["prices"].failures
    assert failed > 0
    row = run_row(run)
    assert row["status"] == "PARTIAL_SUCCESS"
    assert f"prices: {failed} price histories failed for good: polymarket:" in row["error"]
    assert "(VenueServerError)" in row["error"]
    letters = run.lake.read("dead_letter", pl.col("reason") == "VenueServerError")
    assert letters.height == failed
    without = set(letters["record_id"])
    assert without.isdisjoint(
        run.lake.read("market_snapshot", pl.col("bid").is_null())["market_id"]
    )
    healed = run_daily(archive, settings_for(replay.base_url))
    assert healed.failures == []
    assert run_row(healed)["status"] == "SUCCESS"
    found = contents(settings)
    served = pl.col("version").is_in(found["scoreboard"]["recalibration_version"].implode())
    kept = {name: found[name] for name in ("dead_letter", "recalibration_choice")}
    in_force = {"recalibration_state": found["recalibration_state"].filter(served)}
    assert found["recalibration_state"].height > in_force["recalibration_state"].height
    assert_same(found | in_force, expected | kept)


def test_the_same_work_has_the_same_id_and_other_work_another(tmp_path: Any) -> None:
    settings = FlowSettings(lake=str(tmp_path / "a"), raw=str(tmp_path / "a"))
    at = datetime(2026, 10, 1, 12, 30, 15, 900, tzinfo=UTC)
    first = pipeline.begin(at, settings)
    elsewhere = settings.model_copy(update={"lake": str(tmp_path / "b"), "venue_rate": 1.0})
    same = (
        pipeline.begin(at, settings),
        pipeline.begin(at, elsewhere),
        pipeline.begin(at.astimezone(timezone(timedelta(hours=9))), settings),
        pipeline.begin(at.replace(microsecond=0), settings),
    )
    assert {run.run_id for run in same} == {first.run_id}
    assert {run.interval_end for run in same} == {first.interval_end}
    windows = settings.model_copy(update={"windows": ("7d",)})
    others = (
        pipeline.begin(at, windows),
        pipeline.begin(at, settings.model_copy(update={"seed": 1})),
        pipeline.begin(at + timedelta(seconds=1), settings),
        pipeline.begin(at, settings, pipeline="ingest"),
    )
    assert len({run.run_id for run in (first, *others)}) == 5
    assert pipeline.begin(at, windows).config_hash != first.config_hash


def test_an_instant_without_a_time_zone_is_refused(tmp_path: Any) -> None:
    settings = FlowSettings(lake=str(tmp_path), raw=str(tmp_path))
    with pytest.raises(ValueError, match="time zone"):
        pipeline.begin(datetime(2026, 10, 1), settings)  # noqa: DTZ001


def test_progress_tells_the_beginning_and_the_end_of_every_stage(
    archive: Archive, replay: RunningReplay, settings_for: MakeSettings
) -> None:
    told: list[tuple[str, int, int | None]] = []

    def note(stage: str, done: int, total: int | None) -> None:
        told.append((stage, done, total))

    run = daily.daily.fn(archive.as_of, settings_for(replay.base_url), note)
    assert [stage for stage, done, total in told if (done, total) == (0, None)] == STAGES
    for stage, count in run.stages.items():
        assert told[len(told) - 1 - [t[0] for t in reversed(told)].index(stage)] == (
            stage, count.rows_out, count.rows_out,
        )  # fmt: skip
    batches = [t[1] for t in told if t[0] == "prices" and t[2] and t[2] <= 280]
    assert batches[0] == 250
    assert len(batches) == 2


def test_ingest_and_calibrate_together_are_the_daily_run(
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: ReadContents,
    undisturbed: Run,
    expected: Contents,
) -> None:
    settings = settings_for(replay.base_url)
    ingested = daily.ingest.fn(as_of=archive.as_of, flow_settings=settings)
    calibrated = daily.calibrate.fn(as_of=archive.as_of, flow_settings=settings)
    assert [*ingested.stages, *calibrated.stages] == STAGES
    assert ingested.run_id != calibrated.run_id == undisturbed.run_id
    assert_same(contents(settings), expected)


def test_calibrating_an_empty_lake_fails_in_the_stage_that_was_under_way(
    settings_for: MakeSettings, run_row: ReadRow
) -> None:
    settings = settings_for("http://127.0.0.1:9")
    with pytest.raises(NoDataError):
        daily.calibrate.fn(as_of=datetime(2026, 10, 1, tzinfo=UTC), flow_settings=settings)
    assert run_row(settings)["error_stage"] == "metrics"
