"""Recorded markets as regular price series, and the windows that the evaluation protocol cuts.

The folder of recorded data is an argument; nothing of it is part of the project. Four families:
``sports`` (5-minute mid quotes with a sane spread), ``btc`` (one-minute prices of daily bands,
resampled to five minutes), ``equities`` and ``geopolitics`` (hourly). Only ``sports`` may be
trained on: its licence (CC BY 4.0) allows it, the others state none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecast_service.transform import FloatArray

CLIP = 0.0005
CONTEXT, HORIZON = 288, 12
STRIDES = {"sports": 97, "btc": 29, "equities": 29, "geopolitics": 29}
MAX_SPREAD = 0.10
FILL_MINUTES = 60
TIME_SHARE = 0.8
"""Share of recorded prices, in time order, before which training ends."""


@dataclass(frozen=True, slots=True, eq=False)
class RecordedSeries:
    """One market on a regular grid.

    Attributes:
        market: its id.
        event: the event that it belongs to; markets of one event are not independent.
        start: seconds since the epoch of the first value.
        step: seconds between values.
        values: [T] float64, NaN = missing, clipped to [CLIP, 1 - CLIP].
        end: seconds since the epoch of the deciding event, NaN when unknown.
    """

    market: str
    event: str
    start: int
    step: int
    values: FloatArray
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Windows of one family.

    Attributes:
        family: its name.
        step: seconds between values.
        context: [N, CONTEXT] float64, left-padded with missing values.
        target: [N, HORIZON] float64, complete.
        steps_to_event: [N] float64 from the origin, NaN when unknown.
        event: [N] event of each window.
        origin: [N] int64, seconds since the epoch.
    """

    family: str
    step: int
    context: FloatArray
    target: FloatArray
    steps_to_event: FloatArray
    event: NDArray[np.str_]
    origin: NDArray[np.int64]

    def where(self, keep: NDArray[np.bool_]) -> Windows:
        """The windows for which ``keep`` [N] holds."""
        return Windows(
            self.family,
            self.step,
            self.context[keep],
            self.target[keep],
            self.steps_to_event[keep],
            self.event[keep],
            self.origin[keep],
        )


def load(folder: Path, family: str) -> list[RecordedSeries]:
    """The series of a family, by market.

    Args:
        folder: where the recorded files are (``prices/`` below it).
        family: one of `STRIDES`.
    """
    prices = folder / "prices"
    return {"sports": _sports, "btc": _btc, "equities": _equities, "geopolitics": _geopolitics}[
        family
    ](prices)


def windows(family: str, series: Sequence[RecordedSeries]) -> Windows:
    """The protocol's windows: an origin every so many steps, complete targets alone."""
    stride = STRIDES[family]
    rows: list[tuple[FloatArray, FloatArray, float, str, int]] = []
    for item in series:
        padded = np.concatenate([np.full(CONTEXT, np.nan), item.values])
        for origin in range(stride, item.values.size - HORIZON + 1, stride):
            context = padded[origin : origin + CONTEXT]
            target = item.values[origin : origin + HORIZON]
            if np.isnan(target).any() or np.isnan(context[-1]):
                continue
            at = item.start + (origin - 1) * item.step
            rows.append((context, target, (item.end - at) / item.step, item.event, at))
    return Windows(
        family,
        series[0].step,
        np.array([row[0] for row in rows]).reshape(-1, CONTEXT),
        np.array([row[1] for row in rows]).reshape(-1, HORIZON),
        np.array([row[2] for row in rows]),
        np.array([row[3] for row in rows], dtype=np.str_),
        np.array([row[4] for row in rows], dtype=np.int64),
    )


def time_split(series: Sequence[RecordedSeries]) -> float:
    """The instant before which `TIME_SHARE` of the recorded prices lie, seconds since the epoch."""
    times = [item.start + np.flatnonzero(np.isfinite(item.values)) * item.step for item in series]
    return float(np.quantile(np.concatenate(times), TIME_SHARE))


