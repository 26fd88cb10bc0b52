"""The maps from prices to probabilities, fitted for many groups at once.

- *identity*: the price itself;
- *shift*: ``logit q = a + logit p``;
- *Platt*: ``logit q = a + b · logit p`` (Platt, Advances in Large Margin Classifiers, 1999; Cox,
  Biometrika 45, 1958, doi:10.1093/biomet/45.3-4.562);
- *beta*: ``logit q = c + a · log p - b · log(1 - p)``, a, b ≥ 0 (Kull, Silva Filho and Flach,
  Electron. J. Stat. 11, 2017, doi:10.1214/17-EJS1338SI);
- *isotonic*: pool adjacent violators, ties pooled first (Zadrozny and Elkan, KDD 2002,
  doi:10.1145/775047.775151; source of CORP at `reliability.corp`).

The first four are one family with parameters (c, a, b). All are fitted on prices clipped to
``logistic.PRICE_EPS``, and every map is monotone: a fit that falls with the price is no map.

Events weigh about the same (`selection.Sample.weight`). A map is fitted to the events and to
`PRICE_EVENTS` more, in which outcomes fall just as the prices say. So few events change little, no
map ever says 0 or 1, and every fit has a finite maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special

from calibration_service import logistic
from calibration_service.logistic import PRICE_EPS, price_logit

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICE_EVENTS = 100
"""How many events the price itself is worth. Chosen by simulation: without them the maps of the
first folds cost more than true miscalibration gains."""

_ITERATIONS = 40
_LONGEST_STEP = 2.0
_LARGEST = 25.0
"""A parameter beyond this is no estimate: the outcomes are separated."""


class Method(StrEnum):
    """A map, simplest first."""

    IDENTITY = "identity"
    SHIFT = "shift"
    PLATT = "platt"
    BETA = "beta"
    ISOTONIC = "isotonic"


CANDIDATES = (Method.SHIFT, Method.PLATT, Method.BETA, Method.ISOTONIC)


@dataclass(frozen=True, slots=True)
class TrainingCells:
    """Outcomes per price of many groups, ordered by group and price.

    Attributes:
        group: [C] int64 in [0, G), not decreasing.
        price: [C] float64 in [0, 1], increasing inside a group.
        size: [C] float64 > 0, rows (or weight) of the cell.
        positive: [C] float64 in [0, size].
        events: [G] int64, independent events behind each group.
    """

    group: IntArray
    price: FloatArray
    size: FloatArray
    positive: FloatArray
    events: IntArray

    @property
    def groups(self) -> int:
        """G."""
        return self.events.size

    def total(self, values: FloatArray) -> FloatArray:
        """[G] float64: sum of [C] values over each group."""
        return np.asarray(np.bincount(self.group, values, minlength=self.groups), dtype=np.float64)

    def chosen(self, groups: NDArray[np.bool_]) -> TrainingCells:
        """The cells of the groups of a [G] mask, numbered anew."""
        kept = groups[self.group]
        number = np.cumsum(groups) - 1
        return TrainingCells(
            number[self.group[kept]],
            self.price[kept],
            self.size[kept],
            self.positive[kept],
            self.events[groups],
        )

    def with_prices(self, worth: float = PRICE_EVENTS) -> TrainingCells:
        """The cells with ``worth`` more events in each group, whose outcomes are as priced."""
        more = self.size * (worth / np.maximum(self.events, 1))[self.group]
        priced = np.clip(self.price, PRICE_EPS, 1.0 - PRICE_EPS)
        return TrainingCells(
            self.group, self.price, self.size + more, self.positive + more * priced, self.events
        )


class Maps(Protocol):
    """A map per group."""

    def at(self, p: FloatArray, group: IntArray) -> FloatArray:
        """[N] float64 in [0, 1]: probability for each price; NaN where the group has no map."""
        ...


@dataclass(frozen=True, slots=True)
class LogitMaps:
    """Maps ``logit q = c + a · log p - b · log(1 - p)``.

    Attributes:
        theta: [3, G] float64, rows c, a, b; NaN for a group without a map.
    """

    theta: FloatArray

    def at(self, p: FloatArray, group: IntArray) -> FloatArray:
        """[N] float64 in (0, 1); see `Maps`."""
        c, a, b = self.theta[:, group]
        clipped = np.clip(p, PRICE_EPS, 1.0 - PRICE_EPS)
        return np.asarray(special.expit(c + a * np.log(clipped) - b * np.log1p(-clipped)))


@dataclass(frozen=True, slots=True)
class IsotonicMaps:
    """Isotonic maps, interpolated between prices and constant beyond the outermost.

    Attributes:
        group, price, rate: [C] cells as in `TrainingCells`; rate does not decrease in a group.
        lowest, highest: [G] float64, outermost prices; NaN for a group without cells.
    """

    group: IntArray
    price: FloatArray
    rate: FloatArray
    lowest: FloatArray
    highest: FloatArray

    def at(self, p: FloatArray, group: IntArray) -> FloatArray:
        """[N] float64 in [0, 1]; see `Maps`."""
        place = 2.0 * group + np.clip(p, self.lowest[group], self.highest[group])
        known = np.isfinite(place)
        found = np.interp(np.where(known, place, 0.0), 2.0 * self.group + self.price, self.rate)
        return np.where(known, found, np.nan)


def fit_maps(method: Method, cells: TrainingCells) -> Maps:
    """Fit one method to the outcomes of every group, as they are.

    Args:
        method: one of `CANDIDATES`.
        cells: what is known of each group; `TrainingCells.with_prices` for a map to be served.
    """
    if method == Method.ISOTONIC:
        return fit_isotonic(cells)
    kernels = {Method.SHIFT: fit_shift, Method.PLATT: fit_platt, Method.BETA: fit_beta}
    return LogitMaps(kernels[method](cells))


def fit_shift(cells: TrainingCells) -> FloatArray:
    """[3, G] parameters of the logit shift: (a, 1, 1)."""
    x = price_logit(cells.price)
    (a,) = _newton(cells, np.ones((1, x.size)), offset=x, start=np.zeros((1, cells.groups)))
    return np.stack([a, np.where(np.isnan(a), np.nan, 1.0), np.where(np.isnan(a), np.nan, 1.0)])


def fit_platt(cells: TrainingCells) -> FloatArray:
    """[3, G] parameters of Platt's map: (a, b, b); NaN unless b > 0."""
    found = logistic.fit(
        logistic.Cells(
            price_logit(cells.price), cells.size, cells.positive, cells.group, cells.groups
        )
    )
    theta = np.stack([found.intercept, found.slope, found.slope])
    return np.where((found.slope > 0.0) & (found.slope < _LARGEST), theta, np.nan)


