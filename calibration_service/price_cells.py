"""Rows reduced to counts per segment and price: what scores without a choice of bins rest on.

Market prices sit on ticks and tie heavily. Prices within 1e-4 share a cell, so that ties are pooled
before anything is sorted, the order of rows cannot matter, and a million rows are read once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize

from calibration_service.aggregates import Rows, pairs_of
from calibration_service.isotonic_consistency import consistency_of_curves
from calibration_service.scores import ECE_BINS
from calibration_service.segments import MARGINS

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PRICE_CELLS = 10_000
"""Cells of price, 1e-4 wide: the finest tick of a venue."""

_COLUMNS = PRICE_CELLS + 1
CURVE_MARGINS = tuple(m for m, kept in enumerate(MARGINS) if sum(kept) <= 1)
"""Margins whose isotonic curve is kept: the pool of everything and the single dimensions."""


@dataclass(frozen=True, slots=True)
class SegmentCells:
    """Occupied cells of some segments, ordered by segment and price.

    Attributes:
        segment: [C] int64 in [0, segments), not decreasing.
        price: [C] float64 in [0, 1], the cell's price, increasing inside a segment.
        size: [C] float64 > 0, rows.
        positive: [C] float64, rows whose outcome is 1.
        segments: G.
    """

    segment: IntArray
    price: FloatArray
    size: FloatArray
    positive: FloatArray
    segments: int

    def total(self, values: FloatArray) -> FloatArray:
        """[G] float64: sum of [C] values over each segment."""
        return np.asarray(
            np.bincount(self.segment, values, minlength=self.segments), dtype=np.float64
        )


@dataclass(frozen=True, slots=True)
class Isotonic:
    """The isotonic curve of every segment.

    Attributes:
        rate: [C] float64, recalibrated probability of each cell, not decreasing in a segment.
        block: [C] int64, number of the cell's block among all segments, not decreasing.
    """

    rate: FloatArray
    block: IntArray


@dataclass(frozen=True, slots=True)
class CellScores:
    """Scores of each segment, [G] float64 each.

    Attributes:
        ece_equal_mass: calibration error over ten bins of about equal size, ties kept together.
        sharpness: variance of the prices.
        miscalibration, discrimination, uncertainty: parts of the Brier score.
    """

    ece_equal_mass: FloatArray
    sharpness: FloatArray
    miscalibration: FloatArray
    discrimination: FloatArray
    uncertainty: FloatArray


def price_codes(p: FloatArray) -> IntArray:
    """[N] int64 in [0, PRICE_CELLS]: the cell of each price."""
    return np.rint(p * PRICE_CELLS).astype(np.int64)


def fine_cells(rows: Rows) -> tuple[IntArray, IntArray, IntArray]:
    """Occupied cells of the finest segments.

    Returns:
        (code ``fine · columns + price``, rows whose outcome is 0, rows whose outcome is 1),
        [K] int64 each, in the order of the codes.
    """
    fine = rows.segments.of_fine.shape[1]
    index = ((rows.segments.fine * _COLUMNS + price_codes(rows.p)) << 1) + (rows.y > 0.5)
    span = fine * _COLUMNS * 2
    if span > 16 * max(index.size, 1_000_000):
        used, inverse = np.unique(index >> 1, return_inverse=True)
        counts = np.bincount(inverse * 2 + (index & 1), minlength=used.size * 2).reshape(-1, 2)
        return used, counts[:, 0], counts[:, 1]
    counts = np.bincount(index, minlength=span).reshape(-1, 2)
    used = np.flatnonzero(counts.sum(axis=1))
    return used, counts[used, 0], counts[used, 1]


def segment_cells(rows: Rows, *, margins: tuple[int, ...] | None = None) -> SegmentCells:
    """Occupied cells of every segment, or of those of some margins.

    Segments keep their numbers; those of other margins have no cells. Margins are given in order.
    """
    used, zero, one = fine_cells(rows)
    fine, code = used // _COLUMNS, used % _COLUMNS
    parts: list[tuple[IntArray, FloatArray, FloatArray]] = []
    for margin in range(len(MARGINS)) if margins is None else margins:
        of_fine = rows.segments.of_fine[margin]
        first = int(of_fine.min())
        target = (of_fine[fine] - first) * _COLUMNS + code
        size = np.bincount(target, zero + one).astype(np.float64)
        positive = np.bincount(target, one).astype(np.float64)
        held = np.flatnonzero(size)
        parts.append((held + first * _COLUMNS, size[held], positive[held]))
    cell = np.concatenate([part[0] for part in parts])
    size, positive = (np.concatenate([part[k] for part in parts]) for k in (1, 2))
    return SegmentCells(
        segment=cell // _COLUMNS,
        price=cell % _COLUMNS / PRICE_CELLS,
        size=size,
        positive=positive,
        segments=len(rows.segments.labels),
    )


def isotonic(cells: SegmentCells) -> Isotonic:
    """Pool adjacent violators in every segment at once (CORP; source at `reliability.corp`).

    Rates of the g-th segment are raised by 2 g, so that no block reaches across two segments.
    """
    raised = cells.positive / cells.size + 2.0 * cells.segment
    found = optimize.isotonic_regression(raised, weights=cells.size)
    starts = np.zeros(cells.size.size, dtype=np.int64)
    starts[np.asarray(found.blocks)[1:-1]] = 1
    return Isotonic(np.asarray(found.x) - 2.0 * cells.segment, np.cumsum(starts))


def cell_scores(cells: SegmentCells) -> CellScores:
    """Scores of every segment that need its prices in order."""
    size = cells.total(cells.size)
    rate = isotonic(cells).rate
    base, centre = cells.total(cells.positive) / size, cells.total(cells.size * cells.price) / size
    uncertainty = base * (1.0 - base)
    given, best = (
        cells.total(cells.positive * (1.0 - 2.0 * q) + cells.size * q * q) / size
        for q in (cells.price, rate)
    )
    spread = cells.size * (cells.price - centre[cells.segment]) ** 2
    return CellScores(
        ece_equal_mass=_equal_mass_ece(cells, size),
        sharpness=cells.total(spread) / size,
        miscalibration=np.maximum(given - best, 0.0),
        discrimination=np.maximum(uncertainty - best, 0.0),
        uncertainty=uncertainty,
    )


def _equal_mass_ece(cells: SegmentCells, size: FloatArray) -> FloatArray:
    """[G] float64; a cell goes where its middle falls, as in `scores.equal_mass_bins`."""
    before = np.concatenate([[0.0], np.cumsum(size)[:-1]])
    middle = np.cumsum(cells.size) - 0.5 * cells.size - before[cells.segment]
    place = (middle * ECE_BINS / size[cells.segment]).astype(np.int64)
    residual = cells.positive - cells.size * cells.price
    sums = np.bincount(
        cells.segment * ECE_BINS + place, residual, minlength=cells.segments * ECE_BINS
    )
    return np.asarray(np.abs(sums).reshape(-1, ECE_BINS).sum(axis=1) / size)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Blocks of the isotonic curves, in the order of segment and price.

    Attributes:
        segment: [B] int64; number: [B] int64, place of the block in its segment.
        lower, upper: [B] float64, lowest and highest price; price: [B] float64, mean price.
        rate: [B] float64, observed and isotonic rate.
        size, events: [B] int64, rows and distinct events.
        consistency_lo, consistency_hi: [B] float64, where the rate of a calibrated source lies
            95 % of the time, see ``isotonic_consistency``.
    """

    segment: IntArray
    number: IntArray
    lower: FloatArray
    upper: FloatArray
    price: FloatArray
    rate: FloatArray
    size: IntArray
    events: IntArray
    consistency_lo: FloatArray
    consistency_hi: FloatArray


