"""The shared view of a batch of series: observations packed to the right, gaps counted.

Missing values are dropped and remembered as gaps: an increment over a gap of k steps has k times
the variance of a one-step increment, and a series whose last k values are missing forecasts
``h + k`` steps from its last observation.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag

import numpy as np
from numpy.typing import NDArray
from scipy import special

from forecast_service.transform import FloatArray

BoolArray = NDArray[np.bool_]

UNKNOWN_SCALE = 0.05
"""One-step scale assumed for a series with a single observation, in working-space units."""

MIN_SCALE = 1e-4
"""Smallest one-step scale: a series that never moved still gets an ordered, tiny band."""


class BaselineFlag(IntFlag):
    """What a row's band rests on when it does not rest on enough data."""

    NONE = 0
    SHORT_HISTORY = 1
    """A step of the horizon was scaled by √h from a shorter one, or one point was all there is."""
    POINT_FORECAST = 2
    """The method gives a point: all quantiles are equal."""


@dataclass(frozen=True, slots=True)
class Context:
    """A batch of series in the working space.

    Attributes:
        raw: [B, T] float64, NaN = missing, oldest first.
        packed: [B, T] float64: each row's observations moved to the right end, the free places at
            the left filled with the first observation (so that they are steps of size 0).
        moves: [B, T-1] float64, differences of ``packed``.
        gaps: [B, T-1] float64 ≥ 1, steps between the two observations of a move; None when
            nothing is missing.
        valid: [B, T-1] bool, False at the filled places; None when nothing is missing.
        age: [B] float64, steps since the last observation (0 when the last value is there).
        count: [B] int64, observations.
    """

    raw: FloatArray
    packed: FloatArray
    moves: FloatArray
    gaps: FloatArray | None
    valid: BoolArray | None
    age: FloatArray
    count: NDArray[np.int64]

    @property
    def last(self) -> FloatArray:
        """[B] float64, the last observation of each row."""
        return self.packed[:, -1]

    def rows(self, index: NDArray[np.intp]) -> Context:
        """The same view of some rows."""
        return Context(
            raw=self.raw[index],
            packed=self.packed[index],
            moves=self.moves[index],
            gaps=None if self.gaps is None else self.gaps[index],
            valid=None if self.valid is None else self.valid[index],
            age=self.age[index],
            count=self.count[index],
        )


@dataclass(frozen=True, slots=True)
class Band:
    """Quantiles in the working space.

    Attributes:
        quantiles: [B, H, Q] float64, increasing along Q.
        flags: [B] int64, bits of `BaselineFlag`.
    """

    quantiles: FloatArray
    flags: NDArray[np.int64]


def context_of(z: FloatArray) -> Context:
    """Pack a batch of working-space series; every row must hold at least one finite value.

    Args:
        z: [B, T] float64, NaN = missing, oldest first.

    Raises:
        ValueError: a row has no finite value.
    """
    batch, length = z.shape
    finite = np.isfinite(z)
    if finite.all():
        moves = z[:, 1:] - z[:, :-1]
        return Context(z, z, moves, None, None, np.zeros(batch), np.full(batch, length))
    count = finite.sum(axis=1)
    if not count.all():
        raise ValueError(f"rows without a finite value: {np.flatnonzero(count == 0)[:8].tolist()}")
    order = np.argsort(finite, axis=1, kind="stable")
    free = np.arange(length) < (length - count)[:, None]
    packed = np.take_along_axis(z, order, axis=1)
    first = np.take_along_axis(packed, (length - count)[:, None], axis=1)
    packed = np.where(free, first, packed)
    valid = ~free[:, :-1]
    gaps = np.where(valid, np.diff(order, axis=1), 1).astype(np.float64)
    age = (length - 1 - order[:, -1]).astype(np.float64)
    return Context(z, packed, np.diff(packed, axis=1), gaps, valid, age, count)


def steps_ahead(context: Context, horizon_steps: int) -> FloatArray:
    """[B, H] (or [1, H] when nothing is stale) float64: steps from the last observation."""
    ahead = np.arange(1.0, horizon_steps + 1.0)[None, :]
    if context.gaps is None:
        return ahead
    return ahead + context.age[:, None]


def location_scale(
    centre: FloatArray, variance: FloatArray, *, dof: FloatArray, levels: FloatArray
) -> FloatArray:
    """Quantiles of a Student t around a centre.

    The t accounts for the variance being estimated; with many degrees of freedom it is the normal.

    Args:
        centre: [B] float64.
        variance: [B, H] or [1, H] float64 ≥ 0.
        dof: [B] or [1] float64 ≥ 1, degrees of freedom of the variance estimate.
        levels: [Q] float64 in (0, 1).

    Returns:
        [B, H, Q] float64.
    """
    shape = np.asarray(special.stdtrit(dof[:, None], levels))
    return np.asarray(centre[:, None, None] + np.sqrt(variance)[:, :, None] * shape[:, None, :])


def no_flags(context: Context) -> NDArray[np.int64]:
    """[B] int64: SHORT_HISTORY where a row has a single observation, else nothing."""
    return np.where(context.count < 2, int(BaselineFlag.SHORT_HISTORY), 0)
