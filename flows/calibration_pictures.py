"""What a run shows of drift, of recalibration and of trust in the Prefect UI."""

from __future__ import annotations

import base64
import io
from typing import Any

import polars as pl
from prefect.artifacts import create_markdown_artifact, create_table_artifact

from flows.recalibration import in_force_at
from flows.runs import Run

_DRIFT = (
    "test", "segment_key", "drifted", "p_adjusted", "slope_change", "slope_change_lo",
    "slope_change_hi", "intercept_change", "intercept_change_lo", "intercept_change_hi",
    "event_count", "reference_event_count",
)  # fmt: skip
_FIT = (
    "version", "pool", "method", "served", "promoted", "reasons", "brier_raw",
    "brier_recalibrated", "difference", "difference_lo", "difference_hi", "event_count",
)  # fmt: skip
_BIN = 10
"""Width of a bar of the trust picture, in points of the score."""


def publish_drift(run: Run) -> None:
    """The run's tests for drift as a table; nothing where too little was there to test."""
    rows = run.lake.read("calibration_drift", pl.col("run_id") == run.run_id)
    if rows.is_empty():
        return
    create_table_artifact(
        key=f"{run.pipeline}-drift",
        table=_rounded(rows, _DRIFT).sort("test", "segment_key").to_dicts(),
        description="Whether prices still mean what they meant",
    )


def publish_recalibration(run: Run) -> None:
    """The fit in force: what was found in each pool, and the map of all markets with its band."""
    version = in_force_at(run).version
    rows = run.lake.read("recalibration_state", pl.col("version") == version).sort("pool")
    if rows.is_empty():
        return
    create_table_artifact(
        key=f"{run.pipeline}-recalibration",
        table=_rounded(rows, _FIT).to_dicts(),
        description=f"Recalibration in force: {version}",
    )
    overall = rows.row(by_predicate=pl.col("pool") == "*", named=True)
    _publish_picture(
        f"{run.pipeline}-recalibration-map", recalibration_png(overall), "Map of all markets"
    )


def publish_trust(run: Run) -> None:
    """How trust is spread over the markets of the scoreboard that the run published."""
    board = run.lake.read("scoreboard", pl.col("run_id") == run.run_id)
    scores = board.unique("market_id")["trust"].drop_nulls()
    if len(scores):
        _publish_picture(f"{run.pipeline}-trust", trust_png(scores), "Markets by trust")


def recalibration_png(row: dict[str, Any]) -> bytes:
    """A row's map from prices to probabilities with its 95 % band, as PNG."""
    figure, axes = _figure()
    price = row["price"]
    if None not in (*row["lo"], *row["hi"]):
        axes.fill_between(price, row["lo"], row["hi"], color="#cfd8e3", label="95 %")
    axes.plot([0, 1], [0, 1], color="#8895a7", linewidth=1)
    axes.plot(price, row["value"], color="#1f5fa8", label=f"{row['method']}, fitted")
    axes.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="price", ylabel="calibrated probability",
        title=f"Recalibration {row['version']}, served: {row['served']}",
    )  # fmt: skip
    axes.legend(loc="upper left", frameon=False)
    return _png(figure)


def trust_png(scores: pl.Series) -> bytes:
    """Markets by trust score, as PNG."""
    figure, axes = _figure()
    axes.hist(scores.to_numpy(), bins=range(0, 100 + _BIN, _BIN), color="#1f5fa8")
    axes.set(xlim=(0, 100), xlabel="trust", ylabel="markets", title="Trust of the scoreboard")
    return _png(figure)


def _rounded(rows: pl.DataFrame, columns: tuple[str, ...]) -> pl.DataFrame:
    return rows.select(columns).with_columns(pl.selectors.float().round(4))


def _publish_picture(key: str, picture: bytes, description: str) -> None:
    encoded = base64.b64encode(picture).decode()
    create_markdown_artifact(
        key=key,
        markdown=f"![{description}](data:image/png;base64,{encoded})",
        description=description,
    )


def _figure() -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(5.2, 5.2), layout="constrained")
    return figure, figure.subplots()


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()
