"""The post-mortem pipeline: what happened in each market that was resolved, and what it teaches.

Structure and promises are those of the daily one: it reads committed tables and writes one by key,
so a repeated run changes nothing and a killed one goes on from what is there.
"""

from __future__ import annotations

import base64
from datetime import datetime, timedelta
from pathlib import Path

import polars as pl
from prefect import flow
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.context import FlowRunContext

from flows import postmortem_stages as work
from flows.pipeline import as_task, begin, carry_out, flow_run_title
from flows.postmortem_export import write_postmortems
from flows.runs import Run, StageCount
from flows.settings import FlowSettings
from market_data.intake import Progress

EXPORTED_AT_ONCE = 250
_SHOWN = 50


@flow(
    name="postmortem", flow_run_name=flow_run_title, validate_parameters=False, persist_result=False
)
def postmortem(
    as_of: datetime | None = None,
    flow_settings: FlowSettings | None = None,
    progress: Progress | None = None,
    export_to: Path | None = None,
    days: int | None = None,
) -> Run:
    """Makes the post-mortems that are missing or outdated; writes files where a folder is given.

    Args:
        export_to: folder for the files; None writes none.
        days: markets resolved in so many days; by default in the longest window of the scores.

    Raises:
        NoDataError: no market was resolved in the window.
    """
    run = begin(as_of, flow_settings, pipeline="postmortem", progress=progress)
    if days is not None:
        run.interval_start = run.interval_end - timedelta(days=days)
        run.parameters = {"days": days}
    stages = [as_task(work.postmortems)]
    if export_to is not None:

        def export(run: Run) -> StageCount:
            return exported(run, export_to)

        stages.append(as_task(export))
    done = carry_out(run, stages)
    if FlowRunContext.get() is not None:
        _publish(run)
    return done


def exported(run: Run, folder: Path) -> StageCount:
    """Writes the post-mortems of the run's window as files."""
    ids = _newest(run)["market_id"].sort().to_list()
    for at in range(0, len(ids), EXPORTED_AT_ONCE):
        chosen = pl.col("market_id").is_in(ids[at : at + EXPORTED_AT_ONCE])
        write_postmortems(run.lake.read("postmortem", chosen), folder)
        run.progress("export", at, len(ids))
    return StageCount(len(ids), len(ids), len(ids), note=f"files are in {folder}")


def _newest(run: Run) -> pl.DataFrame:
    """Market, instant, summary and lessons of the run's window, the newest first."""
    in_window = (pl.col("resolved_at") > run.interval_start) & (
        pl.col("resolved_at") <= run.interval_end
    )
    columns = ("market_id", "resolved_at", "summary", "lesson_codes")
    rows = run.lake.read("postmortem", in_window, columns=columns)
    return rows.sort("resolved_at", "market_id", descending=[True, False])


def _publish(run: Run) -> None:
    """Shows the newest post-mortems as a table, and the path of the one that teaches most."""
    rows = _newest(run)
    shown = rows.head(_SHOWN).with_columns(
        pl.col("resolved_at").dt.strftime("%Y-%m-%d %H:%M"), pl.col("lesson_codes").list.join(", ")
    )
    create_table_artifact(
        key="postmortem-newest", table=shown.to_dicts(), description="The newest post-mortems"
    )
    most = rows.with_columns(pl.col("lesson_codes").list.len().alias("lessons")).sort(
        "lessons", "resolved_at", "market_id", descending=[True, True, False]
    )
    chosen = most.head(1)["market_id"].to_list()
    found = run.lake.read("postmortem", pl.col("market_id").is_in(chosen))
    for row in found.filter(pl.col("picture").is_not_null()).iter_rows(named=True):
        encoded = base64.b64encode(row["picture"]).decode()
        create_markdown_artifact(
            key="postmortem-path",
            markdown=f"{row['summary']}\n\n![price](data:image/png;base64,{encoded})",
            description="The market with the most lessons",
        )
