"""Rows reduced to sums: per segment, per cell of log-odds, per pair of segment and event.

Everything a score needs is linear in rows, so rows are read a fixed number of times and the eight
margins are added up from the finest cells.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from calibration_service.intervals import EventGroups, EventScores
from calibration_service.logistic import Cells, LogisticFit, price_logit
from calibration_service.scores import ECE_BINS, brier_terms, equal_width_bins, log_loss_terms
from calibration_service.segments import SegmentMap

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_CELL_WIDTH = 0.02
_CELLS = 700
"""Cells of log-odds for the slope: ±6.91 in steps of 0.02, each with its mean; the error of the
slope is of the order of the width squared."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Scored rows.

    Attributes:
        p: [N] float64 in [0, 1], price.
        y: [N] float64, outcome 0 or 1.
        event: [N] int64 in [0, E), the event of each row.
        segments: where the rows belong.
    """

    p: FloatArray
    y: FloatArray
    event: IntArray
    segments: SegmentMap


@dataclass(frozen=True, slots=True)
class SegmentSums:
    """Sums over the rows of each segment, [G] float64 each, and [G, bins] for the curve."""

    size: FloatArray
    price: FloatArray
    positive: FloatArray
    brier: FloatArray
    log_loss: FloatArray
    bin_size: FloatArray
    bin_price: FloatArray
    bin_positive: FloatArray


def _sum(index: IntArray, values: FloatArray | None, length: int) -> FloatArray:
    return np.asarray(np.bincount(index, values, minlength=length), dtype=np.float64)


def segment_sums(rows: Rows) -> SegmentSums:
    """Sums of each segment, from one pass over the rows."""
    cells = rows.segments.of_fine.shape[1]
    binned = rows.segments.fine * ECE_BINS + equal_width_bins(rows.p)
    per_bin = [
        _sum(binned, values, cells * ECE_BINS).reshape(cells, ECE_BINS)
        for values in (None, rows.p, rows.y)
    ]
    scores = [
        _sum(rows.segments.fine, terms(rows.p, rows.y), cells)
        for terms in (brier_terms, log_loss_terms)
    ]
    size, price, positive = (_pooled(part, rows.segments) for part in per_bin)
    brier, log_loss = (_pooled(part[:, None], rows.segments)[:, 0] for part in scores)
    return SegmentSums(
        size=size.sum(axis=1),
        price=price.sum(axis=1),
        positive=positive.sum(axis=1),
        brier=brier,
        log_loss=log_loss,
        bin_size=size,
        bin_price=price,
        bin_positive=positive,
    )


def _pooled(fine: FloatArray, segments: SegmentMap) -> FloatArray:
    """[G, K] sums of the segments from [F, K] sums of the finest cells."""
    pooled = np.zeros((len(segments.labels), fine.shape[1]))
    for of_fine in segments.of_fine:
        np.add.at(pooled, of_fine, fine)
    return pooled


def logit_cells(rows: Rows, x: FloatArray) -> Cells:
    """Binomial cells of log-odds of every segment.

    Args:
        rows: scored rows.
        x: [N] float64, log-odds of their prices, from `price_logit`.
    """
    fine = rows.segments.of_fine.shape[1]
    index = rows.segments.fine * _CELLS + _place(x)
    sums = [_sum(index, values, fine * _CELLS) for values in (None, rows.y, x)]
    used = np.flatnonzero(sums[0])
    cell_fine, cell_place = used // _CELLS, used % _CELLS
    target = np.concatenate(
        [of_fine[cell_fine] * _CELLS + cell_place for of_fine in rows.segments.of_fine]
    )
    length = len(rows.segments.labels) * _CELLS
    weight, positive, total = (
        _sum(target, np.tile(part[used], rows.segments.of_fine.shape[0]), length) for part in sums
    )
    return _held(weight, positive, total, groups=len(rows.segments.labels))


def even_cells(rows: Rows, x: FloatArray) -> Cells:
    """Cells as of `logit_cells` in which each event of a segment weighs one, however many its rows.

    Args:
        rows: scored rows.
        x: [N] float64, log-odds of their prices, from `price_logit`.
    """
    place, count = _place(x), len(rows.segments.labels)
    sums = np.zeros((3, count * _CELLS))
    for of_fine in rows.segments.of_fine:
        segment = of_fine[rows.segments.fine]
        pairs, pair_of = _atoms(rows.event, segment, cells=count)
        share = 1.0 / _sum(pair_of, None, pairs.size)
        weight = share[pair_of]
        index = segment * _CELLS + place
        for k, values in enumerate((weight, weight * rows.y, weight * x)):
            sums[k] += _sum(index, values, count * _CELLS)
    return _held(*sums, groups=count)


def _place(x: FloatArray) -> IntArray:
    """[N] int64 in [0, _CELLS): the cell of each log-odds."""
    return np.clip((x / _CELL_WIDTH + _CELLS / 2).astype(np.int64), 0, _CELLS - 1)


def _held(weight: FloatArray, positive: FloatArray, total: FloatArray, *, groups: int) -> Cells:
    """The occupied ones of ``groups · _CELLS`` cells, from their sums of 1, y and x."""
    held = np.flatnonzero(weight)
    return Cells(
        x=total[held] / weight[held],
        weight=weight[held],
        positive=np.minimum(positive[held], weight[held]),
        group=held // _CELLS,
        groups=groups,
    )


@dataclass(frozen=True, slots=True)
class EventSums:
    """Sums over each pair of segment and event of one margin, segments in order.

    Attributes:
        groups: segment of each of the P pairs, not decreasing, counted from the margin's first.
        first: number of the margin's first segment.
        event: [P] int64, event of each pair.
        size, brier, log_loss: [P] float64.
        residuals: [P, bins] float64, ``Σ (y - p)`` in each equal-width bin.
        parts: contributions to the logistic fit.
    """

    groups: EventGroups
    first: int
    event: IntArray
    size: FloatArray
    brier: FloatArray
    log_loss: FloatArray
    residuals: FloatArray
    parts: EventScores

    def even_parts(self) -> EventScores:
        """``parts`` of a fit in which each event weighs one, see `even_cells`."""
        own = self.parts
        kept = (own.score, own.score_x, own.aa, own.ab, own.bb)
        return EventScores(*(part / self.size for part in kept))


def event_sums(rows: Rows, x: FloatArray, *, fitted: LogisticFit) -> Iterator[EventSums]:
    """Sums of each pair of segment and event, one margin after the other.

    Args:
        rows: scored rows, at least one.
        x: [N] float64, log-odds of their prices.
        fitted: the logistic fit of every segment.
    """
    fine = rows.segments.of_fine.shape[1]
    atoms, atom_of = _atoms(rows.event, rows.segments.fine, cells=fine)
    atom_fine, atom_event = atoms % fine, atoms // fine
    terms = [
        _sum(atom_of, values, atoms.size)
        for values in (None, brier_terms(rows.p, rows.y), log_loss_terms(rows.p, rows.y))
    ]
    place = equal_width_bins(rows.p) * atoms.size + atom_of
    binned = _sum(place, rows.y - rows.p, atoms.size * ECE_BINS).reshape(ECE_BINS, -1)
    for of_fine in rows.segments.of_fine:
        segment, event, pair_of = pairs_of(of_fine[atom_fine], atom_event)
        sums = [_sum(pair_of, part, segment.size) for part in (*terms, *binned)]
        parts = _score_sums(
            rows, x, fitted=fitted, segment=of_fine[rows.segments.fine], pair=pair_of[atom_of]
        )
        first = int(of_fine.min())
        yield EventSums(
            groups=EventGroups(segment - first, int(of_fine.max()) + 1 - first),
            first=first,
            event=event,
            size=sums[0],
            brier=sums[1],
            log_loss=sums[2],
            residuals=np.stack(sums[3:]).T,
            parts=EventScores(*parts),
        )


def _atoms(event: IntArray, fine: IntArray, *, cells: int) -> tuple[IntArray, IntArray]:
    """(occupied codes ``event · cells + fine`` in order, index of each row's code)."""
    codes = event * cells + fine
    span = (int(event.max()) + 1) * cells if event.size else 0
    if span > 16 * max(event.size, 1_000_000):
        distinct, inverse = np.unique(codes, return_inverse=True)
        return distinct, inverse
    distinct = np.flatnonzero(np.bincount(codes, minlength=span))
    number = np.empty(span, dtype=np.int64)
    number[distinct] = np.arange(distinct.size)
    return distinct, number[codes]


def pairs_of(segment: IntArray, event: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Distinct pairs of segment and event, in time that grows linearly.

    Args:
        segment: [A] int64 ≥ 0.
        event: [A] int64, not decreasing.

    Returns:
        [P] segment of each pair, not decreasing; [P] its event; [A] the pair of each entry.
    """
    narrow = np.uint16 if segment.max(initial=0) < 2**16 else np.int64
    order = np.argsort(segment.astype(narrow), kind="stable")
    by_segment, by_event = segment[order], event[order]
    starts = np.ones(order.size, dtype=np.bool_)
    starts[1:] = (by_segment[1:] != by_segment[:-1]) | (by_event[1:] != by_event[:-1])
    pair_of = np.empty(order.size, dtype=np.int64)
    pair_of[order] = np.cumsum(starts) - 1
    return by_segment[starts], by_event[starts], pair_of


def _score_sums(
    rows: Rows, x: FloatArray, *, fitted: LogisticFit, segment: IntArray, pair: IntArray
) -> tuple[FloatArray, ...]:
    """Contributions of each pair to the fit of its segment; NaN where the fit has no estimate."""
    mean = special.expit(fitted.intercept[segment] + fitted.slope[segment] * x)
    score = rows.y - mean
    curvature = mean * (1.0 - mean)
    by_x = curvature * x
    parts = (score, score * x, curvature, by_x, by_x * x)
    return tuple(_sum(pair, part, 0) for part in parts)


def rows_logit(rows: Rows) -> FloatArray:
    """[N] float64 log-odds of the rows' prices, clipped as the slope needs it."""
    return price_logit(rows.p)


def bin_events(rows: Rows) -> tuple[IntArray, FloatArray]:
    """Events behind each bin of each segment's reliability curve.

    Returns:
        [G, bins] int64 distinct events; [G, bins] float64 independent outcomes when the rows of
        an event in a bin count as one, ``(Σ n_e)² / Σ n_e²``.
    """
    fine = rows.segments.of_fine.shape[1]
    atoms, atom_of = _atoms(
        rows.event, rows.segments.fine * ECE_BINS + equal_width_bins(rows.p), cells=fine * ECE_BINS
    )
    size = _sum(atom_of, None, atoms.size)
    place, event = atoms % (fine * ECE_BINS), atoms // (fine * ECE_BINS)
    shape = (len(rows.segments.labels), ECE_BINS)
    distinct, independent = np.zeros(shape, dtype=np.int64), np.zeros(shape)
    for of_fine in rows.segments.of_fine:
        cell = of_fine[place // ECE_BINS] * ECE_BINS + place % ECE_BINS
        target, _, pair_of = pairs_of(cell, event)
        sizes = _sum(pair_of, size, target.size)
        length = distinct.size
        distinct += np.bincount(target, minlength=length).reshape(shape)
        total, squares = _sum(target, sizes, length), _sum(target, sizes**2, length)
        independent += (total**2 / np.maximum(squares, 1.0)).reshape(shape)
    return distinct, independent
