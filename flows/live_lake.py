"""Closed bars from the control store to the lake, and out of the store once they are old."""

from __future__ import annotations

import polars as pl
import sqlalchemy as sa

from market_data.lake import Lake
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar

POSITION = "lake_bars"
PART = 20_000
"""Bars of one commit."""
_NAMES = {MINUTE_MS: "1m", FIVE_MS: "5m"}
_DAY_MS = 86_400_000


def export_bars(engine: sa.Engine, lake: Lake) -> int:
    """Writes bars that the lake does not have yet, in commits of 20,000; how many.

    A bar that was revised is written again. After a crash between the lake and the store the same
    bars are written once more, which changes nothing.
    """
    written = 0
    while True:
        with engine.connect() as connection:
            after = live_store.read_position(connection, POSITION) or 0
            found = live_store.bars_after(connection, after, PART)
        if not found:
            return written
        newest = {(bar.market_id, bar.interval_ms, bar.start_ms): bar for _, bar in found}
        lake.upsert("bar", frame_of(list(newest.values())))
        with engine.begin() as connection:
            live_store.write_position(connection, POSITION, found[-1][0])
        written += len(found)


def frame_of(bars: list[Bar]) -> pl.DataFrame:
    """Bars as rows of the table ``bar``."""
    prices = ("open", "high", "low", "close")
    return pl.DataFrame(
        {
            "start_ts": pl.Series([bar.start_ms for bar in bars], dtype=pl.Int64),
            "interval": [_NAMES[bar.interval_ms] for bar in bars],
            "market_id": [bar.market_id for bar in bars],
            **{name: pl.Series([getattr(bar, name) for bar in bars], dtype=pl.Float64)
               for name in prices},
            "volume": pl.Series([bar.contracts for bar in bars], dtype=pl.Float64),
            "trade_count": pl.Series([bar.trade_count for bar in bars], dtype=pl.Int64),
            "realized_vol": pl.Series([bar.realized_vol for bar in bars], dtype=pl.Float64),
        }
    ).with_columns(
        pl.from_epoch("start_ts", time_unit="ms").cast(pl.Datetime("us", "UTC")),
        pl.col(*prices, "realized_vol").fill_nan(None),
    )  # fmt: skip


def prune(engine: sa.Engine, keep_days: int) -> None:
    """Removes from the store what is older than ``keep_days`` before the newest bar's minute.

    Only bars that the lake has are removed: nothing is pruned before an export.
    """
    with engine.begin() as connection:
        exported = live_store.read_position(connection, POSITION)
        position = live_store.read_position(connection, "stream")
        if exported is None or position is None:
            return
        before = position["closed_until"] - keep_days * _DAY_MS
        live_store.prune(
            connection, exported=exported, bars_before_ms=before, triggers_before_ms=before
        )