def _sports(prices: Path) -> list[RecordedSeries]:
    quotes = (
        pl.scan_parquet(prices / "dinesh_quotes_5min.parquet")
        .filter(pl.col("spread") <= MAX_SPREAD + 1e-9)
        .select(market="slug", ts="ts", price="mid")
        .collect()
    )
    event = (
        pl.col("market").str.extract(r"^[a-z]+-(.*?\d{4}-\d{2}-\d{2})").fill_null(pl.col("market"))
    )
    return _series(quotes.with_columns(event=event, end=pl.lit(None, pl.Float64)), 300)


def _btc(prices: Path) -> list[RecordedSeries]:
    markets = pl.read_parquet(prices / "fated_markets.parquet").select(
        "market_id",
        event="event_slug",
        end=pl.col("market_end_date").dt.epoch("s").cast(pl.Float64),
    )
    quotes = (
        pl.scan_parquet(prices / "fated_prices_1min.parquet")
        .filter(pl.col("outcome_index") == 0)
        .select("market_id", ts=pl.col("timestamp").dt.replace_time_zone(None), price="price")
        .collect()
        .join(markets, on="market_id")
    )
    return _series(quotes.rename({"market_id": "market"}), 300)


def _equities(prices: Path) -> list[RecordedSeries]:
    markets = pl.read_parquet(prices / "crd_weekly_stock_markets.parquet").select(
        "market_id",
        event="event_slug",
        end=pl.col("expiry_date_utc")
        .cast(pl.String)
        .str.to_datetime(time_zone="UTC", strict=False)
        .dt.epoch("s")
        .cast(pl.Float64),
    )
    quotes = (
        pl.read_parquet(prices / "crd_weekly_stock_bars_1h.parquet")
        .select(
            "market_id",
            ts=pl.col("timestamp_utc").str.to_datetime(time_zone="UTC").dt.replace_time_zone(None),
            price="close",
        )
        .join(markets, on="market_id")
    )
    return _series(quotes.rename({"market_id": "market"}), 3600)


def _geopolitics(prices: Path) -> list[RecordedSeries]:
    markets = pl.read_parquet(prices / "bailey_geopolitics_markets.parquet").select(
        "token_id",
        event="market_id",
        end=pl.col("end_date").str.to_datetime(time_zone="UTC").dt.epoch("s").cast(pl.Float64),
    )
    quotes = (
        pl.read_parquet(prices / "bailey_geopolitics_1h.parquet")
        .select("token_id", ts=pl.col("timestamp").dt.replace_time_zone(None), price="price")
        .join(markets, on="token_id")
    )
    return _series(quotes.rename({"token_id": "market"}), 3600)


def _series(quotes: pl.DataFrame, step: int) -> list[RecordedSeries]:
    """Last value of each step, forward-filled for `FILL_MINUTES`, longer gaps missing."""
    fill = FILL_MINUTES * 60 // step
    steps = (
        quotes.with_columns(place=pl.col("ts").dt.epoch("s") // step)
        .sort("market", "ts", maintain_order=True)
        .group_by("market", "place", maintain_order=True)
        .agg(pl.col("price").last(), pl.col("event").first(), pl.col("end").first())
    )
    made = []
    for (market,), rows in steps.group_by("market", maintain_order=True):
        place = rows["place"].to_numpy()
        grid = np.full(int(place[-1] - place[0]) + 1, np.nan)
        grid[place - place[0]] = np.clip(rows["price"].to_numpy(), CLIP, 1.0 - CLIP)
        end = rows["end"][0]
        made.append(
            RecordedSeries(
                str(market),
                str(rows["event"][0]),
                int(place[0]) * step,
                step,
                _forward_filled(grid, fill),
                np.nan if end is None else float(end),
            )
        )
    return made


def _forward_filled(values: FloatArray, limit: int) -> FloatArray:
    places = np.arange(values.size)
    last = np.maximum.accumulate(np.where(np.isnan(values), -1, places))
    usable = (last >= 0) & (places - last <= limit)
    return np.where(usable, values[np.maximum(last, 0)], np.nan)
