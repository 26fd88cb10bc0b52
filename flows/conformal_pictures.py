"""What a conformal run shows in the Prefect UI: coverage by segment, and over the horizon."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.runs import Run
from forecast_service.conformal.coverage import THIRDS
from forecast_service.conformal.segments import ALL

_SHOWN = (
    "model", "freq_seconds", "segment", "horizon_third", "nominal", "before", "before_lo",
    "before_hi", "after", "after_lo", "after_hi", "width_before", "width_after", "samples",
    "events",
)  # fmt: skip


def publish_coverage(run: Run) -> None:
    """The coverage that a run measured, as a table and a picture."""
    rows = run.lake.read("conformal_coverage", pl.col("as_of") == run.interval_end)
    if rows.is_empty():
        return
    create_table_artifact(
        key="conformal-coverage",
        table=coverage_table(rows),
        description="Coverage of the 10-90 % band out of sample, before and after",
    )
    everywhere = rows.filter(pl.col("segment") == ALL)
    if everywhere.is_empty():
        return
    encoded = base64.b64encode(coverage_png(everywhere)).decode()
    create_markdown_artifact(
        key="conformal-coverage-by-horizon",
        markdown=f"![coverage](data:image/png;base64,{encoded})",
        description="Coverage of all markets over the horizon, before and after",
    )


def coverage_table(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Coverage by model, segment and part of the horizon, the pooled segments first."""
    shown = rows.select(_SHOWN).with_columns(
        pl.selectors.float().round(4),
        pooled=pl.col("segment").str.count_matches("*", literal=True),
    )
    order = ("model", "freq_seconds", "pooled", "segment", "horizon_third")
    down = [False, False, True, False, False]
    return shown.sort(order, descending=down).drop("pooled").to_dicts()


def coverage_png(rows: pl.DataFrame) -> bytes:
    """Coverage before and after over the parts of the horizon, with intervals, as PNG."""
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(6.4, 4.2), layout="constrained")
    axes = figure.subplots()
    names = list(THIRDS)
    kinds = sorted(set(rows.select("model", "freq_seconds").iter_rows()))
    for place, (model, freq) in enumerate(kinds):
        of = rows.filter((pl.col("model") == model) & (pl.col("freq_seconds") == freq))
        x = np.array([names.index(third) for third in of["horizon_third"]])
        for kind, offset, filled in (("before", -0.06, "white"), ("after", 0.06, None)):
            y, low, high = (of[kind + end].to_numpy() for end in ("", "_lo", "_hi"))
            axes.errorbar(
                x + offset + 0.2 * (place - (len(kinds) - 1) / 2),
                y,
                yerr=np.maximum(np.stack([y - low, high - y]), 0.0),
                fmt="o",
                color=f"C{place}",
                markerfacecolor=filled,
                label=f"{model}, {freq} s, {kind}",
            )
    axes.axhline(float(rows["nominal"][0]), color="#8895a7", linewidth=1)
    axes.set(ylim=(0, 1.02), ylabel="share covered", title="Coverage of the 10-90 % band")
    axes.set_xticks(
        range(len(names)), [f"{name}\nsteps {a}-{b}" for name, (a, b) in THIRDS.items()]
    )
    axes.legend(loc="lower right", frameon=False, fontsize=8)
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()
