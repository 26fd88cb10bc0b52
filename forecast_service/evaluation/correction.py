"""The conformal correction, refitted on the part of a split that is not scored."""

from __future__ import annotations

import numpy as np

from forecast_service.conformal.coverage import corrected_rows
from forecast_service.conformal.fit import Correction, Outcomes, Rules, fit_step, knots_within
from forecast_service.conformal.segments import ALL
from forecast_service.conformal.state import ConformalState, ModelKey
from forecast_service.evaluation.bands import LEVELS
from forecast_service.evaluation.windows import BoolArray, Windows
from forecast_service.postprocess import WidthLimits
from forecast_service.transform import FloatArray

RULES = Rules()
_LEVELS = tuple(LEVELS.tolist())
_ANY_WIDTH = WidthLimits(0.0, 1.0)


def fitted(
    quantiles: FloatArray,
    windows: Windows,
    *,
    pool: BoolArray | None = None,
    rules: Rules = RULES,
) -> ConformalState:
    """The corrections of one model by cadence, step and family.

    Args:
        quantiles: [N, H, Q] raw bands at `LEVELS` of the windows to fit on.
        windows: these.
        pool: [N] bool, windows that count for families other than their own; None for all.
        rules: when there is enough to fit.
    """
    found: dict[ModelKey, list[Correction]] = {}
    for seconds in np.unique(windows.step).tolist():
        rows = windows.step == seconds
        pooled = rows if pool is None else rows & pool
        own = _fitted(quantiles[rows], windows.where(rows), seconds, rules)
        shared = _fitted(quantiles[pooled], windows.where(pooled), seconds, rules)
        found[_key(seconds)] = [
            *(row for row in own if row.segment != ALL),
            *(row for row in shared if row.segment == ALL),
        ]
    return ConformalState("evaluation", found)


def _fitted(
    quantiles: FloatArray, windows: Windows, seconds: int, rules: Rules
) -> list[Correction]:
    if not len(windows):
        return []
    return [
        row
        for step in knots_within(quantiles.shape[1])
        for row in fit_step(
            _outcomes(quantiles, windows, step),
            _LEVELS,
            step=step,
            freq_seconds=seconds,
            rules=rules,
        )
    ]


def corrected(state: ConformalState, quantiles: FloatArray, windows: Windows) -> FloatArray:
    """[N, H, Q] corrected bands; as they were where nothing was fitted."""
    result = quantiles.copy()
    for seconds in np.unique(windows.step).tolist():
        rows = np.flatnonzero(windows.step == seconds)
        part = windows.where(windows.step == seconds)
        for step in range(1, quantiles.shape[1] + 1):
            outcomes = _outcomes(quantiles[rows], part, step)
            result[rows, step - 1] = corrected_rows(
                state, _key(seconds), outcomes, _LEVELS, step, _ANY_WIDTH
            )
    return result


def _key(seconds: int) -> ModelKey:
    return ModelKey("", "", seconds)


def _outcomes(quantiles: FloatArray, windows: Windows, step: int) -> Outcomes:
    """One step; windows of a family are counted together, then with all others."""
    families, segment = np.unique(windows.family, return_inverse=True)
    return Outcomes(
        quantiles[:, step - 1],
        windows.target[:, step - 1],
        np.unique(windows.market, return_inverse=True)[1].astype(np.int64),
        np.unique(windows.event, return_inverse=True)[1].astype(np.int64),
        windows.origin,
        segment.astype(np.int64),
        tuple(f"category={family}|liquidity=*|tte=*" for family in families.tolist()),
    )