def fit_beta(cells: TrainingCells) -> FloatArray:
    """[3, G] parameters of the beta map: (c, a, b).

    Where a or b would be negative it is 0 and the other two are fitted again.
    """
    clipped = np.clip(cells.price, PRICE_EPS, 1.0 - PRICE_EPS)
    design = np.stack([np.ones_like(clipped), np.log(clipped), -np.log1p(-clipped)])
    begin = np.tile([[0.0], [1.0], [1.0]], (1, cells.groups))
    theta = _newton(cells, design, offset=np.zeros_like(clipped), start=begin)
    for lost, kept in ((1, 2), (2, 1)):
        negative = theta[lost] < 0.0
        if not negative.any():
            continue
        part, rows = cells.chosen(negative), negative[cells.group]
        found = _newton(
            part,
            design[[0, kept]][:, rows],
            offset=np.zeros(part.price.size),
            start=begin[[0, kept]][:, negative],
        )
        theta[0, negative], theta[kept, negative] = found
        theta[lost, negative] = 0.0
    return np.where((theta[1] + theta[2] > 0.0) & (theta[1:].min(axis=0) >= 0.0), theta, np.nan)


def fit_isotonic(cells: TrainingCells) -> IsotonicMaps:
    """Isotonic maps. Rates of the g-th group are raised by 2 g, so that one pass serves all."""
    raised = cells.positive / cells.size + 2.0 * cells.group
    found = optimize.isotonic_regression(raised, weights=cells.size)
    rate = np.asarray(found.x) - 2.0 * cells.group
    lowest, highest = np.full(cells.groups, np.nan), np.full(cells.groups, np.nan)
    np.fmin.at(lowest, cells.group, cells.price)
    np.fmax.at(highest, cells.group, cells.price)
    return IsotonicMaps(cells.group, cells.price, np.clip(rate, 0.0, 1.0), lowest, highest)


def _newton(
    cells: TrainingCells, design: FloatArray, *, offset: FloatArray, start: FloatArray
) -> FloatArray:
    """[k, G] maximum-likelihood logistic coefficients; NaN without a finite estimate.

    Args:
        cells: what is known of each group.
        design: [k, C] float64, regressors.
        offset: [C] float64, fixed part of the log-odds.
        start: [k, G] float64.
    """
    size = design.shape[0]
    theta, open_ = np.array(start), np.ones(cells.groups, dtype=np.bool_)
    ridge = 1e-9 * np.eye(size)
    for _ in range(_ITERATIONS):
        eta = offset + (design * theta[:, cells.group]).sum(axis=0)
        mean = special.expit(eta)
        score = cells.positive - cells.size * mean
        curvature = cells.size * mean * (1.0 - mean)
        gradient = np.stack([cells.total(score * z) for z in design])
        weighted = [curvature * z for z in design]
        information = np.empty((cells.groups, size, size))
        for i in range(size):
            for j in range(i + 1):
                information[:, i, j] = cells.total(weighted[i] * design[j])
                information[:, j, i] = information[:, i, j]
        step = np.linalg.solve(information + ridge, gradient.T[:, :, None])[:, :, 0].T
        step = step / np.maximum(np.abs(step).max(axis=0) / _LONGEST_STEP, 1.0)
        theta = np.clip(np.where(open_, theta + step, theta), -2 * _LARGEST, 2 * _LARGEST)
        open_ = open_ & (np.abs(step).max(axis=0) > 1e-8)
        if not open_.any():
            break
    lost = open_ | (np.abs(theta).max(axis=0) > _LARGEST) | (cells.total(cells.size) == 0.0)
    return np.where(lost, np.nan, theta)
