"""Where the isotonic curve of calibrated prices would lie: consistency resampling.

Blocks of the curve are chosen by the outcomes, so a binomial band for a block, as if it had been
given beforehand, is too wide. Here outcomes are drawn from the prices and the curve is fitted anew
(Bröcker and Smith, Weather Forecast. 22, 2007, doi:10.1175/WAF993.1; for CORP: Dimitriadis,
Gneiting and Jordan, PNAS 118, 2021, doi:10.1073/pnas.2016191118). What is compared is the rate of a
block with its mean price: the band at a price is that price and the quantiles of "rate less mean
price" of the replicates' blocks that hold it. All rows of an event share one uniform number, so
those at like prices share their outcome. In simulations of calibrated prices 5 % of rows lie
outside with one outcome an event, 3–4 % where markets of an event are less than fully dependent.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, sparse

from calibration_service.aggregates import Rows

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

REPLICATES = 200
_BLOCK = 100
"""Replicates that are drawn at once, to bound memory."""
_ROWS = 1 << 14
_PRICES = 1_000
"""Cells of price of a replicate's curve, 0.001 wide."""
_COLUMNS = _PRICES + 1
_LARGEST = 65_535
_NANO = 1e9
_SEED = 20_070_601
"""Fixed: the same rows have the same band in every run and for every reader."""


def consistency_of_curves(
    rows: Rows, *, margins: tuple[int, ...], segment: IntArray, price: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Central 95 % range of the curves of calibrated prices, at one price of a segment each.

    Args:
        rows: scored rows.
        margins: margins of the segments that are asked for.
        segment: [B] int64, not decreasing.
        price: [B] float64 in [0, 1].

    Returns:
        (lower, upper), [B] float64 in [0, 1].
    """
    code = rows.segments.fine * _COLUMNS + np.rint(rows.p * _PRICES).astype(np.int64)
    order = np.argsort(code)
    code = code[order]
    first = np.flatnonzero(np.diff(code, prepend=-1))
    used = code[first]
    threshold = np.rint(rows.p[order] * _LARGEST).astype(np.uint16)
    event, events = rows.event[order], int(rows.event.max()) + 1
    target = np.concatenate(
        [rows.segments.of_fine[m][used // _COLUMNS] * _COLUMNS + used % _COLUMNS for m in margins]
    )
    cells, into = np.unique(target, return_inverse=True)
    ones, source = np.ones(into.size, dtype=np.float32), np.arange(into.size) % used.size
    pool = sparse.csr_array((ones, (into, source)), shape=(cells.size, used.size))
    weight = pool @ np.diff(np.append(first, order.size)).astype(np.float64)
    nano = np.rint(rows.p[order] * _NANO).astype(np.int64)  # exact in any order of rows
    paid = pool @ (np.add.reduceat(nano, first) / _NANO)
    place = _nearest(cells, segment, price)
    rng, found = np.random.default_rng(_SEED), []
    for _ in range(REPLICATES // _BLOCK):
        drawn = rng.integers(0, _LARGEST, (events, _BLOCK), dtype=np.uint16)
        fine = _positives(drawn, event, threshold, first=first)
        found.append(_deviations(pool @ fine, weight, paid, segment=cells // _COLUMNS)[:, place])
    low, high = np.quantile(np.concatenate(found), [0.025, 0.975], axis=0)
    return np.clip(price + low, 0.0, 1.0), np.clip(price + high, 0.0, 1.0)


def _positives(
    drawn: NDArray[np.uint16], event: IntArray, threshold: NDArray[np.uint16], *, first: IntArray
) -> NDArray[np.float32]:
    """[C, R] rows that come true in each cell, whose rows begin at ``first``, in each replicate.

    Args:
        drawn: [E, R] the uniform numbers of events.
        event, threshold: [N] of each row, in the order of cells.
        first: [C].
    """
    sums = np.zeros((first.size, drawn.shape[1]), dtype=np.float32)
    for start in range(0, event.size, _ROWS):
        part = slice(start, start + _ROWS)
        true = drawn[event[part]] < threshold[part, None]
        begin = int(np.searchsorted(first, start, side="right")) - 1
        inside = first[begin : int(np.searchsorted(first, start + _ROWS))]
        edges = np.maximum(inside - start, 0)
        sums[begin : begin + edges.size] += np.add.reduceat(true, edges, axis=0, dtype=np.int32)
    return sums


def _deviations(
    positive: NDArray[np.float32], weight: FloatArray, paid: FloatArray, *, segment: IntArray
) -> FloatArray:
    """[R, C] rate less mean price of the block of each cell, curve after curve in one pass.

    Each curve is raised above those before it, so that no block reaches across two.

    Args:
        positive: [C, R] rows that come true; weight: [C] rows; paid: [C] sum of their prices.
        segment: [C] int64, not decreasing.
    """
    replicates, count = positive.shape[1], int(segment[-1]) + 1
    curve = segment + count * np.arange(replicates)[:, None]
    raised = (positive.T / weight + 2.0 * curve).reshape(-1)
    blocks = optimize.isotonic_regression(raised, weights=np.tile(weight, replicates)).blocks
    starts = np.asarray(blocks)[:-1]
    size, price, rate = (
        np.add.reduceat(part, starts)
        for part in (np.tile(weight, replicates), np.tile(paid, replicates), positive.T.reshape(-1))
    )
    return np.repeat((rate - price) / size, np.diff(blocks)).reshape(replicates, -1)


def _nearest(cells: IntArray, segment: IntArray, price: FloatArray) -> IntArray:
    """[B] int64: the occupied cell of the segment that is nearest to each price."""
    wanted = segment * _COLUMNS + price * _PRICES
    after = np.clip(np.searchsorted(cells, wanted), 1, cells.size - 1) if cells.size > 1 else 0
    after = np.zeros(segment.size, dtype=np.int64) + after
    before = np.maximum(after - 1, 0)
    distance = [
        np.where(cells[k] // _COLUMNS == segment, np.abs(cells[k] - wanted), np.inf)
        for k in (before, after)
    ]
    return np.where(distance[0] <= distance[1], before, after)
