"""The refit pipeline: recalibration and corrections of bands anew, due or not.

It works on the tables that are there. What it brings into force is served by the next scoreboard:
that of the next daily run, or of ``calibrate``.
"""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows import recalibration as recalibrating
from flows.conformal_refresh import conformal_refresh
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import Run
from flows.settings import FlowSettings
from forecast_service.settings import ForecastSettings
from market_data.intake import Progress

STAGES = tuple(
    as_task(stage)
    for stage in (recalibrating.drift, recalibrating.recalibration, conformal_refresh)
)


@flow(name="refit", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False)
def refit(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
    forecast_settings: ForecastSettings | None = None,
) -> Run:
    """Tests for drift, fits maps from prices to probabilities, and corrects bands."""
    run = begin(as_of, flow_settings, pipeline="refit", progress=progress)
    run.parameters = {"refit": True}
    run.forecast = forecast_settings or run.forecast
    return carry_out(run, STAGES)
