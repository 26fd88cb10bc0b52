"""The daily pipeline: from the venue to the scoreboard.

Every stage reads committed tables and writes committed tables by key, so that running again
changes nothing, and a run that was killed goes on from what is there.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from prefect import flow
from prefect.tasks import Task

from flows import forecasts as forecasting
from flows import ingestion, stages
from flows import questions as judging
from flows import recalibration as recalibrating
from flows.conformal_refresh import conformal_refresh, is_due
from flows.missed_runs import catch_up, missed_days
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import Run, StageCount
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
SHARED = (labels, cutoffs, features, questions)
"""What does not depend on the day that is scored."""
SCORING = (metrics, drift, recalibration, trust, forecasts, scoreboard)
CALIBRATION = (*SHARED, *SCORING)
CATCH_UP = as_task(catch_up)
REFRESH = as_task(conformal_refresh)


def planned(run: Run) -> Iterator[Task[[Run], StageCount]]:
    """The stages of a daily run; some are there only when what came before calls for them."""
    yield from (*INGESTION, *SHARED)
    if missed_days(run):
        yield CATCH_UP
    yield from SCORING
    if is_due(run):
        yield REFRESH


@flow(name="daily", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False)
def daily(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Ingests, labels, scores and publishes everything known up to ``as_of`` (now by default).

    Days before that had no daily run come first (`flows.missed_runs`), and where calibration has
    drifted the corrections of bands are fitted anew at the end.

    Raises:
        NoDataError: the venue has no markets, prices or outcomes. That is never a success.
    """
    run = begin(as_of, flow_settings, progress=progress)
    return carry_out(run, planned(run))


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
