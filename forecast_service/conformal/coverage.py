"""Coverage on what the corrections have not seen, before and after, with intervals over events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from forecast_service.conformal.fit import Outcomes, Rules, fit_step, groups
from forecast_service.conformal.independent import split
from forecast_service.conformal.scores import Levels
from forecast_service.conformal.state import ConformalState, ModelKey
from forecast_service.interval_scores import Interval, covered, ratios_of_means
from forecast_service.postprocess import WidthLimits
from forecast_service.transform import FloatArray

THIRDS = {"short": (1, 6), "middle": (8, 36), "long": (48, 2016)}
"""First and last knot of each part of the horizon, each about a third of the knots up to 288."""
RESAMPLES = 500
"""Of events, behind each interval: there may be hundreds of segments."""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How often a central band covered.

    Attributes:
        segment: whose bands; a key with ``*`` for a pooled dimension.
        third: part of the horizon, a key of `THIRDS`.
        nominal: share that was promised.
        before, after: share covered raw and corrected; their intervals resample events.
        width_before, width_after: mean widths in price.
        samples: independent windows, each step counted.
    """

    segment: str
    third: str
    nominal: float
    before: Interval
    after: Interval
    width_before: float
    width_after: float
    samples: int


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """Windows of one step that no correction was fitted on.

    Attributes:
        step: of the horizon.
        outcomes: the windows.
        before, after: [N] whether the raw and the corrected band covered.
        width_before, width_after: [N] float64.
    """

    step: int
    outcomes: Outcomes
    before: NDArray[np.bool_]
    after: NDArray[np.bool_]
    width_before: FloatArray
    width_after: FloatArray


def measured_step(
    outcomes: Outcomes,
    levels: Levels,
    *,
    step: int,
    freq_seconds: int,
    split_at: int,
    rules: Rules,
    band: tuple[float, float] = (0.1, 0.9),
    limits: WidthLimits | None = None,
    tails: Mapping[str, float] | None = None,
) -> Measured:
    """Fits on what was settled before the split, and measures on what began a horizon after it.

    Args:
        outcomes: forecasts of ``step`` steps.
        levels: of the quantiles, the median and those of ``band`` among them.
        step: horizon step, ≥ 1.
        freq_seconds: length of a step.
        split_at: seconds since the epoch.
        rules: when there is enough to fit.
        band: the two levels whose coverage is measured.
        limits: width limits of the corrected bands; None for the defaults.
        tails: as in `fit_step`.
    """
    fit_on, measure_on = split(outcomes.origin, at=split_at, horizon_seconds=step * freq_seconds)
    found = fit_step(
        outcomes.where(fit_on), levels, step=step, freq_seconds=freq_seconds, rules=rules,
        tails=tails,
    )  # fmt: skip
    three = (band[0], 0.5, band[1])
    unseen = _at_levels(outcomes.where(measure_on), levels, three).settled(step * freq_seconds)
    key = ModelKey("", "", freq_seconds)
    after = corrected_rows(ConformalState("", {key: found}), key, unseen, three, step, limits)
    raw = unseen.quantiles
    return Measured(
        step,
        unseen,
        covered(raw[:, 0], raw[:, 2], unseen.actual),
        covered(after[:, 0], after[:, 2], unseen.actual),
        raw[:, 2] - raw[:, 0],
        after[:, 2] - after[:, 0],
    )


def _at_levels(outcomes: Outcomes, levels: Levels, wanted: Levels) -> Outcomes:
    """The windows whose bands have all the wanted ones of their levels, and those alone."""
    kept = outcomes.quantiles[:, [levels.index(level) for level in wanted]]
    whole = np.asarray(np.isfinite(kept).all(axis=1))
    return replace(outcomes, quantiles=kept).where(whole)


def corrected_rows(
    state: ConformalState,
    key: ModelKey,
    outcomes: Outcomes,
    levels: Levels,
    step: int,
    limits: WidthLimits | None = None,
) -> FloatArray:
    """[N, Q] corrected bands of the windows of one step; as they were where nothing was fitted."""
    kept = limits or WidthLimits()
    result = outcomes.quantiles.copy()
    for place, segment in enumerate(outcomes.segments):
        rows = np.flatnonzero(outcomes.segment == place)
        factors = state.at_steps(key, segment, np.array([float(step)]), levels)
        if rows.size and factors is not None:
            result[rows] = factors.corrected(result[rows], (kept.minimum, kept.maximum))
    return result


def coverages(
    measured: list[Measured],
    *,
    nominal: float,
    rules: Rules,
    rng: np.random.Generator,
) -> list[Coverage]:
    """Coverage of every segment and third of the horizon that has enough events."""
    found: list[Coverage] = []
    for third, (first, last) in THIRDS.items():
        parts = [one for one in measured if first <= one.step <= last and one.before.size]
        by_segment: dict[str, list[tuple[Measured, NDArray[np.intp]]]] = {}
        for one in parts:
            for segment, rows in groups(one.outcomes):
                by_segment.setdefault(segment, []).append((one, rows))
        for segment, members in by_segment.items():
            event = np.concatenate([one.outcomes.event[rows] for one, rows in members])
            if np.unique(event).size >= rules.min_events:
                values = np.concatenate([_columns(one)[rows] for one, rows in members])
                found.append(_coverage(segment, third, values, event, nominal, rng))
    return found


def _columns(one: Measured) -> FloatArray:
    """[N, 4]: covered raw and corrected, widths raw and corrected."""
    return np.stack([one.before, one.after, one.width_before, one.width_after], axis=1, dtype=float)


def _coverage(
    segment: str,
    third: str,
    values: FloatArray,
    event: NDArray[np.int64],
    nominal: float,
    rng: np.random.Generator,
) -> Coverage:
    covered_of = values[:, :2]
    before, after = ratios_of_means(
        covered_of, np.ones_like(covered_of), event.astype(np.str_), rng=rng, resamples=RESAMPLES
    )
    widths = values[:, 2:].mean(axis=0)
    return Coverage(
        segment, third, nominal, before, after, float(widths[0]), float(widths[1]), len(values)
    )
