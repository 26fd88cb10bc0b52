"""What a run shows in the Prefect UI: tables and pictures."""

from __future__ import annotations

import base64
import io
from typing import Any

import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.calibration_pictures import publish_drift, publish_recalibration, publish_trust
from flows.conformal_pictures import publish_coverage
from flows.runs import Run

OVERALL = "category=*|liquidity=*|tte=*"
_SCORE_COLUMNS = (
    "window", "segment_key", "sample_size", "event_count", "low_confidence",
    "brier", "brier_lo", "brier_hi", "log_loss", "ece", "ece_bias_corrected",
    "slope", "slope_lo", "slope_hi", "intercept",
)  # fmt: skip


def publish(run: Run) -> None:
    """Row counts per stage, and what the run's stages have to show."""
    create_table_artifact(
        key=f"{run.pipeline}-stages",
        table=stage_table(run),
        description=f"Rows per stage of {run.run_id}",
    )
    if "coverage" in run.stages:
        publish_coverage(run)
    if "drift" in run.stages:
        publish_drift(run)
    if "recalibration" in run.stages:
        publish_recalibration(run)
    if "scoreboard" in run.stages:
        publish_trust(run)
    if "metrics" not in run.stages:
        return
    scores = run_rows(run, "calibration_metrics")
    create_table_artifact(
        key="daily-scores", table=score_table(scores), description="Scores by segment"
    )
    curves = run_rows(run, "reliability_curve")
    for window in run.settings.windows:
        picture = reliability_png(
            curves.filter((pl.col("window") == window) & (pl.col("segment_key") == OVERALL)),
            title=f"Reliability, {window} before {run.interval_end:%Y-%m-%d}",
        )
        encoded = base64.b64encode(picture).decode()
        create_markdown_artifact(
            key=f"daily-reliability-{window}",
            markdown=f"![reliability](data:image/png;base64,{encoded})",
            description=f"Reliability of all markets, {window}",
        )


def run_rows(run: Run, table: str) -> pl.DataFrame:
    """The rows that this run wrote to ``table``."""
    return run.lake.read(table, pl.col("run_id") == run.run_id)


def stage_table(run: Run) -> list[dict[str, Any]]:
    """One row per stage."""
    return [
        {
            "stage": stage, "rows in": count.rows_in, "rows out": count.rows_out,
            "written": count.rows_written, "set aside": count.set_aside,
            "failed": count.failures, "seconds": round(count.seconds, 3), "note": count.note,
        }
        for stage, count in run.stages.items()
    ]  # fmt: skip


def score_table(scores: pl.DataFrame) -> list[dict[str, Any]]:
    """Scores by segment, the pooled ones first."""
    shown = scores.select(_SCORE_COLUMNS).with_columns(
        pl.selectors.float().round(4),
        pooled=pl.col("segment_key").str.count_matches("*", literal=True),
    )
    ordered = shown.sort("window", "pooled", "segment_key", descending=[False, True, False])
    return ordered.drop("pooled").to_dicts()


def reliability_png(curve: pl.DataFrame, *, title: str) -> bytes:
    """A reliability diagram with its consistency band, as PNG."""
    from matplotlib.figure import Figure

    rows = curve.sort("bin")
    figure: Any = Figure(figsize=(5.2, 5.2), layout="constrained")
    axes = figure.subplots()
    price, rate = rows["mean_price"].to_numpy(), rows["observed_rate"].to_numpy()
    axes.fill_between(
        price,
        rows["consistency_lo"].to_numpy(),
        rows["consistency_hi"].to_numpy(),
        color="#cfd8e3",
        label="95 % if calibrated",
    )
    axes.plot([0, 1], [0, 1], color="#8895a7", linewidth=1)
    axes.plot(price, rate, "o-", color="#1f5fa8", label="observed")
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="price", ylabel="share that resolved YES", title=title
    )
    axes.legend(loc="upper left", frameon=False)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()
