"""Stages that keep calibrated probabilities right: the test for drift, and the fit that follows.

A fit is a new version of ``recalibration_state``; which one is in force is the latest row of
``recalibration_choice``. The stages add such a row only when a fit brings something new, and only
after their own: where a person has chosen since, that choice stays until the next fit is due.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

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

    A version is named by its instant and its content, so that one is never overwritten by another.
    """
    reason = why_due(run, run.lake.read("recalibration_state"))
    if not reason:
        bring_into_force(run, "a run before this one ended too early to do so")
        return StageCount(0, 0, note="no fit is due")
    rows = resolved_rows(run)
    fitted = build_recalibration(
        rows,
        version="",
        run_id=run.run_id,
        as_of=run.interval_end,
        rng=np.random.default_rng(run.settings.seed),
    )
    if fitted.is_empty():
        return StageCount(0, 0, note="no resolved market with a price: nothing to fit")
    done = run.lake.upsert("recalibration_state", named(fitted, run.interval_end))
    bring_into_force(run, reason)
    served = fitted.filter(pl.col("served") != "price")["pool"].sort().to_list()
    said = f"correcting {', '.join(served)}" if served else "prices stay as they are"
    note = f"fitted because {reason}; {said}"
    return StageCount(rows.height, fitted.height, _written(done), note=note)


def named(fitted: pl.DataFrame, as_of: datetime) -> pl.DataFrame:
    """The rows of one fit under the name of their instant and content."""
    content = fitted.drop("version", "run_id").write_ndjson()
    digest = hashlib.sha256(content.encode()).hexdigest()[:12]
    return fitted.with_columns(version=pl.lit(f"{as_of:%Y%m%dT%H%M%SZ}-{digest}"))


def bring_into_force(run: Run, reason: str) -> None:
    """Chooses the newest version where nobody has chosen it before; no run over the past does."""
    states = run.lake.read("recalibration_state")
    if states.is_empty() or states["as_of"].max() > run.interval_end:  # type: ignore[operator]
        return
    choices = run.lake.read("recalibration_choice")
    newest = states.filter(pl.col("as_of") == pl.col("as_of").max())["version"].unique()
    fresh = newest.filter(~newest.is_in(choices["version"].implode())).to_list()
    if not fresh:
        return
    later = [at + timedelta(microseconds=1) for at in choices["chosen_at"].to_list()]
    at = max([run.interval_end, *later])
    row = choose(fresh[0], states, at=at, by=BY_FLOW, reason=reason)
    run.lake.upsert("recalibration_choice", row)


def in_force_at(run: Run) -> Recalibration:
    """The recalibration that the latest choice names among those fitted by the run's end."""
    states = run.lake.read("recalibration_state", pl.col("as_of") <= run.interval_end)
    known = [*states["version"].unique().to_list(), IDENTITY_VERSION]
    choices = run.lake.read("recalibration_choice", pl.col("version").is_in(known))
    return in_force(choices, states)


def why_due(run: Run, states: pl.DataFrame) -> str:
    """Why maps have to be fitted now; "" where they have not.

    Due is a fit when the run asks for one (``parameters["refit"]``), when there is none, when the
    newest is of the run's own instant, for more may be known of it by now, when it is older than
    the setting, and once for each drift. The past is not fitted again behind a newer fit.
    """
    if run.parameters.get("refit"):
        return "it was asked for"
    if states.is_empty():
        return "there was none"
    newest = states["as_of"].max()
    assert isinstance(newest, datetime)
    if newest > run.interval_end:
        return ""
    if newest == run.interval_end:
        return "this instant is gone over again"
    days = run.settings.refit_days
    if newest <= run.interval_end - timedelta(days=days):
        return f"the last one is {days} days old"
    return "calibration has drifted" if has_drifted_since(run, newest) else ""


def has_drifted_since(run: Run, instant: datetime) -> bool:
    """Whether the run's own test finds a drift that the last test up to an instant did not."""
    tests = run.lake.read("calibration_drift", pl.col("as_of") <= run.interval_end)
    before = tests.filter(pl.col("as_of") <= instant)
    before = before.filter(pl.col("as_of") == pl.col("as_of").max())
    own = tests.filter(pl.col("run_id") == run.run_id)
    return refit_due(own) and not refit_due(before)


def _written(result: UpsertResult) -> int:
    return result.rows_new + result.rows_changed
