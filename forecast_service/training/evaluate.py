"""The evaluation protocol: the native model beside every classical method on recorded markets.

Context 288, horizon 12, mean pinball over windows, steps and the levels .1/.5/.9, intervals by
resampling events. Sports windows are those of events that training never saw, and once more those
of the last fifth of time; the other families were never trained on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from forecast_service import interval_scores as scores
from forecast_service.baselines import BASELINES
from forecast_service.batch import Batch, Query
from forecast_service.evaluation.splits import held_out
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.models.port import Model
from forecast_service.training import recorded
from forecast_service.training.earlier import EARLIER, Method
from forecast_service.training.recorded import HORIZON, Windows
from forecast_service.transform import LOGIT, FloatArray, Transform

LEVELS = np.array([0.1, 0.5, 0.9])
THIRDS = (slice(0, 4), slice(4, 8), slice(8, 12))
_AT_ONCE = 512
Forecast = Callable[[Windows], FloatArray]
"""Windows to [N, HORIZON, 3] prices."""


def evaluate(model: Model, data: Path, *, seed: int = 7) -> dict[str, Any]:
    """The table of all families, as plain values for a model card."""
    table: dict[str, Any] = {}
    for name, windows in samples(data).items():
        rng = np.random.default_rng(seed)
        table[name] = compare(model, windows, rng)
    return table


def samples(data: Path) -> dict[str, Windows]:
    """The windows of each part of the evaluation."""
    parts: dict[str, Windows] = {}
    for family in recorded.STRIDES:
        series = recorded.load(data, family)
        windows = recorded.windows(family, series)
        if family != "sports":
            parts[family] = windows
            continue
        unseen = np.array([held_out(event) for event in windows.event])
        late = windows.origin >= recorded.time_split(series)
        parts["sports: held-out events"] = windows.where(unseen)
        parts["sports: last fifth of time"] = windows.where(late)
    return parts


def compare(model: Model, windows: Windows, rng: np.random.Generator) -> dict[str, Any]:
    """Scores of all methods on the windows of one family."""
    bands = {name: forecast(windows) for name, forecast in methods(model).items()}
    pinball = {name: float(_loss(band, windows).mean()) for name, band in bands.items()}
    best = min((name for name in pinball if name not in NATIVE), key=lambda name: pinball[name])
    scored = {name: _against(bands[name], bands[best], windows, rng) for name in NATIVE}
    return {
        "windows": len(windows.target),
        "events": len(set(windows.event.tolist())),
        "best_classical": best,
        "pinball": pinball,
        **scored,
    }


def _against(
    band: FloatArray, best: FloatArray, windows: Windows, rng: np.random.Generator
) -> dict[str, Any]:
    """How a band does beside the best classical one, and by itself."""
    actual, event = windows.target, windows.event
    last = np.abs(actual - windows.context[:, -1:]).mean(axis=1)
    median = np.abs(actual - band[:, :, 1]).mean(axis=1)
    inside = scores.covered(band[:, :, 0], band[:, :, 2], actual)

    def ratio(above: FloatArray, below: FloatArray) -> dict[str, float]:
        return _figure(scores.ratio_of_means(above, below, event, rng=rng))

    return {
        "ratio_to_best": ratio(_loss(band, windows), _loss(best, windows)),
        "ratio_to_best_by_third": {
            _third(steps): ratio(_loss(band, windows, steps), _loss(best, windows, steps))
            for steps in THIRDS
        },
        "median_error_to_last_value": ratio(median, last),
        "coverage_80_raw": {
            _third(steps): _figure(scores.mean(inside[:, steps].mean(axis=1), event, rng=rng))
            for steps in THIRDS
        },
        "crossings": int((np.diff(band, axis=2) < 0).sum()),
        "outside_0_1": int(((band < 0) | (band > 1)).sum()),
    }


NATIVE = ("native", "native, event known")


def methods(model: Model) -> dict[str, Forecast]:
    """Every method by name; the native one without and with the time to the event."""
    found: dict[str, Forecast] = {
        name: partial(_by_model, BASELINE_MODEL, name, event=False) for name in BASELINES
    }
    found |= {name: partial(_earlier, method) for name, method in EARLIER.items()}
    found["native"] = partial(_by_model, model, "native", event=False)
    found["native, event known"] = partial(_by_model, model, "native", event=True)
    return found


def _earlier(method: Method, windows: Windows) -> FloatArray:
    return method(windows.context, HORIZON, LEVELS)


def _by_model(model: Model, name: str, windows: Windows, *, event: bool) -> FloatArray:
    """Raw quantiles without the product's width limits, which would hide differences."""
    space = Transform(LOGIT.space, recorded.CLIP)
    query = Query(name, HORIZON, tuple(LEVELS.tolist()), space, windows.step)
    parts = []
    for start in range(0, len(windows.context), _AT_ONCE):
        rows = slice(start, start + _AT_ONCE)
        to_event = windows.steps_to_event[rows] if event else None
        raw = model.forecast(Batch(query, windows.context[rows], to_event), 60.0)
        places = [int(np.abs(raw.levels - level).argmin()) for level in LEVELS]
        parts.append(raw.quantiles[:, :HORIZON, places])
    return np.concatenate(parts)


def _loss(band: FloatArray, windows: Windows, steps: slice = slice(None)) -> FloatArray:
    """[N] mean pinball loss over levels and the steps."""
    loss = scores.pinball(band[:, steps], LEVELS, windows.target[:, steps])
    return np.asarray(loss.mean(axis=(1, 2)))


def _third(steps: slice) -> str:
    return f"steps {steps.start + 1}-{steps.stop}"


def _figure(interval: scores.Interval) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in asdict(interval).items()}
