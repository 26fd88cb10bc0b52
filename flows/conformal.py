"""The conformal pipeline: from prices and issued bands to the corrections that the gateway applies.

Structure and promises are those of the daily one: stages read and write committed tables, and a
repeated run changes nothing. It is a pipeline of its own because it needs prices alone, no outcome
of a market, and may run as often as they come.
"""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows import conformal_stages as work
from flows import settings
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import Run, StageCount
from flows.settings import FlowSettings
from forecast_service.settings import ForecastSettings
from market_data.intake import Progress


@flow(
    name="conformal", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False
)
def conformal(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
    forecast_settings: ForecastSettings | None = None,
) -> Run:
    """Makes the bands that are missing, fits corrections to what happened, and measures them.

    Raises:
        NoDataError: no price, no settled band, or too few of them for any correction.
        CatalogError: a model is named that is not there.
    """
    forecast = forecast_settings or settings.load_forecast()
    chosen = flow_settings or settings.load()
    models = work.chosen_models(chosen.conformal, forecast)
    run = begin(as_of, chosen, pipeline="conformal", progress=progress)
    run.interval_start = work.window_start(run)
    gates = {"min_finite_points", "max_gap_seconds", "low_liquidity_to_baseline"}
    run.parameters = {
        "conformal": chosen.conformal.model_dump(mode="json"),
        "models": models,
        "gates": forecast.policy.model_dump(mode="json", include=gates),
    }

    def bands(run: Run) -> StageCount:
        return work.bands(run, forecast)

    return carry_out(run, [as_task(stage) for stage in (bands, work.corrections, work.coverage)])
