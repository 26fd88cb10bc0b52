"""The stage that fits corrections of bands anew, in runs of other pipelines.

It is the conformal pipeline as of the same instant: a run of its own, with its own row.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from prefect.context import FlowRunContext

from flows.conformal import conformal
from flows.recalibration import has_drifted_since
from flows.runs import NoDataError, Run, StageCount


def is_due(run: Run) -> bool:
    """Whether the run's own test found a drift that the test before it did not."""
    return has_drifted_since(run, run.interval_end - timedelta(microseconds=1))


def conformal_refresh(run: Run) -> StageCount:
    """Makes missing bands, fits corrections and measures them; too little for that is a note."""
    call: Any = conformal if FlowRunContext.get() is not None else conformal.fn
    try:
        done = call(run.interval_end, run.settings, run.progress, run.forecast)
    except NoDataError as error:
        return StageCount(0, 0, note=f"bands stay as they are: {error}")
    counts = list(done.stages.values())
    rows_in, rows_out = sum(one.rows_in for one in counts), sum(one.rows_out for one in counts)
    note = "; ".join([f"run {done.run_id}", *done.failures])
    written = sum(one.rows_written for one in counts)
    return StageCount(rows_in, rows_out, written, failures=len(done.failures), note=note)
