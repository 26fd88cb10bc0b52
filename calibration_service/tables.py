"""Published tables in memory: what reads are answered from.

A `Tables` value is built once from the lake and never changes; a newer one replaces it whole, so a
reader sees one publication or the next, never half of each. The scoreboard is the last table that
a run writes: its version says that there is something new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from market_data.lake import Lake

Row = dict[str, Any]

_ORDERS: dict[str, tuple[str, bool]] = {
    "trust_desc": ("trust", True),
    "trust_asc": ("trust", False),
    "market_id": ("market_id", False),
    "brier_asc": ("brier", False),
}
ORDERS = tuple(_ORDERS)
"""Orders of a scoreboard."""

_MARKET_COLUMNS = (
    "market_id", "event_id", "platform", "slug", "question", "outcomes", "category", "tags",
    "neg_risk", "market_structure", "status", "created_at", "end_at", "resolved_at", "volume_total",
)  # fmt: skip


def sort_key(order: str, row: Row) -> list[Any]:
    """Where a row stands in an order: its value and its market."""
    return [row[_ORDERS[order][0]], row["market_id"]]


def follows(order: str, key: Sequence[Any]) -> pl.Expr:
    """Whether a row stands behind the one with ``key``, which need not be there any more."""
    name, descending = _ORDERS[order]
    value, market_id = key
    column: pl.Expr = pl.col(name)
    later_market: pl.Expr = pl.col("market_id") > pl.lit(market_id)
    if value is None:
        return column.is_null() & later_market
    last = pl.lit(value)
    beyond = column < last if descending else column > last
    return beyond | ((column == last) & later_market) | column.is_null()


@dataclass(frozen=True)
class Board:
    """The scoreboard of one window.

    Attributes:
        frame: rows of ``scoreboard``.
    """

    frame: pl.DataFrame

    def ordered(self, order: str) -> pl.DataFrame:
        """The rows in an order of `ORDERS`, ties by market; what is unknown comes last."""
        return self._orders[order]

    @cached_property
    def _orders(self) -> Mapping[str, pl.DataFrame]:
        return {
            name: self.frame.sort(
                column, "market_id", descending=[descending, False], nulls_last=True
            )
            for name, (column, descending) in _ORDERS.items()
        }

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Row of each market."""
        return {market: i for i, market in enumerate(self.frame["market_id"].to_list())}

    def row(self, market_id: str) -> Row | None:
        """The row of a market; None when it is not on the board."""
        place = self.places.get(market_id)
        return None if place is None else self.frame.row(place, named=True)


@dataclass(frozen=True)
class Prices:
    """Recorded prices, packed by market and time.

    Attributes:
        start: first position of each market.
        ts: [N] int64, UTC microseconds.
        p_yes: [N] float64 in [0, 1]; bid, ask likewise, NaN where unknown.
    """

    start: Mapping[str, tuple[int, int]]
    ts: NDArray[np.int64]
    p_yes: NDArray[np.float64]
    bid: NDArray[np.float64]
    ask: NDArray[np.float64]

    def between(self, market_id: str, start: int | None, end: int | None) -> slice:
        """Positions of a market's prices in [start, end), UTC microseconds."""
        first, last = self.start.get(market_id, (0, 0))
        times = self.ts[first:last]
        low = 0 if start is None else int(np.searchsorted(times, start, side="left"))
        high = times.size if end is None else int(np.searchsorted(times, end, side="left"))
        return slice(first + low, first + max(low, high))


@dataclass(frozen=True)
class Tables:
    """One publication.

    Attributes:
        version: version of the scoreboard table.
        as_of: until when data was seen.
        markets: registry rows with label, last price and buckets, by market.
        boards: scoreboards by window.
        metrics: rows of ``calibration_metrics`` by (window, segment key).
        curves: rows of ``reliability_curve`` by (window, segment key), by bin.
        prices: recorded prices.
        trust: rows of ``trust_score`` behind the scoreboard.
        blocks: rows of ``reliability_isotonic`` by (window, segment key), by bin.
        drift: rows of ``calibration_drift`` of the scoreboard's run, smallest p-value first.
        recalibration: rows of ``recalibration_state`` of the version on the scoreboard.
        coverage: row of ``conformal_coverage`` with the most samples; None while none is measured.
    """

    version: int
    as_of: datetime
    markets: pl.DataFrame
    boards: Mapping[str, Board]
    metrics: Mapping[tuple[str, str], Row]
    curves: Mapping[tuple[str, str], list[Row]]
    prices: Prices
    trust: pl.DataFrame
    blocks: Mapping[tuple[str, str], list[Row]] = field(default_factory=dict)
    drift: Sequence[Row] = ()
    recalibration: Sequence[Row] = ()
    coverage: Row | None = None

    @cached_property
    def market_places(self) -> Mapping[str, int]:
        """Row of each market in ``markets``."""
        return {market: i for i, market in enumerate(self.markets["market_id"].to_list())}

    @cached_property
    def trust_places(self) -> Mapping[str, int]:
        """Row of each market in ``trust``."""
        return {market: i for i, market in enumerate(self.trust["market_id"].to_list())}

    def trust_of(self, market_id: str) -> Row | None:
        """The trust row of a market; None when it has none."""
        place = self.trust_places.get(market_id)
        return None if place is None else self.trust.row(place, named=True)

    def market(self, market_id: str) -> Row | None:
        """The row of a market; None when it is not known."""
        place = self.market_places.get(market_id)
        return None if place is None else self.markets.row(place, named=True)


