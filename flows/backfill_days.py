"""Days of the daily pipeline that are scored after the fact, several at a time.

Labels, cutoffs and features do not depend on the day that is scored: whoever calls this has run
those stages once. What is left of a day is done in two parts. Scores, drift and trust touch rows of
their own day alone, so that several days are worked on at once. A fit of recalibration rests on the
fits before it, and the newest scoreboard wins: these stages go through the days in order, each as
soon as its scores are there.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta

from flows import forecasts, recalibration, stages
from flows.pipeline import as_task, perform
from flows.runs import Run, StageCount, window_length
from market_data.lake_damage import naming_damage

AT_ONCE = tuple(as_task(stage) for stage in (stages.metrics, recalibration.drift, stages.trust))
IN_ORDER = tuple(
    as_task(stage)
    for stage in (recalibration.recalibration, forecasts.forecasts, stages.scoreboard)
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a day went.

    Attributes:
        count: sums over its stages; one failure, and why, where the day failed or did in parts.
        has_failed: whether its run is FAILED.
    """

    count: StageCount
    has_failed: bool


def end_of(day: date) -> datetime:
    """The midnight that ends a day, UTC: what a run of the day knows is what was known then."""
    return datetime.combine(day + timedelta(days=1), time.min, tzinfo=UTC)


def day_run(run: Run, day: date) -> Run:
    """The daily run of a day, as it would have been at the day's end with ``run``'s settings."""
    longest = max(window_length(window) for window in run.settings.windows)
    return Run(
        pipeline="daily",
        lake=run.lake,
        settings=run.settings,
        interval_start=end_of(day) - longest,
        interval_end=end_of(day),
        now=run.now,
        forecast=run.forecast,
        spread=run.spread,
        tracer=run.tracer,
    )


def backfill_days(run: Run, days: Sequence[date]) -> dict[date, Outcome]:
    """Scores the days, each with its own row of ``run_metadata``; one that fails stops no other."""
    runs = {day: day_run(run, day) for day in sorted(days)}
    width = run.settings.backfill_concurrency
    with ThreadPoolExecutor(width) as several, ThreadPoolExecutor(1) as one:
        # A context each: Prefect and OpenTelemetry find there what they are part of.
        scored = {day: several.submit(copy_context().run, _score, own) for day, own in runs.items()}
        ended = {
            day: one.submit(copy_context().run, _publish, own, scored[day])
            for day, own in runs.items()
        }
        found = {}
        for number, (day, future) in enumerate(ended.items(), start=1):
            found[day] = _outcome(runs[day], future.exception())
            run.progress("days", number, len(runs))
    return found


def _score(run: Run) -> ExitStack:
    """The first part of a day; its row stays RUNNING until what is returned is closed."""
    with ExitStack() as stack:
        stack.enter_context(run.recorded())
        stack.enter_context(naming_damage(run.lake))
        for stage in AT_ONCE:
            perform(stage, run, title=_title(stage.name, run))
        return stack.pop_all()
    raise AssertionError("a stack that is handed on swallows nothing")


def _publish(run: Run, scored: Future[ExitStack]) -> None:
    """The second part of a day, when the first is there."""
    with scored.result():
        for stage in IN_ORDER:
            perform(stage, run, title=_title(stage.name, run))


def _title(stage: str, run: Run) -> str:
    return f"{stage} {run.interval_end - timedelta(days=1):%Y-%m-%d}"


def _outcome(run: Run, error: BaseException | None) -> Outcome:
    total = StageCount(0, 0)
    for count in run.stages.values():
        total = StageCount(
            total.rows_in + count.rows_in,
            total.rows_out + count.rows_out,
            total.rows_written + count.rows_written,
            total.set_aside + count.set_aside,
            seconds=total.seconds + count.seconds,
        )
    note = "; ".join(run.failures)
    if error is not None:
        note = f"{run.under_way}: {type(error).__name__}: {error}"
    return Outcome(replace(total, failures=int(bool(note)), note=note), error is not None)
