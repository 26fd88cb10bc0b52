"""A path is short, in order, and loses no extreme; moves do not overlap and come by size."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.postmortem.price_path import (
    LONGEST_MOVE_US,
    MAX_POINTS,
    SMALLEST_MOVE,
    Prices,
    largest_moves,
    thinned,
)

HOUR = 3600 * 10**6


def prices_of(p: np.ndarray, step: int = HOUR) -> Prices:
    unknown = np.full(p.size, np.nan)
    ts = np.arange(p.size, dtype=np.int64) * step
    return Prices(ts, p, unknown, unknown, unknown, unknown)


SERIES = st.tuples(st.integers(0, 2_000), st.integers(0, 2**32 - 1)).map(
    lambda drawn: np.round(np.random.default_rng(drawn[1]).random(drawn[0]), 2)
)


@given(SERIES)
def test_a_path_has_a_bounded_length_and_keeps_both_ends_and_extremes(p: np.ndarray) -> None:
    kept = thinned(p)
    assert kept.size <= MAX_POINTS
    assert (np.diff(kept) > 0).all()
    if p.size:
        assert (kept[0], kept[-1]) == (0, p.size - 1)
        assert (p[kept].min(), p[kept].max()) == (p.min(), p.max())
    if p.size <= MAX_POINTS:
        assert kept.size == p.size


@given(SERIES, st.sampled_from([HOUR // 12, HOUR, 8 * HOUR]))
def test_moves_come_by_size_and_do_not_overlap(p: np.ndarray, step: int) -> None:
    prices = prices_of(p, step)
    path = thinned(p)
    found = largest_moves(prices, path)
    sizes = [round(abs(move.after - move.before), 9) for move in found]  # prices are cents
    assert len(found) <= 3
    assert sizes == sorted(sizes, reverse=True)
    assert all(size >= SMALLEST_MOVE - 1e-9 for size in sizes)
    spans = sorted((move.start, move.end) for move in found)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    shortest = np.diff(prices.ts[path]).max(initial=0)
    assert all(move.end - move.start <= max(LONGEST_MOVE_US, shortest) for move in found)


def test_a_jump_is_the_largest_move_and_takes_one_step() -> None:
    p = np.array([0.2] * 50 + [0.7] * 50)
    (move,) = largest_moves(prices_of(p), thinned(p))
    assert (move.before, move.after, move.end - move.start) == (0.2, 0.7, HOUR)
    assert (move.volume_ratio, move.open_interest_change) == (None, None)


@pytest.mark.parametrize("p", [[], [0.5], [0.5, 0.51]])
def test_where_nothing_moves_there_is_no_move(p: list[float]) -> None:
    given_prices = np.array(p, dtype=np.float64)
    assert largest_moves(prices_of(given_prices), thinned(given_prices)) == []