def is_in_the_making(lake: Lake) -> bool:
    """Whether a run that the scoreboard comes from is under way.

    Its tables are replaced one after the other; together they make sense when it has ended.
    """
    made_by = lake.read("scoreboard", columns=("run_id",))["run_id"].unique().to_list()
    own = pl.col("run_id").is_in(made_by) & (pl.col("status") == "RUNNING")
    return bool(lake.scan("run_metadata").filter(own).select(pl.len()).collect().item())


def load(lake: Lake) -> Tables | None:
    """The publication in the lake; None while there is none."""
    version = lake.version("scoreboard")
    board = lake.read("scoreboard")
    if version is None or board.is_empty():
        return None
    as_of: datetime = board["as_of"].max()  # type: ignore[assignment]
    boards = {
        str(window): Board(rows.sort("market_id"))
        for (window,), rows in board.partition_by("window", as_dict=True).items()
    }
    published = pl.col("run_id").is_in(board["run_id"].unique().to_list())
    metrics = lake.read("calibration_metrics", published)
    version_served = board["recalibration_version"].drop_nulls().unique()
    tables = Tables(
        version=version,
        as_of=as_of,
        markets=_markets(lake, board),
        boards=boards,
        metrics={(row["window"], row["segment_key"]): row for row in metrics.iter_rows(named=True)},
        curves=_by_segment(lake.read("reliability_curve", published)),
        prices=_prices(lake),
        trust=_trust(lake, board),
        blocks=_by_segment(lake.read("reliability_isotonic", published)),
        drift=lake.read("calibration_drift", published).sort("p_value").to_dicts(),
        recalibration=lake.read(
            "recalibration_state", pl.col("version").is_in(version_served.to_list())
        )
        .sort("pool")
        .to_dicts(),
        coverage=_coverage(lake),
    )
    warm(tables)
    return tables


def warm(tables: Tables) -> None:
    """Builds what is built on first use, so that no reader waits for it."""
    _ = tables.market_places, tables.trust_places
    for board in tables.boards.values():
        _ = board.places
        board.ordered(ORDERS[0])


def _markets(lake: Lake, board: pl.DataFrame) -> pl.DataFrame:
    prices = board.unique("market_id").select(
        "market_id", "p_yes", "price_ts", "liquidity_bucket", "tte_bucket",
        "calibrated_probability", "calibrated_lo", "calibrated_hi",
        "recalibration_method", "recalibration_version",
    )  # fmt: skip
    labels = lake.read("label_status", columns=("market_id", "label", "winner", "reason"))
    registry = lake.read("market_registry", columns=_MARKET_COLUMNS)
    return (
        registry.join(labels, on="market_id", how="left")
        .join(prices, on="market_id", how="left")
        .join(_matches(lake), on="market_id", how="left")
        .sort("market_id")
    )


def _matches(lake: Lake) -> pl.DataFrame:
    pairs = lake.read("market_match", columns=("market_id", "other_id")).sort("other_id")
    return pairs.group_by("market_id").agg(pl.col("other_id").alias("matching_market_ids"))


def _by_segment(curves: pl.DataFrame) -> dict[tuple[str, str], list[Row]]:
    parts = curves.partition_by("window", "segment_key", as_dict=True)
    return {(str(window), str(key)): rows.sort("bin").to_dicts()
            for (window, key), rows in parts.items()}  # fmt: skip


def _coverage(lake: Lake) -> Row | None:
    measured = lake.read("conformal_coverage")
    newest = measured.filter(pl.col("as_of") == pl.col("as_of").max()).sort("samples")
    return newest.row(-1, named=True) if newest.height else None


def _trust(lake: Lake, board: pl.DataFrame) -> pl.DataFrame:
    last = board.select("market_id", pl.col("price_ts").alias("ts")).unique()
    return lake.scan("trust_score").join(last.lazy(), on=["market_id", "ts"], how="semi").collect()


def _prices(lake: Lake) -> Prices:
    columns = ("market_id", "ts", "p_yes", "bid", "ask")
    rows = lake.read("market_snapshot", pl.col("p_yes").is_not_null(), columns=columns)
    rows = rows.sort("market_id", "ts")
    runs = rows.select(pl.col("market_id").rle().alias("run")).unnest("run")
    ends = runs["len"].cum_sum().to_list()
    starts = [0, *ends[:-1]]
    spans = zip(runs["value"].to_list(), starts, ends, strict=True)
    return Prices(
        start={market: (start, end) for market, start, end in spans},
        ts=rows["ts"].dt.epoch("us").to_numpy(),
        p_yes=rows["p_yes"].to_numpy(),
        bid=rows["bid"].fill_null(float("nan")).to_numpy(),
        ask=rows["ask"].fill_null(float("nan")).to_numpy(),
    )
