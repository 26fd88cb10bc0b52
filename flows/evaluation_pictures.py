"""The pictures of an evaluation, as PNG: example fans, coverage by steps, loss by family."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from forecast_service.evaluation import scoring
from forecast_service.evaluation.scoring import ALL, CONFORMAL, RAW, Figure

if TYPE_CHECKING:
    from flows.evaluation_stages import Results

_INK, _BAND, _WIDE, _GREY = "#1f5fa8", "#a9c4e4", "#dbe6f3", "#8895a7"
_SEEN = 48
"""Steps of the context in an example."""
_EXAMPLES = 6


def pictures(results: Results) -> dict[str, bytes]:
    """PNG by file name."""
    return {
        "fan.png": fan(results),
        "coverage.png": coverage(results),
        "pinball.png": pinball(results),
    }


def fan(results: Results) -> bytes:
    """Corrected bands of the first candidate (else the champion) over windows of rising loss."""
    model, split = results.models[:2][-1], results.splits[-1]
    windows = results.all_windows.where(split.test)
    bands = results.corrected[split.name, model][split.test]
    order = np.argsort(scoring.loss(bands, windows.target), kind="stable")
    shown = order[np.unique(np.linspace(0.3, 0.99, _EXAMPLES) * (order.size - 1)).astype(int)]
    figure, grid = _figure(10.0, 5.4, 2, 3)
    for axes, row in zip(grid.ravel(), shown.tolist(), strict=False):
        seen, band = windows.context[row, -_SEEN:], bands[row]
        steps = np.arange(1, len(band) + 1)
        axes.fill_between(steps, band[:, 0], band[:, 6], color=_WIDE, label="95 %")
        axes.fill_between(steps, band[:, 1], band[:, 5], color=_BAND, label="80 %")
        axes.plot(steps, band[:, 3], color=_INK, linewidth=1, label="median")
        axes.plot(np.arange(1 - seen.size, 1), seen, color=_GREY, linewidth=1)
        axes.plot(steps, windows.target[row], color="black", linewidth=1.2, label="price")
        axes.set_title(f"{windows.family[row]} {windows.market[row]}"[:44], fontsize=8)
    grid.ravel()[0].legend(frameon=False, fontsize=7)
    figure.suptitle(f"{model}: windows from easy to hard, split by {split.name}", fontsize=10)
    return _png(figure)


def coverage(results: Results) -> bytes:
    """Coverage of the 80 % band by steps, raw and corrected, in both splits."""
    figure, grid = _figure(10.0, 4.0, 1, 2)
    for axes, split in zip(grid.ravel(), results.splits, strict=True):
        axes.axhline(0.8, color=_GREY, linewidth=1)
        for band, style in ((RAW, ":"), (CONFORMAL, "-")):
            for number, model in enumerate(results.models):
                found = _figures(results, split.name, model, band, "coverage_80")
                thirds = [one for one in found if one.steps != ALL and one.family == _pool(found)]
                values = [one.interval.value for one in thirds]
                axes.plot(
                    [one.steps for one in thirds], values, style, marker="o", color=f"C{number}",
                    label=model if band == CONFORMAL else None,
                )  # fmt: skip
        axes.set(title=f"split by {split.name}", xlabel="steps", ylabel="share covered")
    grid.ravel()[0].legend(loc="lower left", frameon=False, fontsize=7)
    figure.suptitle("80 % band: dotted raw, solid corrected", fontsize=10)
    return _png(figure)


def pinball(results: Results) -> bytes:
    """Mean pinball loss by family, in units of the champion's, split by events."""
    figure, grid = _figure(10.0, 4.0, 1, 1)
    axes, split = grid.ravel()[0], results.splits[-1].name
    champion = _losses(results, split, results.champion)
    width = 0.8 / len(results.models)
    for number, model in enumerate(results.models):
        found = _losses(results, split, model)
        heights = [
            found[name].interval.value / max(own.interval.value, 1e-12)
            for name, own in champion.items()
        ]
        axes.bar(np.arange(len(champion)) + number * width, heights, width, label=model)
    axes.axhline(1.0, color=_GREY, linewidth=1)
    axes.set_xticks(np.arange(len(champion)) + 0.4 - width / 2, list(champion))
    axes.set(ylabel=f"pinball ÷ that of {results.champion}")
    axes.legend(loc="lower left", fontsize=7)
    return _png(figure)


def _losses(results: Results, split: str, model: str) -> dict[str, Figure]:
    found = _figures(results, split, model, CONFORMAL, "pinball")
    return {one.family: one for one in found if one.steps == ALL}


def _figures(results: Results, split: str, model: str, band: str, metric: str) -> list[Figure]:
    return [
        figure
        for of, figure in results.figures
        if (of, figure.model, figure.band, figure.metric) == (split, model, band, metric)
    ]


def _pool(figures: list[Figure]) -> str:
    """All families, or the only one."""
    return figures[0].family


def _figure(width: float, height: float, rows: int, columns: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure as Canvas

    figure: Any = Canvas(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


def _png(figure: Any) -> bytes:
    target = io.BytesIO()
    figure.savefig(target, format="png")
    return target.getvalue()
