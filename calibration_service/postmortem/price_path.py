"""The price of a market until its resolution: a path of bounded length, and its largest moves.

The path keeps, of equally many successive prices each, the first, the last, the lowest and the
highest, so that no extreme is lost (M4, Jugel et al. 2014, doi:10.14778/2732951.2732953). Moves
are looked for on the path, so what is named can be seen there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MAX_POINTS = 300
MOVES = 3
SMALLEST_MOVE = 0.02
"""Moves of less than two cents are noise of a tick or two."""
LONGEST_MOVE_US = 6 * 3600 * 10**6
"""A move takes at most six hours, or one step where prices are rarer."""
_KEPT_OF_EACH = 4
INPUTS = ("ts", "market_id", "p_yes", "bid", "ask", "volume_24h", "open_interest")
"""Columns of a snapshot that a path is made of."""


@dataclass(frozen=True, slots=True, eq=False)
class Prices:
    """Prices of one market, oldest first, with what went with them; NaN where unknown.

    Attributes:
        ts: [N] int64, UTC microseconds, increasing.
        p_yes: [N] float64 in [0, 1], all known.
        bid, ask: [N] float64 in [0, 1].
        volume: [N] float64, US dollars of 24 h.
        open_interest: [N] float64, US dollars.
    """

    ts: IntArray
    p_yes: FloatArray
    bid: FloatArray
    ask: FloatArray
    volume: FloatArray
    open_interest: FloatArray


@dataclass(frozen=True, slots=True)
class Move:
    """A change of the price.

    Attributes:
        start, end: UTC microseconds.
        before, after: prices in [0, 1].
        volume_ratio: volume of 24 h at the end ÷ its mean up to the start; None where unknown.
        open_interest_change: open interest at the end ÷ that at the start - 1; None likewise.
    """

    start: int
    end: int
    before: float
    after: float
    volume_ratio: float | None
    open_interest_change: float | None


def prices_of(snapshots: pl.DataFrame) -> Prices:
    """The known prices among snapshots of one market, which may come in any order."""
    rows = snapshots.filter(pl.col("p_yes").is_not_null() & pl.col("p_yes").is_not_nan()).sort("ts")

    def real(name: str) -> Any:
        return rows[name].cast(pl.Float64).fill_null(np.nan).to_numpy()

    return Prices(
        rows["ts"].dt.epoch("us").to_numpy(), real("p_yes"), real("bid"), real("ask"),
        real("volume_24h"), real("open_interest"),
    )  # fmt: skip


def thinned(p: FloatArray, most: int = MAX_POINTS) -> IntArray:
    """Positions of at most ``most`` points that stand for the whole, increasing.

    Args:
        p: [N] float64 prices in order of time.
        most: at least 4.

    >>> thinned(np.array([0.1, 0.2, 0.9, 0.2, 0.3, 0.3, 0.3, 0.3]), 4).tolist()
    [0, 2, 7]
    """
    if p.size <= most:
        return np.arange(p.size)
    bounds = np.linspace(0, p.size, most // _KEPT_OF_EACH + 1).astype(np.int64)
    kept = set[int]()
    for first, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
        part = p[first:end]
        kept |= {first, end - 1, first + int(part.argmin()), first + int(part.argmax())}
    return np.array(sorted(kept), dtype=np.int64)


def largest_moves(prices: Prices, path: IntArray) -> list[Move]:
    """At most three moves that do not overlap, the largest first; of equal ones the quicker.

    Args:
        prices: all prices.
        path: [M] positions of those between which moves are looked for, M ≤ 300.
    """
    ts, p = prices.ts[path], prices.p_yes[path]
    lasts = ts[None, :] - ts[:, None]
    steps = np.arange(path.size)[None, :] - np.arange(path.size)[:, None]
    possible = (steps == 1) | ((steps > 1) & (lasts <= LONGEST_MOVE_US))
    size = np.where(possible, np.abs(np.round(p[None, :] - p[:, None], 9)), 0.0)
    found = []
    for _ in range(MOVES):
        largest = size.max(initial=0.0)
        if largest < SMALLEST_MOVE:
            break
        starts, ends = np.nonzero(size == largest)
        best = np.lexsort((starts, lasts[starts, ends]))[0]
        start, end = int(starts[best]), int(ends[best])
        found.append(_move(prices, int(path[start]), int(path[end])))
        size[:end, start + 1 :] = 0.0  # whatever begins before its end and ends after its start
    return found


def _move(prices: Prices, start: int, end: int) -> Move:
    usual = prices.volume[: start + 1]
    usual = usual[np.isfinite(usual)]
    return Move(
        start=int(prices.ts[start]),
        end=int(prices.ts[end]),
        before=float(prices.p_yes[start]),
        after=float(prices.p_yes[end]),
        volume_ratio=_ratio(prices.volume[end], float(usual.mean()) if usual.size else np.nan),
        open_interest_change=_less_one(
            _ratio(prices.open_interest[end], float(prices.open_interest[start]))
        ),
    )


def _ratio(value: float, base: float) -> float | None:
    return float(value / base) if np.isfinite(value) and base > 0 else None


def _less_one(ratio: float | None) -> float | None:
    return None if ratio is None else ratio - 1.0
