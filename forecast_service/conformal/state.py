"""A fitted set of corrections, ready to be applied: immutable, and quick for a single series.

Between two fitted steps a correction is linear in the logarithm of the step, beyond the last one it
stays; between two fitted levels of one side it is linear in the normal score of the level, beyond
the outermost, and between the innermost and the median, it stays: it is a factor of the distance.
Where a segment has no correction for a step and level, the next coarser one of its chain has.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from scipy import special

from forecast_service.conformal.fit import Correction
from forecast_service.conformal.scores import QUIET_WIDTH, Geometry, Levels, geometry, moved
from forecast_service.conformal.segments import chain
from forecast_service.transform import FloatArray

MAX_ENTRIES, MAX_BYTES = 4_096, 32 * 2**20
"""Of remembered factors: callers choose levels, horizons and categories."""
_OVERHEAD = 2_000
"""Bytes of factors beside their numbers: keys, objects and the geometry of their levels."""
_LEVEL_BYTES = 80
_NEAR = 2e-4


class ModelKey(NamedTuple):
    """Whose bands a correction belongs to."""

    model: str
    version: str
    freq_seconds: int


@dataclass(frozen=True, slots=True, eq=False)
class Factors:
    """Corrections of one segment, horizon and set of levels.

    Attributes:
        shape: of the levels.
        wide, quiet: [H, Q] float64, ``side`` times the correction, for bands that are not quiet and
            for those that are.
        opening: ``quiet`` without what would close a band: where a quiet band stands at the minimum
            width, nothing can.
    """

    shape: Geometry
    wide: FloatArray
    quiet: FloatArray
    opening: FloatArray

    def corrected(
        self, quantiles: FloatArray, limits: tuple[float, float] | None = None
    ) -> FloatArray:
        """[H, Q] corrected bands of [H, Q] raw ones within ``limits``; see `scores.moved`."""
        chosen, weights = self.wide, self.shape.spread
        if weights is not None:
            quiet = quantiles @ weights <= QUIET_WIDTH
            if quiet.any():
                at_least = limits is not None and limits[0] >= QUIET_WIDTH - _NEAR
                other = self.opening if at_least else self.quiet
                chosen = np.where(quiet[:, None], other, self.wide)
        return moved(quantiles, self.shape, chosen, limits)


def _weight(factors: Factors) -> int:
    """About the bytes that remembered factors take."""
    numbers = factors.wide.nbytes + factors.quiet.nbytes + factors.opening.nbytes
    return numbers + _LEVEL_BYTES * factors.shape.levels.size + _OVERHEAD


_Table = dict[tuple[str, bool], dict[tuple[int, float], float]]


class ConformalState:
    """Corrections of all models under one version.

    Args:
        version: its name.
        corrections: by model.
    """

    def __init__(self, version: str, corrections: Mapping[ModelKey, Iterable[Correction]]) -> None:
        self.version = version
        self._tables = {key: _table(rows) for key, rows in corrections.items()}
        self._known: OrderedDict[tuple[ModelKey, str, int, Levels], Factors] = OrderedDict()
        self._bytes = 0

    def factors(
        self, key: ModelKey, segment: str, horizon_steps: int, levels: Levels
    ) -> Factors | None:
        """The factors of every step of a horizon, remembered; None where nothing was fitted."""
        asked = (key, segment, horizon_steps, levels)
        known = self._known.get(asked)
        if known is not None:
            self._known.move_to_end(asked)
            return known
        made = self.at_steps(key, segment, np.arange(1.0, horizon_steps + 1.0), levels)
        if made is None:
            return None
        self._known[asked] = made
        self._bytes += _weight(made)
        while self._bytes > MAX_BYTES or len(self._known) > MAX_ENTRIES:
            self._bytes -= _weight(self._known.popitem(last=False)[1])
        return made

    def at_steps(
        self, key: ModelKey, segment: str, steps: FloatArray, levels: Levels
    ) -> Factors | None:
        """The same for the steps [H], not remembered."""
        table, shape = self._tables.get(key), geometry(levels)
        if not table or shape is None:
            return None
        fitted = [_resolved(table, segment, is_one) for is_one in (False, True)]
        if not any(fitted):
            return None
        wide, quiet = (shape.side * _between(of, steps, shape) for of in fitted)
        return Factors(shape, wide, quiet, np.where(quiet * shape.side > 0.0, quiet, 0.0))


class Corrections(Protocol):
    """Where the state in force is."""

    @property
    def current(self) -> ConformalState | None:
        """The newest state; None before the first."""
        ...


class Uncorrected:
    """No state, now and later."""

    current: ConformalState | None = None


UNCORRECTED = Uncorrected()


def _table(rows: Iterable[Correction]) -> _Table:
    table: _Table = {}
    for row in rows:
        of = table.setdefault((row.segment, row.quiet), {})
        of[row.horizon_step, row.level] = row.correction
    return table


def _resolved(table: _Table, segment: str, quiet: bool) -> dict[tuple[int, float], float]:
    """Correction by step and level, each from the finest segment of the chain that has it."""
    found: dict[tuple[int, float], float] = {}
    for key in reversed(chain(segment)):
        found |= table.get((key, quiet), {})
    return found


def _between(
    fitted: dict[tuple[int, float], float], steps: FloatArray, shape: Geometry
) -> FloatArray:
    """[H, Q] corrections for any steps and levels; 0 where nothing was fitted."""
    result = np.zeros((steps.size, shape.levels.size))
    for below in (True, False):
        places = np.flatnonzero(shape.side == (1.0 if below else -1.0))
        levels = sorted({level for _, level in fitted if (level < 0.5) == below})
        if not levels or not places.size:
            continue
        by_level = np.stack([_over_steps(fitted, level, steps) for level in levels])
        at, own = special.ndtri(shape.levels[places]), special.ndtri(levels)
        weights = np.stack([np.interp(at, own, row) for row in np.eye(len(levels))], axis=1)
        result[:, places] = (weights @ by_level).T
    return result


def _over_steps(
    fitted: dict[tuple[int, float], float], level: float, steps: FloatArray
) -> FloatArray:
    """[H] corrections of one level, linear in the logarithm of the step."""
    known = sorted((step, value) for (step, of), value in fitted.items() if of == level)
    knots, values = zip(*known, strict=True)
    return np.asarray(np.interp(np.log(steps), np.log(knots), values))
