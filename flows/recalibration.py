"""Stages that keep calibrated probabilities right: the test for drift, and the fit that follows.

A fit is a new version of ``recalibration_state``; which one is in force is the latest row of
``recalibration_choice``. The stages add such a row only when a fit brings something new, and only
after their own: where a person has chosen since, that choice stays until the next fit is due.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import polars as pl

from calibration_service.drift import build_drift, refit_due
from calibration_service.metrics import scored_rows
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.state import (
    IDENTITY_VERSION,
    Recalibration,
    choose,
    in_force,
)
from flows.runs import Run, StageCount
from market_data.lake import UpsertResult

BY_FLOW = "flow"
"""Who chose, where a stage did."""


def resolved_rows(run: Run) -> pl.DataFrame:
    """Cutoff rows of every market that was resolved by the run's end, with ``resolved_at``."""
    labels = run.lake.read("label_status", pl.col("resolved_at") <= run.interval_end)
    chosen = run.lake.read("cutoff_snapshot").join(labels, on="market_id", how="semi")
    scored = scored_rows(chosen, labels=labels, registry=run.lake.read("market_registry"))
    return scored.frame.join(
        labels.select("market_id", "resolved_at"), on="market_id", how="left", maintain_order="left"
    )


def drift(run: Run) -> StageCount:
    """Tests whether prices still mean what they meant before the recent period."""
    settings = run.settings
    recent_from = run.interval_end - timedelta(days=settings.drift_recent_days)
    since = recent_from - timedelta(days=settings.drift_reference_days)
    rows = resolved_rows(run).filter(pl.col("resolved_at") > since)
    found = build_drift(
        rows,
        recent_from=recent_from,
        run_id=run.run_id,
        as_of=run.interval_end,
        rng=np.random.default_rng(settings.seed),
    )
    done = run.lake.replace_part("calibration_drift", found, column="run_id", values=[run.run_id])
    moved = found.filter((pl.col("test") == "REFERENCE") & pl.col("drifted"))["segment_key"]
    note = f"calibration has drifted in {', '.join(moved.sort())}" if len(moved) else ""
    if found.is_empty():
        note = "too few resolved events in one of the two periods: not tested"
    return StageCount(rows.height, found.height, _written(done), note=note)


def recalibration(run: Run) -> StageCount:
    """Fits maps from prices to probabilities where that is due, and brings the fit into force.

    Due is a fit when there is none, when the newest is older than the setting, when calibration
    has drifted since, when the run is of the newest one's own instant, for more may be known of it
    by now, or when the run asks for one (``parameters["refit"]``).
    """
    reason = why_due(run, run.lake.read("recalibration_state"))
    rows = resolved_rows(run) if reason else None
    written = 0
    if rows is not None:
        fitted = build_recalibration(
            rows,
            version=f"{run.interval_end:%Y%m%dT%H%M%SZ}",
            run_id=run.run_id,
            as_of=run.interval_end,
            rng=np.random.default_rng(run.settings.seed),
        )
        if fitted.is_empty():
            return StageCount(0, 0, note="no resolved market with a price: nothing to fit")
        version = fitted["version"][0]
        written = _written(
            run.lake.replace_part("recalibration_state", fitted, column="version", values=[version])
        )
    states = run.lake.read("recalibration_state", pl.col("as_of") <= run.interval_end)
    bring_into_force(run, states, reason or "a run before this one ended too early to do so")
    if rows is None:
        return StageCount(0, 0, note="no fit is due")
    served = fitted.filter(pl.col("served") != "price")["pool"].sort().to_list()
    said = f"correcting {', '.join(served)}" if served else "prices stay as they are"
    return StageCount(rows.height, fitted.height, written, note=f"fitted because {reason}; {said}")


def bring_into_force(run: Run, states: pl.DataFrame, reason: str) -> None:
    """Chooses the newest version where nobody has chosen it before."""
    choices = run.lake.read("recalibration_choice")
    newest = states.sort("as_of").tail(1)["version"].to_list()
    if not newest or newest[0] in choices["version"].to_list():
        return
    later = [at + timedelta(microseconds=1) for at in choices["chosen_at"].to_list()]
    at = max([run.interval_end, *later])
    row = choose(newest[0], states, at=at, by=BY_FLOW, reason=reason)
    run.lake.upsert("recalibration_choice", row)


def in_force_at(run: Run) -> Recalibration:
    """The recalibration that the latest choice names among those fitted by the run's end."""
    states = run.lake.read("recalibration_state", pl.col("as_of") <= run.interval_end)
    known = [*states["version"].unique().to_list(), IDENTITY_VERSION]
    choices = run.lake.read("recalibration_choice", pl.col("version").is_in(known))
    return in_force(choices, states)


def why_due(run: Run, states: pl.DataFrame) -> str:
    """Why maps have to be fitted now; "" where they have not."""
    if run.parameters.get("refit"):
        return "it was asked for"
    earlier = states.filter(pl.col("as_of") <= run.interval_end)
    if earlier.is_empty():
        return "there was none" if states.is_empty() else ""
    newest = earlier["as_of"].max()
    if newest == run.interval_end:
        return "this instant is gone over again"
    days = run.settings.refit_days
    if newest <= run.interval_end - timedelta(days=days):  # type: ignore[operator]
        return f"the last one is {days} days old"
    found = run.lake.read(
        "calibration_drift", (pl.col("run_id") == run.run_id) & (pl.col("as_of") > newest)
    )
    return "calibration has drifted" if refit_due(found) else ""


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
