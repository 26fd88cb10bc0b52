"""Segments of the history: category × liquidity × time to event, and their pooled margins.

A segment key reads ``category=…|liquidity=…|tte=…``, with ``*`` for a pooled dimension. Each row
belongs to eight segments: its own, and those in which some of the three dimensions are pooled.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_data.categories import tte_bucket

IntArray = NDArray[np.int64]

ANY = "*"
UNSPECIFIED = "UNSPECIFIED"
DIMENSIONS = ("category", "liquidity_bucket", "tte_bucket")

MARGINS: tuple[tuple[int, int, int], ...] = tuple(
    (kept[0], kept[1], kept[2]) for kept in sorted(product((1, 0), repeat=3), key=sum, reverse=True)
)
"""Which dimensions a margin keeps, finest first; the order in which a scoreboard falls back."""


def segment_key(category: str, liquidity: str, tte: str) -> str:
    """Key of a segment.

    >>> segment_key("sports", "*", "LE_6H")
    'category=sports|liquidity=*|tte=LE_6H'
    """
    return f"category={category}|liquidity={liquidity}|tte={tte}"


def segment_key_expr(margin: tuple[int, int, int] = (1, 1, 1)) -> pl.Expr:
    """Key of each row's segment in a margin, from the columns ``DIMENSIONS``."""
    names = [
        pl.col(column) if kept else pl.lit(ANY)
        for column, kept in zip(DIMENSIONS, margin, strict=True)
    ]
    return pl.format("category={}|liquidity={}|tte={}", *names).alias("segment_key")


def with_segments(rows: pl.DataFrame) -> pl.DataFrame:
    """Fill the three segment columns; what is unknown is UNSPECIFIED.

    Args:
        rows: columns category (text), liquidity_bucket (text), tte_seconds (float64).
    """
    return rows.with_columns(
        pl.col("category").fill_null(UNSPECIFIED),
        pl.col("liquidity_bucket").fill_null(UNSPECIFIED),
        tte_bucket(pl.col("tte_seconds")).alias("tte_bucket"),
    )


def text_codes(column: pl.Series) -> tuple[IntArray, list[str]]:
    """([N] int64 rank of each text among the distinct ones, the distinct texts in order)."""
    names = column.unique().sort()
    codes = column.cast(pl.Enum(names)).to_physical().cast(pl.Int64).to_numpy()
    return codes, names.to_list()


@dataclass(frozen=True, slots=True)
class SegmentMap:
    """Rows, their finest cells, and the segments that each cell belongs to.

    Attributes:
        fine: [N] int64 in [0, F), finest cell of each row.
        of_fine: [8, F] int64 in [0, G), segment of each cell in each margin.
        labels: G triples (category, liquidity, tte); segments of one margin stand together.
    """

    fine: IntArray
    of_fine: IntArray
    labels: tuple[tuple[str, str, str], ...]


def map_segments(rows: pl.DataFrame) -> SegmentMap:
    """Number the occupied cells and segments of rows that hold ``DIMENSIONS``.

    The numbering depends on the set of rows, not on their order.
    """
    coded = [text_codes(rows[column]) for column in DIMENSIONS]
    sizes = [max(len(names), 1) for _, names in coded]
    dense = (coded[0][0] * sizes[1] + coded[1][0]) * sizes[2] + coded[2][0]
    used = np.flatnonzero(np.bincount(dense, minlength=int(np.prod(sizes))))
    number = np.zeros(int(np.prod(sizes)), dtype=np.int64)
    number[used] = np.arange(used.size)
    places = np.stack(np.unravel_index(used, sizes))
    labels: list[tuple[str, str, str]] = []
    of_fine = np.empty((len(MARGINS), used.size), dtype=np.int64)
    for m, margin in enumerate(MARGINS):
        kept = places * np.array(margin)[:, None]
        distinct, inverse = np.unique(kept, axis=1, return_inverse=True)
        of_fine[m] = inverse.ravel() + len(labels)
        for column in distinct.T.tolist():
            c, liquidity, t = (
                coded[d][1][place] if margin[d] else ANY for d, place in enumerate(column)
            )
            labels.append((c, liquidity, t))
    return SegmentMap(number[dense], of_fine, tuple(labels))
