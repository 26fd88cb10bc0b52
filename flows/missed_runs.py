"""Days that went by without their daily run, and the stage that catches up with them.

A schedule has no memory: what was due while the machine was off is never started. So the daily run
looks back itself. A day has its run when one with the same configuration succeeded whose interval
ends within the day after it: at the midnight that ends the day, where a backfill puts it, or later,
when the scheduled run came. Nothing is missed before the first run of the configuration, and a
failure of a day caught up with is no failure of the run that tried: the day's own row has it, and
the next daily run tries again, as long as the day is within ``flows.catch_up_days``.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import polars as pl

from flows.backfill_days import backfill_days
from flows.runs import Run, StageCount

DAY = timedelta(days=1)


def runs_of_days(run: Run) -> dict[date, tuple[str, str | None]]:
    """(status, error stage) of each day that has a daily run of this configuration.

    A day has the runs whose interval ends within the following day; one success is enough.
    """
    known = run.lake.read(
        "run_metadata",
        (pl.col("pipeline") == "daily") & (pl.col("config_hash") == run.config_hash),
        columns=("interval_end", "status", "error_stage"),
    )
    found: dict[date, tuple[str, str | None]] = {}
    for at, status, stage in known.sort("interval_end").iter_rows():
        day = at.date() - DAY
        if found.get(day, ("", None))[0] != "SUCCESS":
            found[day] = (status, stage)
    return found


def missed_days(run: Run) -> list[date]:
    """The days before that of ``run``'s end, oldest first, that have no successful daily run."""
    own = run.interval_end.date() - DAY
    known = {day: said for day, said in runs_of_days(run).items() if day < own}
    if not known:
        return []
    first = max(min(known), own - run.settings.catch_up_days * DAY)
    days = [first + k * DAY for k in range((own - first).days)]
    return [day for day in days if known.get(day, ("", None))[0] != "SUCCESS"]


def catch_up(run: Run) -> StageCount:
    """Scores the days that were missed, from the tables that the stages before have filled."""
    days = missed_days(run)
    found = backfill_days(run, days)
    failed = [f"{day} ({done.count.note})" for day, done in found.items() if done.count.failures]
    note = f"no daily run of {', '.join(f'{day}' for day in days)}: caught up"
    if failed:
        note += f", except {'; '.join(failed)}"
    counts = [done.count for done in found.values()]
    rows_in, rows_out = sum(one.rows_in for one in counts), sum(one.rows_out for one in counts)
    written = sum(one.rows_written for one in counts)
    return StageCount(rows_in, rows_out, written, note=note if days else "")


def midnight(day: date) -> datetime:
    """The instant at which a day begins, UTC."""
    return datetime.combine(day, time.min, tzinfo=UTC)
