"""Days without their daily run are noticed, named, and caught up with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.missed_runs import catch_up, missed_days
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.replay.server import RunningReplay

DAY = timedelta(days=1)


@pytest.fixture
def run_after(undisturbed: Run, tmp_path: Path) -> Callable[..., Run]:
    """A daily run some time after the undisturbed one, over a copy of its lake."""
    shutil.copytree(undisturbed.settings.lake, tmp_path / "lake")

    def build(later: timedelta, **changes: Any) -> Run:
        settings = undisturbed.settings.model_copy(
            update={"lake": str(tmp_path / "lake"), **changes}
        )
        until = undisturbed.interval_end + later
        lake = type(undisturbed.lake)(tmp_path / "lake")
        return replace(
            undisturbed, lake=lake, settings=settings, interval_end=until,
            interval_start=until - timedelta(days=90), stages={}, under_way=None,
        )  # fmt: skip

    return build


def test_days_are_missed_since_the_last_run_and_within_the_setting(
    run_after: Callable[..., Run],
) -> None:
    assert missed_days(run_after(DAY)) == []
    assert missed_days(run_after(3 * DAY)) == [date(2026, 10, 1), date(2026, 10, 2)]
    late = timedelta(days=3, hours=9)  # a schedule does not run at midnight sharp
    assert missed_days(run_after(late)) == [date(2026, 10, 1), date(2026, 10, 2)]
    assert missed_days(run_after(9 * DAY, catch_up_days=2)) == [
        date(2026, 10, 7), date(2026, 10, 8),
    ]  # fmt: skip
    assert missed_days(run_after(9 * DAY, catch_up_days=0)) == []


def test_nothing_is_missed_before_the_first_run_of_a_configuration(
    run_after: Callable[..., Run],
) -> None:
    assert missed_days(run_after(5 * DAY, windows=("7d",))) == []
    assert missed_days(run_after(-DAY)) == []


def test_a_day_whose_run_did_not_succeed_is_missed(run_after: Callable[..., Run]) -> None:
    run = run_after(2 * DAY, catch_up_days=5)
    row = run.lake.read("run_metadata")
    run.lake.upsert("run_metadata", row.with_columns(status=pl.lit("PARTIAL_SUCCESS")))
    assert missed_days(run) == [date(2026, 9, 30), date(2026, 10, 1)]


def test_a_daily_run_catches_up_first_and_says_so(
    replay: RunningReplay, settings_for: Callable[..., FlowSettings], undisturbed: Run
) -> None:
    settings = settings_for(replay.base_url)
    first, until = undisturbed.interval_end - 2 * DAY, undisturbed.interval_end
    daily.daily.fn(as_of=first, flow_settings=settings)
    run = daily.daily.fn(as_of=until, flow_settings=settings)
    assert list(run.stages).index("catch_up") == list(run.stages).index("metrics") - 1
    assert run.stages["catch_up"].note == "no daily run of 2026-09-29: caught up"
    rows = run.lake.read("run_metadata").sort("interval_end").to_dicts()
    assert [(row["interval_end"], row["status"]) for row in rows] == [
        (until - k * DAY, "SUCCESS") for k in (2, 1, 0)
    ]
    assert "catch_up" in json.loads(rows[-1]["stage_rows"])
    again = daily.daily.fn(as_of=until, flow_settings=settings)
    assert "catch_up" not in again.stages


def test_a_day_that_cannot_be_caught_up_with_is_named_and_fails_nothing_else(
    run_after: Callable[..., Run],
) -> None:
    run = run_after(120 * DAY, catch_up_days=1)
    done = catch_up(run)
    assert done.failures == 0
    assert done.note.startswith(
        "no daily run of 2027-01-27: caught up, except 2027-01-27 (metrics: NoDataError: "
    )
