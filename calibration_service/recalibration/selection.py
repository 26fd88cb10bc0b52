"""Choice among the maps: fitted on the past, scored on what resolved after it, events whole.

Events are ordered by their last resolution. The first fifth is only fitted on; the rest falls into
folds of about equal size (rolling origin: Tashman, Int. J. Forecast. 16, 2000,
doi:10.1016/S0169-2070(00)00065-0). Before each fold every map is fitted again to the events that
had resolved an embargo earlier. Events weigh about the same in fits and losses
(`Sample.weight`), whatever the number of their rows: with a row a day a few markets that live long
would own the map. The map for a fold is
the best one on the folds before it (prequential: Dawid, J. R. Stat. Soc. A 147, 1984,
doi:10.2307/2981683), so the loss of the chosen one is that of maps that were chosen without it,
and choosing among many cannot flatter it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from calibration_service.price_cells import PRICE_CELLS, price_codes
from calibration_service.recalibration.maps import (
    CANDIDATES,
    Maps,
    Method,
    TrainingCells,
    fit_maps,
)
from calibration_service.scores import event_weights

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FOLDS = 8
INITIAL_SHARE = 0.2
MIN_TRAINING_EVENTS = 50
"""Before a fold with fewer past events in a pool the price stays as it is."""

CORRELATION = 0.3
"""Of outcomes of markets of one event, between 0 (every market alike) and 1 (every event alike).
In 30 simulations of a slope of 0.6 at 600 events, "*" is promoted in 0.53 (0), 0.90 (0.3), 0.80
(0.5) and 0.73 (1) of them where events hold Pareto 1.1 markets, and in 0.87, 0.87, 0.83 and 0.77
where they hold one to three."""

FIRST_CHOICE = CANDIDATES.index(Method.PLATT)
_COLUMNS = PRICE_CELLS + 1


@dataclass(frozen=True)
class Sample:
    """Resolved rows with the time of their events.

    Attributes:
        p: [N] float64 in [0, 1], prices; y: [N] float64, outcomes 0 or 1.
        event: [N] int64 in [0, E); market: [N] int64 codes, rows of one share their outcome.
        pool: [N] int64 in [0, pools), the pool of each row.
        pools: P.
        resolved: [E] int64, last resolution of each event, UTC microseconds.
    """

    p: FloatArray
    y: FloatArray
    event: IntArray
    market: IntArray
    pool: IntArray
    pools: int
    resolved: IntArray

    @cached_property
    def weight(self) -> FloatArray:
        """[N] float64 in (0, 1]: rows of a market weigh ``1 / (1 + (M - 1) ρ)`` in all.

        M markets of an event in the pool, taken to be correlated by ρ = `CORRELATION`, bring the
        most with these weights (Liang and Zeger, Biometrika 73, 1986, doi:10.1093/biomet/73.1.13):
        an event weighs from 1 to 1 / ρ, however many its markets and rows.
        """
        share = event_weights(self.pool * (int(self.market.max(initial=0)) + 1) + self.market)
        event = self.pool * self.resolved.size + self.event
        markets = np.bincount(event, share)[event]
        return np.asarray(share / (1.0 + (markets - 1.0) * CORRELATION))


@dataclass(frozen=True, slots=True)
class Plan:
    """When each event is fitted on and scored.

    Attributes:
        fold: [E] int64, the fold that an event is scored in; -1 for those only fitted on.
        known: [E] int64 in [0, folds], the first fold that may be fitted on it.
        folds: K; what is known in "fold K" is everything.
    """

    fold: IntArray
    known: IntArray
    folds: int


def plan_folds(resolved: IntArray, *, embargo: int) -> Plan:
    """Folds of about equally many events; events that resolve together stay together.

    Args:
        resolved: [E] int64, UTC microseconds.
        embargo: microseconds ≥ 0 between the last event fitted on and the fold's first.
    """
    order = np.sort(resolved)
    place = order.size * (INITIAL_SHARE + (1.0 - INITIAL_SHARE) * np.arange(FOLDS) / FOLDS)
    starts = np.unique(order[place.astype(np.int64)])
    starts = starts[starts > order[0]]
    return Plan(
        fold=np.searchsorted(starts, resolved, side="right") - 1,
        known=np.searchsorted(starts - embargo, resolved, side="right"),
        folds=starts.size,
    )


def training_cells(sample: Sample, plan: Plan) -> TrainingCells:
    """What is known before each fold, and at last: group ``pool · (K + 1) + fold``.

    Prices within 1e-4 share a cell; rows have the weights of the sample.
    """
    steps = plan.folds + 1
    slot = (sample.pool * steps + plan.known[sample.event]) * _COLUMNS + price_codes(sample.p)
    length = sample.pools * steps * _COLUMNS
    shape = (sample.pools, steps, _COLUMNS)
    size, positive = (
        np.bincount(slot, part, minlength=length).reshape(shape).cumsum(axis=1)
        for part in (sample.weight, sample.weight * sample.y)
    )
    used = np.flatnonzero(size)
    pairs = np.unique(sample.pool * plan.known.size + sample.event)
    pool, event = pairs // plan.known.size, pairs % plan.known.size
    first = np.bincount(pool * steps + plan.known[event], minlength=sample.pools * steps)
    return TrainingCells(
        group=used // _COLUMNS,
        price=used % _COLUMNS / PRICE_CELLS,
        size=size.reshape(-1)[used],
        positive=np.minimum(positive.reshape(-1)[used], size.reshape(-1)[used]),
        events=first.reshape(sample.pools, steps).cumsum(axis=1).reshape(-1),
    )


@dataclass(frozen=True, slots=True)
class Validation:
    """What the maps did on events that they were not fitted on.

    Attributes:
        rows: [V] int64, rows of the sample that were scored.
        recalibrated: [M, V] float64, probability of each of `CANDIDATES`; the price itself
            where a map could not be fitted before the row's fold.
        chosen: [pools, K] int64, candidate of each fold by the folds before it.
        best: [pools] int64, candidate with the smallest Brier score over all folds.
        fitted: maps of each candidate; group ``pool · (K + 1) + fold``.
        cells: what they were fitted on.
        plan: the folds.
    """

    rows: IntArray
    recalibrated: FloatArray
    chosen: IntArray
    best: IntArray
    fitted: tuple[Maps, ...]
    cells: TrainingCells
    plan: Plan

    def final_group(self, pool: int) -> int:
        """Group of the map of a pool that knows everything."""
        return pool * (self.plan.folds + 1) + self.plan.folds


def validate(sample: Sample, plan: Plan) -> Validation:
    """Fit every candidate before every fold, score it on the fold, and choose."""
    cells = training_cells(sample, plan)
    fitted = tuple(fit_maps(method, cells.with_prices()) for method in CANDIDATES)
    fold = plan.fold[sample.event]
    rows = np.flatnonzero(fold >= 0)
    p, y, pool, fold = sample.p[rows], sample.y[rows], sample.pool[rows], fold[rows]
    group = pool * (plan.folds + 1) + fold
    usable = cells.events[group] >= MIN_TRAINING_EVENTS
    recalibrated = np.tile(p, (len(CANDIDATES), 1))
    for k, maps in enumerate(fitted):
        found = maps.at(p, group)
        recalibrated[k] = np.where(usable & ~np.isnan(found), found, p)
    gain = sample.weight[rows] * ((recalibrated - y) ** 2 - (p - y) ** 2)
    shape = (sample.pools, plan.folds)
    slot = pool * plan.folds + fold
    losses = np.stack(
        [np.bincount(slot, part, minlength=shape[0] * shape[1]).reshape(shape) for part in gain]
    )
    past = losses.cumsum(axis=2)
    chosen = np.full(shape, FIRST_CHOICE)
    chosen[:, 1:] = past[:, :, :-1].argmin(axis=0)
    chosen[(np.roll(np.abs(past).sum(axis=0), 1, axis=1) == 0.0)] = FIRST_CHOICE
    best = past[:, :, -1].argmin(axis=0) if plan.folds else np.full(shape[0], FIRST_CHOICE)
    return Validation(rows, recalibrated, chosen, best, fitted, cells, plan)
