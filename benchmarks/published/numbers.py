"""Published figures beside ours, on the part of their data that is at hand.

Each claim names what its authors computed; ours is the same quantity through the scores of this
project, with the number of rows, of groups of related markets, and a 95 % interval over groups.
Where all of their rows are here the two must agree to the last printed digit; where only a part
is, the interval must contain their figure.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calibration_service import intervals
from calibration_service.intervals import EventGroups
from calibration_service.scores import brier_terms, log_loss_terms
from calibration_service.segments import text_codes

FloatArray = NDArray[np.float64]
BRIER, LOG_LOSS, ACCURACY = "Brier score", "log loss", "accuracy"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One published figure and ours.

    Attributes:
        source: whose figure.
        what: price and selection.
        metric: `BRIER`, `LOG_LOSS` or `ACCURACY`.
        published: their value; published_n: their rows.
        ours: our value; n: rows at hand; groups: groups of related markets.
        lo, hi: 95 % over groups.
    """

    source: str
    what: str
    metric: str
    published: float
    published_n: int
    ours: float
    n: int
    groups: int
    lo: float
    hi: float

    @property
    def is_whole(self) -> bool:
        """Whether all of their rows are at hand."""
        return self.n == self.published_n

    @property
    def agrees(self) -> bool:
        """Whether our interval contains their figure."""
        return self.lo <= self.published <= self.hi


@dataclass(frozen=True, slots=True)
class _Rows:
    """Prices with outcomes.

    Attributes:
        p, y: [N] float64 in [0, 1].
        group: [N] text; rows of one group are not independent.
    """

    p: FloatArray
    y: FloatArray
    group: pl.Series


Terms = Callable[[FloatArray, FloatArray], FloatArray]
_TERMS: dict[str, Terms] = {
    BRIER: brier_terms,
    LOG_LOSS: log_loss_terms,
    ACCURACY: lambda p, y: ((p > 0.5) == (y > 0.5)).astype(np.float64),
}


def comparisons(data: Path) -> list[Comparison]:
    """Every figure that can be recomputed, in the order of the sources.

    Args:
        data: folder of the recorded data (``dev``).
    """
    return [*_kalshi_before_close(data), *_a_day_before(data), *_two_days_before(data)]


def _compared(
    rows: _Rows, source: str, what: str, *, metric: str, published: float, published_n: int
) -> Comparison:
    terms = _TERMS[metric](rows.p, rows.y)
    codes, names = text_codes(rows.group)
    size = np.bincount(codes, minlength=len(names)).astype(np.float64)
    total = np.bincount(codes, terms, minlength=len(names)).astype(np.float64)
    groups = EventGroups(np.zeros(len(names), dtype=np.int64), 1)
    ratio = intervals.signed_ratio if metric == ACCURACY else intervals.positive_ratio
    found = ratio(total, size, groups=groups)
    return Comparison(
        source, what, metric, published, published_n, float(terms.mean()), terms.size, len(names),
        max(float(found.lo[0]), 0.0), _bounded(float(found.hi[0]), metric),
    )  # fmt: skip


def _bounded(high: float, metric: str) -> float:
    return high if metric == LOG_LOSS else min(high, 1.0)


def _kalshi_before_close(data: Path) -> list[Comparison]:
    """The last hourly price before the close of 42 Kalshi markets; a title is an event."""
    table = pl.read_csv(data / "snapshots/kalshi_preclose_prob_josephhuaimin.csv")
    rows = _Rows(table["preclose_prob"].to_numpy(), table["outcome"].to_numpy(), table["title"])
    what = "Kalshi, last hourly candle before the close"
    return [
        _compared(rows, "JosephHuaimin/prediction-market-calibration", what,
                  metric=BRIER, published=0.032955, published_n=42)
    ]  # fmt: skip


_SYERAMADDU = (
    (None, BRIER, 0.1622, 2355),
    (None, LOG_LOSS, 0.4726, 2355),
    ("Sports", BRIER, 0.2361, 914),
    ("Crypto", BRIER, 0.2045, 551),
    ("Weather", BRIER, 0.0436, 532),
)


def _a_day_before(data: Path) -> list[Comparison]:
    """Polymarket a day before the end: last price less its change of a day.

    Markets of one category with one announced end hang together: the bets on one match, the
    candidates for one award, the assets of one hour, the cities of one day.
    """
    table = pl.read_parquet(data / "snapshots/resolved_markets_syeramaddu.parquet")
    number = pl.col("last_trade_price", "one_day_price_change", "volume", "yes_resolved")
    ended, began = (
        pl.col(c).str.to_datetime(time_zone="UTC") for c in ("closed_time", "created_at")
    )
    rows = (
        table.filter(pl.col("file_version") == "HEAD")
        .with_columns(number.cast(pl.Float64), (ended - began).alias("lived"))
        .with_columns(
            (pl.col("last_trade_price") - pl.col("one_day_price_change")).alias("p"),
            pl.concat_str("category", "end_date", separator=" ").alias("group"),
        )
        .filter(
            (pl.col("lived") >= pl.duration(days=1))
            & (pl.col("volume") >= 100)
            & pl.col("p").is_between(0.0, 1.0, closed="none")
        )
    )
    found = []
    for category, metric, published, published_n in _SYERAMADDU:
        part = rows if category is None else rows.filter(pl.col("category") == category)
        what = f"Polymarket, a day before the end, {category or 'all categories'}"
        taken = _Rows(part["p"].to_numpy(), part["yes_resolved"].to_numpy(), part["group"])
        found.append(
            _compared(taken, "syeramaddu385/polymarket-mispricing", what,
                      metric=metric, published=published, published_n=published_n)
        )  # fmt: skip
    return found


def _two_days_before(data: Path) -> list[Comparison]:
    """Political Polymarket markets two days before the close: did the favourite win?

    Markets that closed within one day hang together.
    """
    table = pl.read_parquet(data / "snapshots/political_2day_before_cj.parquet")
    rows = (
        table.with_columns(
            pl.col("volume", "prediction_price").cast(pl.Float64, strict=False),
            (pl.col("correct_prediction") == "True").cast(pl.Float64).alias("right"),
            pl.col("question").str.to_lowercase().str.contains("trump").alias("trump"),
            pl.col("closedTime").str.slice(0, 10).alias("group"),
        )
        .filter(
            (pl.col("volume") > 100_000)
            & (pl.col("prediction_price") < 0.95)
            & pl.col("correct_prediction").is_in(["True", "False"])
        )
    )  # fmt: skip
    found = []
    for trump, published, published_n in ((True, 0.68, 224), (False, 0.80, 308)):
        part = rows.filter(pl.col("trump") == trump)
        taken = _Rows(np.ones(part.height), part["right"].to_numpy(), part["group"])
        what = f"Polymarket politics, two days before, {'titles with' if trump else 'no'} Trump"
        found.append(
            _compared(taken, "cj-robinson/polymarket-accuracy", what,
                      metric=ACCURACY, published=published, published_n=published_n)
        )  # fmt: skip
    return found
