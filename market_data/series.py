"""Price series on a regular grid, from irregular snapshots.

The value of a step is the last price at or before it; it is carried forward for at most
``max_fill_seconds`` (60 minutes by default). Longer gaps are missing values (NaN), not invented
ones. No step knows a price that came after it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from numpy.typing import NDArray

CADENCE_SECONDS = 300
MAX_FILL_SECONDS = 3600


def resample(
    t: NDArray[np.int64],
    p: NDArray[np.float64],
    grid: NDArray[np.int64],
    *,
    max_fill_seconds: int = MAX_FILL_SECONDS,
) -> NDArray[np.float64]:
    """Values of one series at the instants of ``grid``.

    Args:
        t: [N] int64 UTC seconds, ascending; p: [N] float64 in [0, 1].
        grid: [T] int64 UTC seconds.

    Returns:
        [T] float64, NaN where the last price is older than ``max_fill_seconds`` or absent.

    >>> resample(np.array([0, 600]), np.array([0.4, 0.5]), np.array([0, 300, 600, 9999]))
    array([0.4, 0.4, 0.5, nan])
    """
    if len(t) == 0:
        return np.full(len(grid), np.nan)
    at = np.searchsorted(t, grid, side="right") - 1
    safe = np.maximum(at, 0)
    is_known = (at >= 0) & (grid - t[safe] <= max_fill_seconds)
    return np.where(is_known, p[safe], np.nan)


def price_matrix(
    snapshots: pl.DataFrame,
    market_ids: Sequence[str],
    end_ts: NDArray[np.int64],
    *,
    steps: int,
    cadence_seconds: int = CADENCE_SECONDS,
    max_fill_seconds: int = MAX_FILL_SECONDS,
) -> NDArray[np.float64]:
    """The last ``steps`` prices of many markets, each up to its own instant, in one pass.

    Args:
        snapshots: ``market_snapshot`` rows (market_id, ts, p_yes are read), any order.
        market_ids: [B] markets; one may stand there several times with different ends.
        end_ts: [B] int64 UTC seconds of the last step of each row; nothing later is used.

    Returns:
        [B, steps] float64 in [0, 1], NaN where missing; all NaN for an unknown market.
    """
    offsets = cadence_seconds * np.arange(steps - 1, -1, -1, dtype=np.int64)
    grid = np.asarray(end_ts, dtype=np.int64)[:, None] - offsets[None, :]
    codes = pl.DataFrame({"market_id": pl.Series(list(market_ids), dtype=pl.String)}).unique()
    codes = codes.sort("market_id").with_row_index("_code")
    rows = (
        snapshots.select("market_id", pl.col("ts").dt.epoch("s").alias("_t"), "p_yes")
        .join(codes, on="market_id", how="inner")
        .filter(pl.col("p_yes").is_not_null())
        .sort("_code", "_t")
    )
    if rows.is_empty():
        return np.full(grid.shape, np.nan)
    code, t = rows["_code"].to_numpy().astype(np.int64), rows["_t"].to_numpy()
    asked = pl.DataFrame({"market_id": list(market_ids)}).join(
        codes, on="market_id", how="left", maintain_order="left"
    )
    own = asked["_code"].to_numpy().astype(np.int64)
    # Market and time in one sortable number, so that one search serves every market.
    low = int(min(t.min(), grid.min()))
    span = int(max(t.max(), grid.max())) - low + 1
    at = np.searchsorted(code * span + (t - low), own[:, None] * span + (grid - low), "right") - 1
    safe = np.maximum(at, 0)
    is_own = (at >= 0) & (code[safe] == own[:, None])
    is_known = is_own & (grid - t[safe] <= max_fill_seconds)
    return np.where(is_known, rows["p_yes"].to_numpy()[safe], np.nan)


def regular_series(
    snapshots: pl.DataFrame,
    *,
    cadence_seconds: int = CADENCE_SECONDS,
    max_fill_seconds: int = MAX_FILL_SECONDS,
) -> pl.DataFrame:
    """Every market on its own grid of multiples of the cadence, first to last snapshot.

    Returns:
        market_id, ts UTC, p_yes float64 (null in gaps); sorted by market and time.
    """
    every = f"{cadence_seconds}s"
    points = snapshots.select("market_id", "ts", "p_yes").drop_nulls("p_yes").sort("ts")
    spans = points.group_by("market_id").agg(
        pl.col("ts").min().dt.truncate(every).dt.offset_by(every).alias("_low"),
        pl.col("ts").max().alias("_high"),
    )
    grid = (
        spans.filter(pl.col("_low") <= pl.col("_high"))
        .select("market_id", pl.datetime_ranges("_low", "_high", interval=every).alias("ts"))
        .explode("ts")
        .cast({"ts": points.schema["ts"]})
        .sort("ts")
    )
    filled = grid.join_asof(
        points,
        on="ts",
        by="market_id",
        tolerance=f"{max_fill_seconds}s",
        check_sortedness=False,
    )
    return filled.sort("market_id", "ts")
