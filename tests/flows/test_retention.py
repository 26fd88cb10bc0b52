"""Retention: what is old goes where that is asked for, and nothing else, whoever writes beside."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from pydantic import ValidationError

from flows import daily
from flows.retention import retention
from flows.retention_settings import RetentionSettings
from flows.runs import FlowError, Run
from flows.settings import FlowSettings
from market_data.lake import Lake
from market_data.schemas import TABLES

Contents = dict[str, pl.DataFrame]


@pytest.fixture
def copy_of(undisturbed: Run, tmp_path: Path) -> Callable[..., FlowSettings]:
    """Settings of flows over a copy of the undisturbed lake."""

    def copy(name: str = "lake", **kept: Any) -> FlowSettings:
        shutil.copytree(undisturbed.settings.lake, tmp_path / name)
        shutil.copytree(undisturbed.settings.raw, tmp_path / f"raw-{name}")
        changes: dict[str, Any] = {
            "lake": str(tmp_path / name),
            "raw": str(tmp_path / f"raw-{name}"),
            "retention": RetentionSettings(**kept),
        }
        return undisturbed.settings.model_copy(update=changes)

    return copy


def test_by_default_every_row_stays(
    copy_of: Callable[..., FlowSettings], contents: Callable[[FlowSettings], Contents],
    expected: Contents, undisturbed: Run,
) -> None:  # fmt: skip
    settings = copy_of()
    run = retention.fn(undisturbed.interval_end, settings)
    assert list(run.stages) == ["old_days", "old_runs", "old_answers", "upkeep"]
    assert {run.stages[name].note for name in list(run.stages)[:3]} == {"nothing is old"}
    found = contents(settings)
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"


def test_what_is_old_goes_and_a_second_run_changes_nothing(
    copy_of: Callable[..., FlowSettings], undisturbed: Run
) -> None:
    settings = copy_of(trust_score_days=3, forecast_band_days=1, market_snapshot_days=212)
    until = undisturbed.interval_end
    before = Lake(settings.lake).read("trust_score")
    first = retention.fn(until, settings)
    left = first.lake.read("trust_score")
    assert left.height + first.stages["old_days"].rows_written == before.height
    assert left["ts"].min() >= until - timedelta(days=3)  # type: ignore[operator]
    assert first.stages["old_days"].note == f"removed: trust_score {before.height - left.height:,}"
    later = until + timedelta(days=300)
    today = first.lake.read("market_snapshot").head(1).with_columns(ts=pl.lit(later))
    first.lake.upsert("market_snapshot", today.cast({"ts": pl.Datetime("us", "UTC")}))
    emptied = retention.fn(later, settings)
    assert "market_snapshot" in emptied.stages["old_days"].note
    assert "feature_frame" in emptied.stages["old_days"].note
    tables = [name for name in TABLES if name != "run_metadata"]
    versions = {name: emptied.lake.version(name) for name in tables}
    again = retention.fn(later, settings)
    assert [count.rows_written for count in again.stages.values()] == [0, 0, 0, 0]
    assert {name: again.lake.version(name) for name in tables} == versions


def test_scores_of_old_runs_go_and_those_that_are_published_stay(
    copy_of: Callable[..., FlowSettings], undisturbed: Run
) -> None:
    settings = copy_of(runs=1)
    published = undisturbed.run_id
    for days in (2, 1):
        daily.calibrate.fn(undisturbed.interval_end - timedelta(days=days), settings)
    lake = Lake(settings.lake)
    newest = lake.read("run_metadata").sort("interval_end")["run_id"][-1]
    assert newest == published
    run = retention.fn(undisturbed.interval_end, settings)
    assert "calibration_metrics" in run.stages["old_runs"].note
    for table in ("calibration_metrics", "reliability_curve", "reliability_isotonic"):
        assert set(lake.read(table)["run_id"]) == {published}


def test_answers_as_received_go_only_where_that_is_asked_for(
    copy_of: Callable[..., FlowSettings], undisturbed: Run
) -> None:
    settings = copy_of(raw_days=1)
    lake = Lake(settings.lake)
    names = lake.read("raw_file").sort("sha256")
    old = names.head(2).with_columns(fetched_at=pl.col("fetched_at") - timedelta(days=400))
    # The row's own instant alone is no change of a row: it is put in place of the old one.
    lake.replace_part("raw_file", old.clear(), column="sha256", values=old["sha256"].to_list())
    lake.upsert("raw_file", old)
    latest = names["fetched_at"].max()
    assert latest is not None
    run = retention.fn(latest, settings)  # type: ignore[arg-type]
    assert run.stages["old_answers"].note == "removed: files 2, raw_file 2"
    left = lake.read("raw_file")
    assert set(left["sha256"]) == set(names["sha256"][2:])
    stored = {file.name.split(".")[0] for file in Path(settings.raw).rglob("*.gz")}
    assert stored == set(left["sha256"])


def test_days_that_scores_need_are_refused(
    copy_of: Callable[..., FlowSettings], undisturbed: Run
) -> None:
    with pytest.raises(FlowError, match=r"market_snapshot_days is 30: .* look back 212 days"):
        retention.fn(undisturbed.interval_end, copy_of(market_snapshot_days=30))
    with pytest.raises(ValidationError):
        RetentionSettings(version_days=0)


def test_a_daily_run_at_the_same_time_is_not_harmed(
    copy_of: Callable[..., FlowSettings], contents: Callable[[FlowSettings], Contents],
    expected: Contents, undisturbed: Run,
) -> None:  # fmt: skip
    settings = copy_of(forecast_band_days=1)
    lake = Lake(settings.lake)
    for table in ("cutoff_snapshot", "scoreboard", "calibration_metrics", "label_status"):
        lake.replace(table, lake.read(table).clear())
    until = undisturbed.interval_end
    with ThreadPoolExecutor(1) as pool:
        beside = pool.submit(lambda: [retention.fn(until, settings) for _ in range(4)])
        daily.calibrate.fn(as_of=until, flow_settings=settings)
        assert all(not run.failures for run in beside.result())
    found = contents(settings)
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"
