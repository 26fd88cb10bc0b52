"""The last rules that every band passes: range, order and width.

Each rule counts what it touched, so that an answer can carry one warning per code.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import special

from forecast_service.transform import FloatArray

_TOUCHED = 1e-12


class Adjustment(StrEnum):
    """What was done to a band."""

    CLIPPED = "CLIPPED"
    """Quantiles outside [0, 1] were moved to its edge."""
    REARRANGED = "REARRANGED"
    """Crossing quantiles were sorted."""
    WIDENED = "WIDENED"
    """Steps whose band was narrower than the minimum were opened."""
    NARROWED = "NARROWED"
    """Steps whose band was wider than the maximum were closed."""


@dataclass(frozen=True, slots=True)
class WidthLimits:
    """Smallest and largest width of the 10–90 % band, in probability.

    When the levels asked for do not span 10–90 %, the limits hold for the outermost symmetric pair
    among them; without a symmetric pair they do not apply.
    """

    minimum: float = 0.02
    maximum: float = 0.9

    def __post_init__(self) -> None:
        if not 0.0 <= self.minimum <= self.maximum <= 1.0:
            raise ValueError("width limits must satisfy 0 ≤ minimum ≤ maximum ≤ 1")


@dataclass(frozen=True, slots=True)
class FinalBand:
    """A band that keeps the promises of the contract.

    Attributes:
        quantiles: [B, H, Q] float64 in [0, 1], not decreasing along Q.
        counts: per adjustment, [B] int64: quantiles (CLIPPED, REARRANGED) or steps (WIDENED,
            NARROWED) that it moved.
    """

    quantiles: FloatArray
    counts: dict[Adjustment, NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class _Reference:
    """The pair of levels whose distance is the width, as weights [Q] over the quantiles."""

    low: FloatArray
    middle: FloatArray
    high: FloatArray
    shape: FloatArray


def finish(
    quantiles: FloatArray, levels: FloatArray, *, limits: WidthLimits | None = None
) -> FinalBand:
    """Clip to [0, 1], sort crossing quantiles, keep the width within its limits.

    Sorting is the rearrangement of Chernozhukov, Fernández-Val and Galichon (Econometrica 78,
    2010, doi:10.3982/ECTA7880): it never worsens a quantile forecast.

    Args:
        quantiles: [B, H, Q] float64, finite.
        levels: [Q] float64 in (0, 1), strictly increasing.
        limits: width limits; None for the defaults.
    """
    clipped = np.clip(quantiles, 0.0, 1.0)
    ordered = np.sort(clipped, axis=2)
    moved = (1, 2)
    counts = {
        Adjustment.CLIPPED: (clipped != quantiles).sum(axis=moved),
        Adjustment.REARRANGED: (ordered != clipped).sum(axis=moved),
        Adjustment.WIDENED: np.zeros(quantiles.shape[0], dtype=np.int64),
        Adjustment.NARROWED: np.zeros(quantiles.shape[0], dtype=np.int64),
    }
    reference = _reference(tuple(levels.tolist()))
    if reference is None:
        return FinalBand(ordered, counts)
    kept = limits or WidthLimits()
    width = ordered @ (reference.high - reference.low)
    narrow, wide = width < kept.minimum - _TOUCHED, width > kept.maximum + _TOUCHED
    if narrow.any():
        opened = _widen(ordered, reference, deficit=np.where(narrow, kept.minimum - width, 0.0))
        ordered = np.where(narrow[:, :, None], opened, ordered)
    if wide.any():
        centre = (ordered @ reference.middle)[:, :, None]
        factor = np.where(wide, kept.maximum / np.where(wide, width, 1.0), 1.0)[:, :, None]
        ordered = np.where(wide[:, :, None], centre + (ordered - centre) * factor, ordered)
    counts[Adjustment.WIDENED] = narrow.sum(axis=1)
    counts[Adjustment.NARROWED] = wide.sum(axis=1)
    return FinalBand(np.clip(ordered, 0.0, 1.0), counts)


def reference_width(levels: tuple[float, ...]) -> FloatArray | None:
    """[Q] weights over the quantiles that give the width of `WidthLimits`; None where none is."""
    reference = _reference(levels)
    return None if reference is None else reference.high - reference.low


def _widen(ordered: FloatArray, reference: _Reference, *, deficit: FloatArray) -> FloatArray:
    """Open bands [B, H, Q] by ``deficit`` [B, H] around the median, in the shape of a normal.

    What would fall below 0 or above 1 is given to the other side.
    """
    opened = ordered + deficit[:, :, None] * reference.shape
    below = np.maximum(-(opened @ reference.low), 0.0)[:, :, None]
    above = np.maximum(opened @ reference.high - 1.0, 0.0)[:, :, None]
    upper = np.maximum(reference.shape, 0.0) / float(reference.shape @ reference.high)
    lower = np.maximum(-reference.shape, 0.0) / -float(reference.shape @ reference.low)
    return np.asarray(opened + below * upper - above * lower)


@lru_cache(maxsize=256)
def _reference(of: tuple[float, ...]) -> _Reference | None:
    """The reference pair of a set of levels, or None when no width is defined."""
    levels = np.asarray(of)
    low = 0.1
    if levels[0] > 0.1 + _TOUCHED or levels[-1] < 0.9 - _TOUCHED:
        paired = np.abs(levels[:, None] + levels[None, :] - 1.0) < 1e-9
        candidates = levels[paired.any(axis=1) & (levels < 0.5 - 1e-9)]
        if not candidates.size:
            return None
        low = float(candidates[0])
    scores = special.ndtri(levels)
    return _Reference(
        low=_weights_at(low, levels),
        middle=_weights_at(0.5, levels),
        high=_weights_at(1.0 - low, levels),
        shape=scores / (2.0 * special.ndtri(1.0 - low)),
    )


def _weights_at(level: float, levels: FloatArray) -> FloatArray:
    """[Q] weights that interpolate quantiles at ``levels`` linearly at ``level``."""
    return np.array([np.interp(level, levels, row) for row in np.eye(levels.size)])
