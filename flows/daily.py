"""The daily pipeline: from the venue to the scoreboard.

Every stage reads committed tables and writes committed tables by key, so that running again
changes nothing, and a run that was killed goes on from what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from prefect import flow, get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.tasks import Task

from flows import artifacts, settings, stages
from flows.runs import Run, StageCount, window_length
from flows.settings import FlowSettings
from market_data.intake import Progress
from market_data.lake import Lake


def _stage(function: Callable[..., StageCount], retry_delays: list[float]) -> Task[..., StageCount]:
    """A stage as a task. Committed tables are a run's only memory: Prefect keeps no result."""
    return Task(
        function,
        name=function.__name__,
        retries=len(retry_delays),
        retry_delay_seconds=retry_delays,
        cache_policy=NO_CACHE,
    )


markets = _stage(stages.markets, [2, 10, 30])
open_interest = _stage(stages.open_interest, [2, 10, 30])
prices = _stage(stages.prices, [2, 10, 30])
labels = _stage(stages.labels, [1])
cutoffs = _stage(stages.cutoffs, [1])
features = _stage(stages.features, [1])
metrics = _stage(stages.metrics, [1])
trust = _stage(stages.trust, [1])
scoreboard = _stage(stages.scoreboard, [1])


@flow(name="daily", flow_run_name="daily-{as_of}", validate_parameters=False)
def daily(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Ingests, labels, scores and publishes everything known up to ``as_of`` (now by default).

    Raises:
        NoDataError: the venue has no markets, prices or outcomes. That is never a success.
    """
    run = begin(as_of, flow_settings)
    with run.recorded():
        perform(markets, run, progress)
        perform(open_interest, run, progress)
        perform(prices, run, progress)
        calibrate_stages(run)
    return run


@flow(name="calibrate", flow_run_name="calibrate-{as_of}", validate_parameters=False)
def calibrate(as_of: datetime | None = None, flow_settings: FlowSettings | None = None) -> Run:
    """The daily pipeline without its ingestion: from the tables that are there."""
    run = begin(as_of, flow_settings)
    with run.recorded():
        calibrate_stages(run)
    return run


@flow(name="ingest", flow_run_name="ingest-{as_of}", validate_parameters=False)
def ingest(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """The ingestion of the daily pipeline alone."""
    run = begin(as_of, flow_settings, pipeline="ingest")
    with run.recorded():
        perform(markets, run, progress)
        perform(open_interest, run, progress)
        perform(prices, run, progress)
    return run


def calibrate_stages(run: Run) -> None:
    """From the registry and snapshots to the scoreboard."""
    perform(labels, run)
    perform(cutoffs, run)
    perform(features, run)
    perform(metrics, run)
    perform(trust, run)
    perform(scoreboard, run)
    if FlowRunContext.get() is not None:
        artifacts.publish(run)


def begin(
    as_of: datetime | None, flow_settings: FlowSettings | None, *, pipeline: str = "daily"
) -> Run:
    """The run of a pipeline over the longest configured window before ``as_of``."""
    chosen = flow_settings or settings.load()
    until = as_of or datetime.now(UTC)
    longest = max(window_length(window) for window in chosen.windows)
    return Run(
        pipeline=pipeline,
        lake=Lake(chosen.lake),
        settings=chosen,
        interval_start=until - longest,
        interval_end=until,
        now=lambda: datetime.now(UTC),
    )


def perform(stage: Task[..., StageCount], run: Run, *extra: Progress | None) -> StageCount:
    """Runs a stage as a Prefect task inside a flow run, as a plain function elsewhere."""
    inside = FlowRunContext.get() is not None
    call: Callable[..., StageCount] = stage if inside else stage.fn
    began = time.perf_counter()
    result = call(run, *extra)
    count = run.finished(stage.name, replace(result, seconds=time.perf_counter() - began))
    if inside:
        get_run_logger().info("%s: %s", stage.name, count)
    return count
