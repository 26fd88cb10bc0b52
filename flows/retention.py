"""The retention pipeline: what the settings let go is removed, and every table is tidied.

Each step removes rows by what they are, never by position, and makes no commit where there is
nothing to remove: a second run changes nothing. Another pipeline may write at the same time: who
loses the race for a commit looks again. Files that readers of an earlier version of a table still
need stay for ``flows.retention.version_days``.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import polars as pl
from prefect import flow

from flows.conformal_stages import LOOKBACK
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.runs import FlowError, Run, StageCount, window_length
from flows.settings import FlowSettings
from market_data.intake import Progress
from market_data.lake import empty
from market_data.lake_upkeep import tidy
from market_data.raw import RawStore
from market_data.schemas import TABLES

SCORE_TABLES = (
    "calibration_metrics", "reliability_curve", "reliability_isotonic", "calibration_drift",
)  # fmt: skip
"""Tables whose rows belong to a run."""
CUTOFF_DAYS = 2
"""A market that ended on the first day of a window is scored by prices of the days before it."""


@flow(
    name="retention", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False
)
def retention(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
) -> Run:
    """Removes what is older than the settings say before ``as_of`` (now by default), and tidies.

    Raises:
        FlowError: prices would go that a score of the next daily run needs.
    """
    run = begin(as_of, flow_settings, pipeline="retention", progress=progress)
    run.parameters = {"retention": run.settings.retention.model_dump(mode="json")}
    return carry_out(run, STAGES)


def old_days(run: Run) -> StageCount:
    """Removes days of the tables that have them."""
    _refuse_too_few_days(run)
    settings = run.settings.retention
    beyond = LOOKBACK.days + run.settings.conformal.days
    days = {
        "market_snapshot": settings.market_snapshot_days,
        "feature_frame": settings.market_snapshot_days,
        "trust_score": settings.trust_score_days,
        "forecast_band": settings.forecast_band_days and settings.forecast_band_days + beyond,
    }
    removed = {}
    for table, count in days.items():
        before = f"{run.interval_end - timedelta(days=count):%Y-%m-%d}"
        removed[table] = run.lake.remove_days(table, before=before) if count else 0
    return _removed(removed)


def old_runs(run: Run) -> StageCount:
    """Removes scores, curves and drift of all but the newest runs and the published one."""
    count = run.settings.retention.runs
    if not count:
        return _removed({})
    published = run.lake.read("scoreboard", columns=("run_id",))["run_id"].to_list()
    removed = {}
    for table in SCORE_TABLES:
        ends = run.lake.read(table, columns=("run_id", "as_of")).unique()
        newest = ends.sort("as_of", "run_id", descending=True).head(count)["run_id"].to_list()
        old = sorted(set(ends["run_id"]) - {*newest, *published})
        removed[table] = _remove_parts(run, table, "run_id", old)
    return _removed(removed)


def old_answers(run: Run) -> StageCount:
    """Removes answers of venues as they were received, where that is asked for."""
    days = run.settings.retention.raw_days
    if not days:
        return _removed({})
    before = run.interval_end - timedelta(days=days)
    old = run.lake.read("raw_file", pl.col("fetched_at") < before, columns=("sha256", "path"))
    store = RawStore(run.settings.raw)
    files = sum([store.remove(path) for path in old["path"].to_list()])
    # Rows last: what is cut short here is found again by its row.
    rows = _remove_parts(run, "raw_file", "sha256", old["sha256"].to_list())
    return _removed({"files": files, "raw_file": rows})


def upkeep(run: Run) -> StageCount:
    """Merges small files of every table and removes files of its earlier versions."""
    keep = timedelta(days=run.settings.retention.version_days)
    done = [tidy(run.lake, table, keep=keep) for table in TABLES]
    lost = [one.table for one in done if one.lost]
    merged, into = sum(one.merged_from for one in done), sum(one.merged_into for one in done)
    removed = sum(one.removed for one in done)
    note = f"{merged} files became {into}; {removed} of earlier versions are gone"
    if lost:
        note += f"; another writer was first in {', '.join(lost)}: merged the next time"
    return StageCount(merged, into, removed, note=note)


STAGES = tuple(as_task(stage) for stage in (old_days, old_runs, old_answers, upkeep))


def _refuse_too_few_days(run: Run) -> None:
    days = run.settings.retention.market_snapshot_days
    settings = run.settings
    longest = max(window_length(window) for window in settings.windows).days
    tested = settings.drift_recent_days + settings.drift_reference_days
    corrected = settings.conformal.days + LOOKBACK.days
    needed = max(longest, tested, corrected) + CUTOFF_DAYS
    if 0 < days < needed:
        raise FlowError(
            f"flows.retention.market_snapshot_days is {days}: scores, the test for drift and "
            f"corrections look back {needed} days"
        )


def _remove_parts(run: Run, table: str, column: str, values: list[str]) -> int:
    """Removes the rows whose ``column`` holds one of ``values``, and counts them."""
    if not values:
        return 0
    stored = run.lake.scan(table).filter(pl.col(column).is_in(values))
    rows = int(stored.select(pl.len()).collect().item())
    run.lake.replace_part(table, empty(table), column=column, values=values)
    return rows


def _removed(counts: dict[str, int]) -> StageCount:
    named = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    total = sum(counts.values())
    return StageCount(total, 0, total, note=f"removed: {named}" if named else "nothing is old")
