"""Keeps the bands that were issued, so that they can be held against what happened.

A request appends to a queue in memory and goes on; a task of the gateway writes the queue to the
lake now and then. When the queue is full the oldest forecast leaves it and is counted. A crash
loses what was not written yet. What is kept are raw bands at the steps that corrections are fitted
at: the others lie between them.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from forecast_service.conformal.fit import knots_within
from forecast_service.models.catalog import Family
from forecast_service.policy.decision import Answer, CacheState
from forecast_service.settings import BandLogSettings
from forecast_service.transform import LOGIT, FloatArray
from forecast_service.wire import Question
from market_data.lake import Lake

_LOG = logging.getLogger("forecast_service")
TABLE = "forecast_band"
OLDEST = timedelta(days=14)
"""Bands of older instants are fitted no more."""
CLOCK_SKEW = timedelta(minutes=5)
_FRESH = CLOCK_SKEW // timedelta(microseconds=1)


class IssuedBand(NamedTuple):
    """A forecast that somebody got.

    Attributes:
        as_of: microseconds since the epoch.
        market_id, model, version, freq_seconds, levels: of what, by what and how.
        steps: [K] int64, the kept steps.
        quantiles: [K, Q] float64, raw.
        origin_price: last price that the model saw.
        conformal_version: of the state that corrected what the caller got; "" for none.
    """

    as_of: int
    market_id: str
    model: str
    version: str
    freq_seconds: int
    levels: tuple[float, ...]
    steps: NDArray[np.int64]
    quantiles: FloatArray
    origin_price: float
    conformal_version: str = ""


class BandLog:
    """Takes forecasts in at once, and writes those of known markets when it is told to.

    Args:
        lake: where ``forecast_band`` lies.
        settings: what is kept and how much.
        now: the wall clock.

    Attributes:
        dropped: forecasts that left a full queue.
    """

    def __init__(self, lake: Lake, settings: BandLogSettings, now: Callable[[], datetime]) -> None:
        self._lake = lake
        self._settings = settings
        self._now = now
        self._queue: deque[IssuedBand] = deque()
        self.dropped = 0
        self._told = 0

    def __len__(self) -> int:
        return len(self._queue)

    def note(self, question: Question, answer: Answer) -> None:
        """Takes a forecast in if it is one to keep; microseconds, and never fails.

        One to keep rests on prices up to now, in the space that history is made in: an instant of
        the past is one whose outcome its caller may know.
        """
        card, settings = answer.made.card, self._settings
        if question.as_of is None or not settings.enabled or answer.cache is CacheState.STALE:
            return
        if card.family is Family.BASELINE and not settings.baselines:
            return
        query, bands = question.ask.query, answer.made.bands
        if query.transform != LOGIT or abs(question.as_of - _micros(self._now())) > _FRESH:
            return
        steps = _kept(query.horizon_steps)
        corrected = answer.made.corrected
        if len(self._queue) >= settings.queue:
            self._queue.popleft()
            self.dropped += 1
        self._queue.append(
            IssuedBand(
                question.as_of, question.ask.market_id, card.name, card.version,
                query.freq_seconds, query.levels, steps, bands.quantiles[steps - 1],
                answer.series.last_value, "" if corrected is None else corrected.version,
            )
        )  # fmt: skip

    def write(self) -> int:
        """Writes what was taken in; returns the number of rows. Blocks.

        Raises:
            Exception: the lake is away; what was taken in waits for the next time, the newest
                first as far as there is room.
        """
        if self.dropped > self._told:
            _LOG.warning("%d forecasts left a full queue unwritten", self.dropped - self._told)
            self._told = self.dropped
        taken = [self._queue.popleft() for _ in range(len(self._queue))]
        done = False
        try:
            rows = self._of_known_markets(rows_of(taken, self._now()))
            if not rows.is_empty():
                self._lake.upsert(TABLE, rows)
            done = True
        finally:
            if not done:
                self._put_back(taken)
        return rows.height

    def _of_known_markets(self, rows: pl.DataFrame) -> pl.DataFrame:
        """The rows of markets that the lake knows: callers may name any, and no price of others
        will ever come."""
        if rows.is_empty():
            return rows
        named = pl.col("market_id").is_in(rows["market_id"].unique().to_list())
        known = self._lake.read("market_registry", named, columns=("market_id",))
        return rows.join(known, on="market_id", how="semi")

    def _put_back(self, taken: list[IssuedBand]) -> None:
        room = max(self._settings.queue - len(self._queue), 0)
        kept = taken[len(taken) - min(room, len(taken)) :]
        self.dropped += len(taken) - len(kept)
        self._queue.extendleft(reversed(kept))


def _micros(at: datetime) -> int:
    return int(at.timestamp() * 1e6)


@lru_cache(maxsize=2_048)
def _kept(horizon_steps: int) -> NDArray[np.int64]:
    return np.array(list(knots_within(horizon_steps)), dtype=np.int64)


def rows_of(bands: list[IssuedBand], now: datetime) -> pl.DataFrame:
    """``forecast_band`` rows of the bands whose instant can be held against anything."""
    earliest, latest = _micros(now - OLDEST), _micros(now + CLOCK_SKEW)
    kept = [band for band in bands if earliest <= band.as_of <= latest]
    return band_rows(kept, source="request")


def band_rows(bands: list[IssuedBand], *, source: str) -> pl.DataFrame:
    """``forecast_band`` rows; of forecasts with one key the last one."""
    columns: dict[str, list[Any]] = {
        "ts": [], "market_id": [], "method": [], "model_id": [], "step_seconds": [],
        "levels": [], "horizon_step": [], "values": [], "origin_price": [],
        "conformal_version": [],
    }  # fmt: skip
    for band in bands:
        count = band.steps.size
        columns["ts"] += [band.as_of] * count
        columns["market_id"] += [band.market_id] * count
        columns["method"] += [band.model] * count
        columns["model_id"] += [f"{band.model}@{band.version}"] * count
        columns["step_seconds"] += [band.freq_seconds] * count
        columns["levels"] += [list(band.levels)] * count
        columns["horizon_step"] += band.steps.tolist()
        columns["values"] += band.quantiles.tolist()
        columns["origin_price"] += [band.origin_price] * count
        columns["conformal_version"] += [band.conformal_version or None] * count
    many = pl.List(pl.Float64)
    kinds: dict[str, pl.DataType] = {
        "conformal_version": pl.String(), "levels": many, "values": many,
    }  # fmt: skip
    frame = pl.DataFrame(columns, schema_overrides=kinds).with_columns(
        ts=pl.col("ts").cast(pl.Int64).cast(pl.Datetime("us", "UTC")),
        band_calibration=pl.lit("raw"),
        source=pl.lit(source),
    )
    key = ["ts", "market_id", "method", "horizon_step", "step_seconds", "source"]
    return frame.unique(key, keep="last", maintain_order=True)
