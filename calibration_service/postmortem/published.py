"""Post-mortems as reads see them: what lists show in memory, the rest read when it is asked for.

A picture and a path are ten times as large as what a list shows, and few are ever looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl

from market_data.lake import Lake

_LISTED = (
    "market_id", "question", "label", "winner", "resolved_at", "summary", "cutoffs", "moves",
    "question_risk", "alerts", "lessons", "rules_version", "dt",
)  # fmt: skip
_DETAILS = ("path_ts", "path_p_yes", "path_bid", "path_ask", "picture")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Postmortems:
    """The post-mortems of one version of their table.

    Attributes:
        version: of the table; None while it does not exist.
        listed: what lists show and ``resolved_us``, newest first, ties by market.
        places: row of each market in ``listed``.
        rows: all rows of that version, on disk.
    """

    version: int | None
    listed: pl.DataFrame
    places: Mapping[str, int]
    rows: pl.LazyFrame

    def row(self, market_id: str) -> Row | None:
        """What a list shows of a market; None when it has no post-mortem."""
        place = self.places.get(market_id)
        return None if place is None else self.listed.row(place, named=True)

    def with_details(self, row: Row) -> Row:
        """A row of `row` with path and picture. Reads one day of the table, and blocks."""
        mine = (pl.col("dt") == row["dt"]) & (pl.col("market_id") == row["market_id"])
        return row | self.rows.filter(mine).select(_DETAILS).collect().row(0, named=True)


def load(lake: Lake) -> Postmortems:
    """The newest version in the lake."""
    version, rows = lake.pinned("postmortem")
    listed = (
        rows.select(_LISTED)
        .collect()
        .with_columns(pl.col("resolved_at").dt.epoch("us").alias("resolved_us"))
        .sort("resolved_us", "market_id", descending=[True, False])
    )
    places = {market: place for place, market in enumerate(listed["market_id"].to_list())}
    return Postmortems(version, listed, places, rows)
