"""A run that is killed at any instant and started again ends with the tables of a calm one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from flows import daily
from flows.backfill import backfill
from flows.daily import CALIBRATION, INGESTION
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay

STAGES = [stage.name for stage in (*INGESTION, *CALIBRATION)]
MakeSettings = Callable[..., FlowSettings]
Start = Callable[..., tuple[int, float]]


@pytest.fixture(scope="module")
def start(archive: Archive) -> Iterator[Start]:
    """Runs the flow in a child process until it is killed; (signal number or 0, seconds)."""
    script = Path(__file__).with_name("killed_runs.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None

        def begin(settings: FlowSettings, **end: Any) -> tuple[int, float]:
            job = {"settings": settings.model_dump(), "as_of": archive.as_of.isoformat(), **end}
            process.stdin.write(json.dumps(job) + "\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            code, seconds = process.stdout.readline().split()  # type: ignore[union-attr]
            return -int(code), float(seconds)

        yield begin
        process.stdin.close()
        assert process.wait(20) == 0


def resume(archive: Archive, settings: FlowSettings) -> Run:
    run = daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
    rows = run.lake.read("run_metadata").to_dicts()
    assert [(row["status"], row["error"]) for row in rows] == [("SUCCESS", None)]
    return run


def assert_as_undisturbed(
    found: dict[str, pl.DataFrame], expected: dict[str, pl.DataFrame]
) -> None:
    for table, rows in expected.items():
        assert found[table].equals(rows), f"table {table} differs"


POINTS = [
    ("markets", 2),  # open markets are stored, closed ones are not
    ("open_interest", 3),  # two of three listings are read
    ("prices", 2),  # the first batch of histories is on its way
    ("features", 1),
    ("recalibration", 1),
    ("scoreboard", 2),  # everything is committed except the run's own success
]
AT_THE_BEGINNING = [  # the stage has begun, and committed nothing
    pytest.param(stage, 1, marks=pytest.mark.soak)
    for stage in STAGES
    if stage not in ("features", "recalibration")
]


@pytest.mark.parametrize(("stage", "nth"), [*POINTS, *AT_THE_BEGINNING])
def test_a_run_killed_at_a_stage_goes_on_to_the_same_tables(
    stage: str,
    nth: int,
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: Any,
    start: Start,
    undisturbed: Run,
    expected: Any,
) -> None:
    settings = settings_for(replay.base_url)
    assert start(settings, point=[stage, nth])[0] == signal.SIGKILL
    left = Lake(settings.lake).read("run_metadata").to_dicts()
    assert [(row["run_id"], row["status"]) for row in left] == [(undisturbed.run_id, "RUNNING")]
    resume(archive, settings)
    assert_as_undisturbed(contents(settings), expected)


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.soak)])
def test_a_run_killed_at_random_moments_goes_on_to_the_same_tables(
    kills: int,
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: Any,
    start: Start,
    expected: Any,
) -> None:
    ended, whole = start(settings_for(replay.base_url, "measured"))
    assert ended == 0
    rng = np.random.default_rng(kills)
    moments = (np.arange(kills) + rng.random(kills)) / kills * whole
    killed = 0
    for i, moment in enumerate(moments.tolist()):
        settings = settings_for(replay.base_url, f"killed-{i}")
        ended, _ = start(settings, seconds=max(moment, 0.001))
        killed += ended == signal.SIGALRM
        assert ended in (0, signal.SIGALRM)
        resume(archive, settings)
        assert_as_undisturbed(contents(settings), expected)
    assert killed >= kills // 2, "most kills came after the run's end"


def test_a_failed_run_becomes_a_success_when_it_is_killed_once_more_and_resumed(
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: Any,
    start: Start,
    expected: Any,
) -> None:
    settings = settings_for(replay.base_url)
    nowhere = settings.model_copy(update={"clob_url": "http://127.0.0.1:9", "venue_attempts": 1})
    with pytest.raises(Exception, match="no answer"):
        daily.daily.fn(as_of=archive.as_of, flow_settings=nowhere)
    assert Lake(settings.lake).read("run_metadata")["status"].to_list() == ["FAILED"]
    assert start(settings, point=["features", 1])[0] == signal.SIGKILL
    assert Lake(settings.lake).read("run_metadata")["status"].to_list() == ["RUNNING"]
    resume(archive, settings)
    made = contents(settings)
    letters = made.pop("dead_letter")
    assert set(letters["reason"]) == {"VenueUnreachable"}  # what failed stays written down
    assert_as_undisturbed(made, {name: rows for name, rows in expected.items() if name in made})


DAYS = ("2026-09-28", "2026-09-30")


@pytest.fixture(scope="module")
def backfilled(
    undisturbed: Run, contents: Any, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, pl.DataFrame]:
    """The tables after a backfill that nothing got in the way of."""
    lake = tmp_path_factory.mktemp("backfilled") / "lake"
    shutil.copytree(undisturbed.settings.lake, lake)
    settings = undisturbed.settings.model_copy(update={"lake": str(lake)})
    backfill.fn(*DAYS, settings)
    return dict(contents(settings))


@pytest.mark.parametrize(
    "end", [{"seconds": 1.0}, {"point": ["days", 1]}, {"point": ["days", 2]}], ids=str
)
def test_a_killed_backfill_goes_on_with_the_days_that_are_left(
    end: dict[str, Any],
    undisturbed: Run,
    backfilled: dict[str, pl.DataFrame],
    contents: Any,
    start: Start,
    tmp_path: Path,
) -> None:
    shutil.copytree(undisturbed.settings.lake, tmp_path / "lake")
    settings = undisturbed.settings.model_copy(update={"lake": str(tmp_path / "lake")})
    assert start(settings, days=DAYS, **end)[0] in (signal.SIGKILL, signal.SIGALRM)
    run = backfill.fn(*DAYS, settings, only_failed=True)
    assert run.failures == []
    assert_as_undisturbed(contents(settings), backfilled)
    assert set(run.lake.read("run_metadata")["status"]) == {"SUCCESS"}
