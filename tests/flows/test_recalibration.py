"""Recalibration in the daily run: fitted when due, chosen once, taken back for good."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calibration_service.recalibration.state import roll_back
from flows import recalibration
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import Lake, conform, polars_schema

AS_OF = datetime(2026, 10, 1, tzinfo=UTC)
EVENTS = 1_200


def stored(table: str, frame: pl.DataFrame) -> pl.DataFrame:
    """The frame as rows of a table; columns that it lacks are null."""
    named = polars_schema(table)
    lacking = [c for c in named if c not in (*frame.columns, "schema_version", "dt")]
    nulls = [pl.lit(None, dtype=named[name]).alias(name) for name in lacking]
    return conform(table, frame.with_columns(nulls))


def history(lake: Lake, slope: Callable[[np.ndarray], np.ndarray]) -> None:
    """Resolved markets of 120 days whose outcomes follow a slope that may change with time.

    Args:
        slope: of the days before `AS_OF`, [N] → [N].
    """
    rng = np.random.default_rng(5)
    x = rng.normal(0.0, 1.5, EVENTS)
    days = rng.uniform(0.5, 119.5, EVENTS)
    yes = rng.random(EVENTS) < 1 / (1 + np.exp(-slope(days) * x))
    ids = [f"m{k}" for k in range(EVENTS)]
    resolved = [AS_OF - timedelta(days=float(day)) for day in days]
    label = pl.Series(np.where(yes, "RESOLVED_TRUE", "RESOLVED_FALSE"))
    facts = pl.DataFrame({"market_id": ids, "resolved_at": resolved})
    lake.upsert("label_status", stored("label_status", facts.with_columns(label=label)))
    registry = pl.DataFrame({"market_id": ids, "event_id": ids, "category": ["sports"] * EVENTS})
    lake.upsert("market_registry", stored("market_registry", registry))
    cutoffs = pl.DataFrame(
        {
            "market_id": ids,
            "cutoff_type": ["T-24h"] * EVENTS,
            "cutoff_ts": [at - timedelta(days=1) for at in resolved],
            "p_yes": 1 / (1 + np.exp(-x)),
            "tte_seconds": [86_400.0] * EVENTS,
            "liquidity_bucket": ["MID"] * EVENTS,
        }
    )
    lake.upsert("cutoff_snapshot", stored("cutoff_snapshot", cutoffs))


@pytest.fixture
def run_at(tmp_path: Path) -> Callable[..., Run]:
    """A run over the lake of this test; the clock goes on by a second at each look."""
    ticks: Iterator[int] = iter(range(10_000))

    def build(as_of: datetime = AS_OF, **parameters: object) -> Run:
        return Run(
            pipeline="daily",
            lake=Lake(tmp_path / "lake"),
            settings=FlowSettings(lake=str(tmp_path / "lake")),
            interval_start=as_of - timedelta(days=90),
            interval_end=as_of,
            now=lambda: AS_OF + timedelta(days=1, seconds=next(ticks)),
            parameters=parameters,
        )

    return build


def test_a_first_run_fits_and_brings_into_force_what_it_fitted(
    run_at: Callable[..., Run],
) -> None:
    run = run_at()
    history(run.lake, lambda days: np.full_like(days, 0.5))
    done = recalibration.recalibration(run)
    assert "there was none; correcting *" in done.note
    served = recalibration.in_force_at(run)
    assert served.version.startswith("20261001T000000Z-")
    assert recalibration.recalibration(run_at(AS_OF + timedelta(days=1))).note == "no fit is due"


def test_a_run_of_the_same_instant_fits_again_and_changes_nothing_where_nothing_changed(
    run_at: Callable[..., Run],
) -> None:
    history(run_at().lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run_at())
    before = run_at().lake.version("recalibration_state")
    again = recalibration.recalibration(run_at())
    assert again.note.startswith("fitted because this instant is gone over again")
    assert again.rows_written == 0
    assert run_at().lake.version("recalibration_state") == before
    assert run_at().lake.read("recalibration_choice").height == 1


def test_a_fit_is_due_when_the_newest_is_old_when_asked_and_when_calibration_drifted(
    run_at: Callable[..., Run],
) -> None:
    first = run_at(AS_OF - timedelta(days=40))
    history(first.lake, lambda days: np.where(days > 30, 1.0, 0.3))
    recalibration.recalibration(first)
    states = first.lake.read("recalibration_state")
    assert recalibration.why_due(run_at(AS_OF - timedelta(days=34)), states) == ""
    assert recalibration.why_due(run_at(AS_OF - timedelta(days=33)), states) == (
        "the last one is 7 days old"
    )
    assert recalibration.why_due(run_at(first.interval_end, refit=True), states) == (
        "it was asked for"
    )
    now = run_at()
    assert "calibration has drifted in category=*" in recalibration.drift(now).note
    recent = states.with_columns(pl.lit(AS_OF - timedelta(days=1)).alias("as_of"))
    assert recalibration.why_due(now, recent) == "calibration has drifted"


def test_one_drift_asks_for_one_fit_however_long_it_is_seen(run_at: Callable[..., Run]) -> None:
    first = run_at(AS_OF - timedelta(days=40))
    history(first.lake, lambda days: np.where(days > 30, 1.0, 0.3))
    notes = []
    for day in range(40, -1, -2):
        run = run_at(AS_OF - timedelta(days=day))
        recalibration.drift(run)
        notes.append(recalibration.recalibration(run).note)
    assert len([note for note in notes if "calibration has drifted" in note]) == 1


def test_a_fit_over_the_past_takes_no_newer_one_out_of_force(run_at: Callable[..., Run]) -> None:
    history(run_at().lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run_at(AS_OF - timedelta(days=40)))
    recalibration.recalibration(run_at())
    newest = recalibration.in_force_at(run_at()).version
    between = run_at(AS_OF - timedelta(days=20))
    assert recalibration.recalibration(between).note == "no fit is due"
    asked = run_at(AS_OF - timedelta(days=20), refit=True)
    assert "it was asked for" in recalibration.recalibration(asked).note
    assert recalibration.in_force_at(run_at()).version == newest


def test_a_fit_of_the_same_instant_to_other_outcomes_is_a_version_of_its_own(
    run_at: Callable[..., Run],
) -> None:
    run = run_at()
    history(run.lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run)
    first = recalibration.in_force_at(run).version
    turned = run.lake.read("label_status").drop("schema_version").with_columns(
        label=pl.when(pl.int_range(pl.len()) % 3 == 0)
        .then(pl.lit("RESOLVED_FALSE")).otherwise(pl.col("label"))
    )  # fmt: skip
    run.lake.upsert("label_status", turned)
    recalibration.recalibration(run_at())
    second = recalibration.in_force_at(run).version
    assert first != second
    stored = run.lake.read("recalibration_state")["version"]
    assert {first, second} == set(stored)


def test_a_run_over_the_past_neither_fits_nor_sees_what_was_fitted_later(
    run_at: Callable[..., Run],
) -> None:
    history(run_at().lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run_at())
    past = run_at(AS_OF - timedelta(days=20))
    assert recalibration.recalibration(past).note == "no fit is due"
    assert recalibration.in_force_at(past).version == "identity"


def test_what_a_person_took_back_stays_back_until_the_next_fit(
    run_at: Callable[..., Run],
) -> None:
    run = run_at()
    history(run.lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run)
    choices, states = (run.lake.read(f"recalibration_{of}") for of in ("choice", "state"))
    back = roll_back(choices, states, at=run.now(), by="a person", reason="looks odd")
    run.lake.upsert("recalibration_choice", back)
    recalibration.recalibration(run_at(AS_OF + timedelta(days=1)))
    assert recalibration.in_force_at(run).version == "identity"
    later = run_at(AS_OF + timedelta(days=8))
    recalibration.recalibration(later)
    assert recalibration.in_force_at(later).version.startswith("20261009T000000Z-")


def test_a_run_that_ended_between_fit_and_choice_is_completed_by_the_next(
    run_at: Callable[..., Run],
) -> None:
    run = run_at()
    history(run.lake, lambda days: np.full_like(days, 0.5))
    recalibration.recalibration(run)
    none = run.lake.read("recalibration_choice").clear()
    run.lake.replace("recalibration_choice", none)
    assert recalibration.in_force_at(run).version == "identity"
    recalibration.recalibration(run_at())
    assert recalibration.in_force_at(run).version.startswith("20261001T000000Z-")


def test_calibrated_prices_are_left_as_they_are(run_at: Callable[..., Run]) -> None:
    run = run_at()
    history(run.lake, lambda days: np.ones_like(days))
    assert recalibration.recalibration(run).note.endswith("prices stay as they are")
    assert set(recalibration.in_force_at(run).methods) == {"identity"}
