"""How every pipeline runs: stages as tasks, in order, with the run's row kept up to date."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import polars as pl
from prefect import get_run_logger
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.runtime import flow_run
from prefect.states import Completed
from prefect.tasks import Task

from flows import artifacts, settings, telemetry
from flows.fan_out import spread_over
from flows.runs import FlowError, Run, StageCount, window_length
from flows.settings import FlowSettings
from market_data.intake import Progress, silent
from market_data.lake import Lake
from market_data.lake_damage import naming_damage


def as_task(function: Callable[[Run], StageCount]) -> Task[[Run], StageCount]:
    """A stage as a task. Committed tables are a run's only memory: Prefect keeps no result."""
    return Task(
        function,
        name=function.__name__,
        task_run_name=function.__name__,
        cache_policy=NO_CACHE,
        persist_result=False,
        retry_condition_fn=_may_pass,
    )


def _may_pass(_task: Task[..., StageCount], _run: TaskRun, state: State[StageCount]) -> bool:
    """Whether trying again may help; where there is no data, there will be none in a minute."""
    return not isinstance(state.result(raise_on_failure=False), FlowError)


def flow_run_title() -> str:
    """What a flow run is called in Prefect: "daily 2026-10-01"."""
    as_of = flow_run.parameters.get("as_of")
    day = as_of if isinstance(as_of, datetime) else datetime.now(UTC)
    return f"{flow_run.flow_name} {day.astimezone(UTC):%Y-%m-%d}"


CLOCK_SKEW = timedelta(minutes=5)


def begin(
    as_of: datetime | None,
    flow_settings: FlowSettings | None,
    *,
    pipeline: str = "daily",
    progress: Progress | None = None,
) -> Run:
    """The run of a pipeline over the longest configured window before ``as_of``.

    Raises:
        ValueError: ``as_of`` has no time zone, or nothing is known of that time yet.
    """
    chosen = flow_settings or settings.load()
    until = as_of or datetime.now(UTC)
    if until.tzinfo is None:
        raise ValueError("as_of must have a time zone, such as 2026-10-01T00:00:00Z")
    until = until.astimezone(UTC).replace(microsecond=0)  # the run's id speaks in seconds
    lake = Lake(chosen.lake)
    refuse_the_future(lake, until)
    longest = max(window_length(window) for window in chosen.windows)
    return Run(
        pipeline=pipeline,
        lake=lake,
        settings=chosen,
        interval_start=until - longest,
        interval_end=until,
        forecast=settings.load_forecast(),
        telemetry=settings.load_telemetry(),
        now=lambda: datetime.now(UTC),
        progress=progress or silent,
    )


def refuse_the_future(lake: Lake, until: datetime) -> None:
    """Refuses an instant of which nobody can know anything yet.

    Later than the clock is allowed as far as the lake's prices reach: an archive may be of a time
    to come.

    Raises:
        ValueError: the instant lies in the future.
    """
    if until <= datetime.now(UTC) + CLOCK_SKEW:
        return
    newest = lake.scan("market_snapshot").select(pl.col("ts").max()).collect().item()
    if newest is not None and until > newest + timedelta(days=1):
        said = f"{until:%Y-%m-%d %H:%M} UTC lies in the future"
        raise ValueError(f"{said}: prices are known until {newest:%Y-%m-%d %H:%M}")


def carry_out(run: Run, planned: Iterable[Task[[Run], StageCount]]) -> Run:
    """Performs the stages in order and keeps the run's row; shows the result where Prefect is.

    What ``planned`` yields may depend on what the stages before have found.
    """
    with under_way(run):
        for stage in planned:
            perform(stage, run)
    return shown(run)


@contextmanager
def under_way(run: Run) -> Iterator[None]:
    """What surrounds the stages of a run: its row, its span, and where parts are computed."""
    with (
        run.recorded(),
        telemetry.sent(run),
        telemetry.run_span(run),
        naming_damage(run.lake),
        spread_over(run.settings.ray_address) as run.spread,
    ):
        yield


def shown(run: Run) -> Run:
    """The run, and for Prefect its artifacts and the state that it ended in."""
    if FlowRunContext.get() is None:
        return run
    artifacts.publish(run)
    if not run.failures:
        return run
    # Prefect takes a returned state for the final one, and hands its data to the caller.
    state: Any = Completed(name="PartialSuccess", message="; ".join(run.failures), data=run)
    return cast(Run, state)


def perform(stage: Task[[Run], StageCount], run: Run, *, title: str = "") -> StageCount:
    """Runs a stage as a Prefect task inside a flow run, as a plain function elsewhere.

    Args:
        title: what the task run is called; the stage's name by default.
    """
    run.begun(stage.name)
    began = time.perf_counter()
    with telemetry.stage_span(run, stage.name):
        if FlowRunContext.get() is None:
            result = stage.fn(run)
        else:
            waits = list(run.settings.retry_seconds)
            tried = stage.with_options(
                retries=len(waits),
                retry_delay_seconds=waits,
                task_run_name=title or stage.name,
            )
            result = tried(run)
            get_run_logger().info("%s: %s", title or stage.name, result)
        return run.finished(stage.name, replace(result, seconds=time.perf_counter() - began))
