"""Parts of the snapshots that are worked on at once, so that memory stays bounded.

By market, where a result needs a market's whole history and nothing else; by day, where what is
written lies in one partition. The size of a part decides memory alone, never a result.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

import polars as pl

from market_data.lake import Lake

ROWS_AT_ONCE = 1_000_000
_SEED = 1


@dataclass(frozen=True, slots=True)
class MarketBatch:
    """The markets whose hash has this remainder.

    Attributes:
        number: in [0, of).
        of: how many batches there are.
    """

    number: int
    of: int

    def holds(self) -> pl.Expr:
        """Whether a row's market belongs to the batch."""
        return pl.col("market_id").hash(_SEED) % self.of == self.number

    def snapshots(
        self, lake: Lake, *, until: datetime | None = None, columns: Collection[str] | None = None
    ) -> pl.DataFrame:
        """The batch's rows of ``market_snapshot``, up to an instant if one is given."""
        wanted = self.holds() if until is None else self.holds() & (pl.col("ts") <= until)
        return lake.read("market_snapshot", wanted, columns=columns)


def market_batches(lake: Lake, *, rows_at_once: int = ROWS_AT_ONCE) -> list[MarketBatch]:
    """Batches of about as many snapshots each that together hold every market."""
    rows = int(lake.scan("market_snapshot").select(pl.len()).collect().item())
    of = max(1, -(-rows // rows_at_once))
    return [MarketBatch(number, of) for number in range(of)]


def day_batches(
    lake: Lake, *, until: datetime, rows_at_once: int = ROWS_AT_ONCE
) -> list[list[str]]:
    """The days of ``market_snapshot`` that end by ``until``, oldest first, in batches.

    A batch holds about as many rows, and at least one day.
    """
    ended = lake.scan("market_snapshot").filter(pl.col("dt") < f"{until:%Y-%m-%d}")
    days = ended.group_by("dt").agg(pl.len().alias("rows")).sort("dt").collect()
    place = (days["rows"].cum_sum() - 1) // rows_at_once
    placed = days.with_columns(place.alias("batch")).partition_by("batch", maintain_order=True)
    return [part["dt"].to_list() for part in placed]


def last_snapshots(lake: Lake, *, until: datetime) -> pl.DataFrame:
    """The last row of ``market_snapshot`` of every market up to an instant."""
    known = lake.scan("market_snapshot").filter(pl.col("ts") <= until)
    last = known.group_by("market_id").agg(pl.col("ts").max())
    return known.join(last, on=["market_id", "ts"], how="semi").collect(engine="streaming")
