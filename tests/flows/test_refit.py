"""Refitting: asked for, or due because calibration has drifted; too little for bands is a note."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from flows import daily, pipeline
from flows.conformal_refresh import conformal_refresh
from flows.conformal_settings import ConformalSettings
from flows.refit import refit
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import Lake, polars_schema

AS_OF = datetime(2026, 10, 1, tzinfo=UTC)
Contents = dict[str, pl.DataFrame]
SMALL = ConformalSettings(
    models=("last_value",), min_samples=20, min_events=10, every_steps=1, max_steps=2
)


@pytest.fixture
def settings(undisturbed: Run, tmp_path: Path) -> FlowSettings:
    """Settings over a copy of the undisturbed lake, with few bands to correct."""
    shutil.copytree(undisturbed.settings.lake, tmp_path / "lake")
    changes = {"lake": str(tmp_path / "lake"), "conformal": SMALL}
    return undisturbed.settings.model_copy(update=changes)


def drifted_row(run: Run, *, test: str) -> pl.DataFrame:
    schema = polars_schema("calibration_drift")
    row = {"run_id": run.run_id, "segment_key": "*", "test": test, "drifted": True}
    row |= {"as_of": run.interval_end}
    nulls = {name: None for name in schema if name != "schema_version"}
    return pl.DataFrame([nulls | row], schema={name: schema[name] for name in nulls})


def test_a_refit_fits_though_none_is_due_and_corrects_bands(settings: FlowSettings) -> None:
    later = AS_OF + timedelta(hours=1)
    run = refit.fn(later, settings)
    assert list(run.stages) == ["drift", "recalibration", "conformal_refresh"]
    assert "fitted because it was asked for" in run.stages["recalibration"].note
    newest = run.lake.read("recalibration_choice").sort("chosen_at")["version"][-1]
    assert newest.startswith("20261001T010000Z-")
    assert run.lake.read("conformal_state").height > 0
    rows = run.lake.read("run_metadata", pl.col("interval_end") == later)
    assert dict(rows.select("pipeline", "status").iter_rows()) == {
        "refit": "SUCCESS", "conformal": "SUCCESS",
    }  # fmt: skip


def test_a_second_refit_changes_nothing(
    settings: FlowSettings, contents: Callable[[FlowSettings], Contents]
) -> None:
    refit.fn(AS_OF, settings)
    before = contents(settings)
    again = refit.fn(AS_OF, settings)
    assert [count.rows_written for count in again.stages.values()] == [0, 0, 0]
    found = contents(settings)
    for table, rows in before.items():
        assert found[table].equals(rows), f"table {table} differs"


def test_too_little_for_bands_is_a_note_and_no_failure(
    settings_for: Callable[..., FlowSettings],
) -> None:
    settings = settings_for("http://127.0.0.1:9")
    run = refit.fn(AS_OF, settings)
    assert run.failures == []
    assert run.stages["conformal_refresh"].note.startswith("bands stay as they are: no price")
    rows = Lake(settings.lake).read("run_metadata")
    assert dict(rows.select("pipeline", "status").iter_rows()) == {
        "refit": "SUCCESS", "conformal": "FAILED",
    }  # fmt: skip


@pytest.mark.parametrize(("test", "is_due"), [("REFERENCE", True), ("PERFECT", False)])
def test_a_daily_run_corrects_bands_anew_when_calibration_has_drifted(
    settings: FlowSettings, test: str, is_due: bool
) -> None:
    run = pipeline.begin(AS_OF, settings)
    assert daily.REFRESH not in list(daily.planned(run))
    run.lake.upsert("calibration_drift", drifted_row(run, test=test))
    stages = list(daily.planned(run))
    assert (stages[-1] is daily.REFRESH) == is_due
    if is_due:
        run.stages = {}
        assert conformal_refresh(run).note.startswith("run conformal:2026-10-01T00:00:00Z:")
