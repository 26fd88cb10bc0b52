"""The daily pipeline: from the venue to the scoreboard.

Every stage reads committed tables and writes committed tables by key, so that running again
changes nothing, and a run that was killed goes on from what is there.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.tasks import Task

from flows import artifacts, settings, stages
from flows.runs import Run, StageCount, window_length
from flows.settings import FlowSettings
from market_data.intake import Progress
from market_data.lake import Lake

VENUE_RETRIES: dict[str, Any] = {
    "retries": 3,
    "retry_delay_seconds": [2, 10, 30],
    "cache_policy": NO_CACHE,
}
TABLE_RETRIES: dict[str, Any] = {"retries": 1, "retry_delay_seconds": [1], "cache_policy": NO_CACHE}
"""Committed tables are the only memory of a run: Prefect keeps no result of a stage."""

ingest_markets = task(stages.markets, name="markets", **VENUE_RETRIES)
ingest_open_interest = task(stages.open_interest, name="open_interest", **VENUE_RETRIES)
ingest_prices = task(stages.prices, name="prices", **VENUE_RETRIES)
derive_labels = task(stages.labels, name="labels", **TABLE_RETRIES)
derive_cutoffs = task(stages.cutoffs, name="cutoffs", **TABLE_RETRIES)
derive_features = task(stages.features, name="features", **TABLE_RETRIES)
score_segments = task(stages.metrics, name="metrics", **TABLE_RETRIES)
derive_trust = task(stages.trust, name="trust", **TABLE_RETRIES)
build_scoreboard = task(stages.scoreboard, name="scoreboard", **TABLE_RETRIES)


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
        perform(ingest_markets, run, progress)
        perform(ingest_open_interest, run, progress)
        perform(ingest_prices, run, progress)
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
        perform(ingest_markets, run, progress)
        perform(ingest_open_interest, run, progress)
        perform(ingest_prices, run, progress)
    return run


def calibrate_stages(run: Run) -> None:
    """From the registry and snapshots to the scoreboard."""
    perform(derive_labels, run)
    perform(derive_cutoffs, run)
    perform(derive_features, run)
    perform(score_segments, run)
    perform(derive_trust, run)
    perform(build_scoreboard, run)
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
