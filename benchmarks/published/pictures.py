"""Reliability pictures of the report: observed rates by price, beside those of calibration."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.published.real_markets import Horizon


def reliability_pictures(by_horizon: Sequence[Horizon]) -> bytes:
    """One panel for each horizon, with the map that validation chose, as PNG."""
    from matplotlib.figure import Figure

    columns = 3
    rows = -(-len(by_horizon) // columns)
    figure: Any = Figure(figsize=(3.4 * columns, 3.4 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for panel, horizon in zip(panels, by_horizon, strict=False):
        _draw(panel, horizon)
    for panel in panels[len(by_horizon) :]:
        panel.axis("off")
    panels[0].legend(loc="upper left", frameon=False, fontsize=7)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=80, metadata={"Software": None})
    return target.getvalue()


def _draw(panel: Any, horizon: Horizon) -> None:
    curve, fitted = horizon.curve, horizon.recalibration
    price = curve["mean_price"].to_numpy()
    panel.fill_between(
        price, curve["consistency_lo"].to_numpy(), curve["consistency_hi"].to_numpy(),
        color="#cfd8e3", label="95 % if calibrated",
    )  # fmt: skip
    panel.plot([0, 1], [0, 1], color="#8895a7", linewidth=1)
    panel.plot(price, curve["observed_rate"].to_numpy(), "o-", color="#1f5fa8", label="observed")
    if fitted["served"] != "price":
        panel.plot(
            np.array(fitted["price"]), np.array(fitted["value"]), color="#b3541e",
            label=f"served: {fitted['method']}",
        )  # fmt: skip
    days, count = horizon.days, horizon.scores["sample_size"]
    panel.set(
        xlim=(0, 1), ylim=(0, 1), xlabel="price", ylabel="share that resolved YES",
        title=f"{days} day{'s' if days > 1 else ''} before, {count:,} markets",
    )  # fmt: skip
    panel.title.set_fontsize(9)