def isotonic_blocks(rows: Rows) -> Blocks:
    """Blocks of the isotonic curves of the segments in `CURVE_MARGINS`."""
    cells = segment_cells(rows, margins=CURVE_MARGINS)
    block = isotonic(cells).block
    first = np.flatnonzero(np.diff(block, prepend=-1))
    last = np.append(first[1:], block.size) - 1
    size, positive, price = (
        np.bincount(block, part) for part in (cells.size, cells.positive, cells.size * cells.price)
    )
    segment = cells.segment[first]
    events = _block_events(rows, cells, block)
    low, high = consistency_of_curves(
        rows, margins=CURVE_MARGINS, segment=segment, price=price / size
    )
    starts = np.searchsorted(segment, segment)
    return Blocks(
        segment=segment,
        number=np.arange(first.size) - starts,
        lower=cells.price[first],
        upper=cells.price[last],
        price=price / size,
        rate=positive / size,
        size=np.rint(size).astype(np.int64),
        events=events,
        consistency_lo=low,
        consistency_hi=high,
    )


def _block_events(rows: Rows, cells: SegmentCells, block: IntArray) -> IntArray:
    """[B] distinct events behind each block."""
    order = np.argsort(rows.event, kind="stable")
    event, fine, code = rows.event[order], rows.segments.fine[order], price_codes(rows.p)[order]
    count, first = int(block[-1]) + 1, int(cells.segment[0])
    of_cell = np.zeros((cells.segments - first) * _COLUMNS, dtype=np.int64)
    of_cell[(cells.segment - first) * _COLUMNS + price_codes(cells.price)] = block
    events = np.zeros(count, dtype=np.int64)
    for margin in CURVE_MARGINS:
        of_row = (rows.segments.of_fine[margin] - first)[fine] * _COLUMNS + code
        events += np.bincount(pairs_of(of_cell[of_row], event)[0], minlength=count)
    return events
