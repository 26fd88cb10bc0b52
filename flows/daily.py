"""The daily pipeline: from the venue to the scoreboard.

Every stage reads committed tables and writes committed tables by key, so that running again
changes nothing, and a run that was killed goes on from what is there.
"""

from __future__ import annotations

from datetime import datetime

from prefect import flow

from flows import forecasts as forecasting
from flows import ingestion, stages
from flows import questions as judging
from flows import recalibration as recalibrating
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.intake import Progress

markets = as_task(ingestion.markets)
outcomes = as_task(ingestion.outcomes)
matches = as_task(ingestion.matches)
open_interest = as_task(ingestion.open_interest)
prices = as_task(ingestion.prices)
labels = as_task(stages.labels)
cutoffs = as_task(stages.cutoffs)
features = as_task(stages.features)
metrics = as_task(stages.metrics)
drift = as_task(recalibrating.drift)
recalibration = as_task(recalibrating.recalibration)
questions = as_task(judging.questions)
trust = as_task(stages.trust)
forecasts = as_task(forecasting.forecasts)
scoreboard = as_task(stages.scoreboard)

INGESTION = (markets, outcomes, matches, open_interest, prices)
CALIBRATION = (
    labels, cutoffs, features, questions, metrics, drift, recalibration, trust, forecasts,
    scoreboard,
)  # fmt: skip


@flow(name="daily", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False)
def daily(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Ingests, labels, scores and publishes everything known up to ``as_of`` (now by default).

    Raises:
        NoDataError: the venue has no markets, prices or outcomes. That is never a success.
    """
    run = begin(as_of, flow_settings, progress=progress)
    return carry_out(run, (*INGESTION, *CALIBRATION))


@flow(
    name="calibrate", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False
)
def calibrate(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """The daily pipeline without its ingestion: from the tables that are there.

    It is the same work under the same id as the daily run of its instant, so it replaces that
    run's scores.
    """
    return carry_out(begin(as_of, flow_settings, progress=progress), CALIBRATION)


@flow(name="ingest", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False)
def ingest(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """The ingestion of the daily pipeline alone."""
    run = begin(as_of, flow_settings, pipeline="ingest", progress=progress)
    return carry_out(run, INGESTION)
