"""Backfill: the daily pipeline for the days of a range, each as of that day's end.

What the days share is done once, up to the end of the range: ingestion where it is asked for, then
labels, cutoffs and features. Then each day is scored by itself, see `flows.backfill_days`. A day's
run has the id that the daily run of its end would have, so a backfill replaces that run's rows, and
a second one changes nothing. The newest scoreboard stays, whichever run it came from.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta

from prefect import flow
from prefect.runtime import flow_run

from flows.backfill_days import backfill_days, day_run, end_of
from flows.daily import INGESTION, SHARED
from flows.missed_runs import runs_of_days
from flows.pipeline import begin, perform, shown, under_way
from flows.runs import FlowError, Run, StageCount
from flows.settings import FlowSettings
from market_data.intake import Progress

MOST_DAYS = 3_660


def range_title() -> str:
    """What a flow run is called in Prefect: "backfill 2026-09-01 … 2026-09-05"."""
    given = flow_run.parameters
    return f"{flow_run.flow_name} {day_of(given['first_day'])} … {day_of(given['last_day'])}"


@flow(name="backfill", flow_run_name=range_title, validate_parameters=False, persist_result=False)
def backfill(
    first_day: date | str,
    last_day: date | str,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
    *,
    with_ingestion: bool = False,
    only_failed: bool = False,
    dry_run: bool = False,
) -> Run:
    """Scores every day from ``first_day`` to ``last_day``, both included.

    The returned run's ``stages`` hold an entry for each day beside the shared stages.

    Args:
        with_ingestion: ask the venues first.
        only_failed: leave days alone whose run of this configuration succeeded.
        dry_run: say what would run and why; nothing is asked and nothing is written.

    Raises:
        ValueError: the range is empty, or longer than `MOST_DAYS`.
        FlowError: every day failed.
    """
    days = days_between(day_of(first_day), day_of(last_day))
    run = begin(end_of(days[-1]), flow_settings, pipeline="backfill", progress=progress)
    run.interval_start = day_run(run, days[0]).interval_start
    # How it is gone about is no part of the run's id: what is left of a killed one ends its row.
    run.parameters = {"first_day": str(days[0]), "last_day": str(days[-1])}
    why = reasons(run, days, only_failed=only_failed)
    if dry_run:
        run.stages = {f"{day}": StageCount(0, 0, note=_planned(why[day])) for day in days}
        return run
    with under_way(run):
        _carry_out(run, why, with_ingestion=with_ingestion)
    return shown(run)


def day_of(given: date | str) -> date:
    """A day, also where Prefect hands it over as text."""
    if isinstance(given, datetime):
        return given.date()
    return given if isinstance(given, date) else date.fromisoformat(given)


def days_between(first: date, last: date) -> list[date]:
    """The days of a range, both ends included.

    Raises:
        ValueError: there is none, or there are more than `MOST_DAYS`.
    """
    count = (last - first).days + 1
    if count < 1:
        raise ValueError(f"the first day {first} lies behind the last day {last}")
    if count > MOST_DAYS:
        raise ValueError(f"{count} days from {first} to {last}: at most {MOST_DAYS} at once")
    return [first + timedelta(days=k) for k in range(count)]


def reasons(run: Run, days: list[date], *, only_failed: bool) -> dict[date, str]:
    """Why each day is to run; "" for one that stays as it is."""
    known, found = runs_of_days(day_run(run, days[-1])), {}
    for day in days:
        status, stage = known.get(day, ("missing", None))
        said = "it has no run" if status == "missing" else f"its run is {status}"
        said += f" in {stage}" if stage else ""
        found[day] = "" if only_failed and status == "SUCCESS" else said
    return found


def _planned(why: str) -> str:
    return f"would run: {why}" if why else "stays: its run is SUCCESS"


def _carry_out(run: Run, why: dict[date, str], *, with_ingestion: bool) -> None:
    """The shared stages, the days, and the account of each.

    Raises:
        FlowError: every day failed.
    """
    todo = [day for day, reason in why.items() if reason]
    if todo:
        for stage in (*(INGESTION if with_ingestion else ()), *SHARED):
            perform(stage, run)
    run.begun("days")
    found = backfill_days(run, todo)
    stays = StageCount(0, 0, note="stays: its run is SUCCESS")
    for day in why:
        run.finished(f"{day}", found[day].count if day in found else stays)
    if found and all(outcome.has_failed for outcome in found.values()):
        raise FlowError(f"every day failed: {'; '.join(run.failures)}")
