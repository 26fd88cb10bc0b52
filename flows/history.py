"""Forecasts as they would have been made: from prices at or before their origin, and no later one.

A market's prices stand on a grid of its own usual cadence. The origin is the instant of the last
price that the model sees, as in a request; what it is held against lies strictly after it. Origins
are multiples of a fixed number of steps since the epoch, so that a later run makes the same ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from flows.gates import answered
from forecast_service.batch import Batch, Query
from forecast_service.conformal.fit import FIT_LEVELS, knots_within
from forecast_service.models.catalog import ModelCard
from forecast_service.models.port import Model, answer
from forecast_service.policy.settings import PolicySettings
from forecast_service.transform import LOGIT, FloatArray
from market_data.series import CADENCES, MAX_FILL_SECONDS, resample, usual_cadence

AT_ONCE = 256
BUDGET_SECONDS = 60.0
"""Longest wait for a model that answers a batch."""


@dataclass(frozen=True, slots=True, eq=False)
class Contexts:
    """What a model is shown at some origins of one market.

    Attributes:
        market_id: the market.
        freq_seconds: length of a step.
        origin: [N] int64 seconds since the epoch.
        values: [N, T] float64 in [0, 1], NaN = missing; the last column is the price at the origin.
        liquidity: [N] buckets at the origins, "" where nobody knows.
    """

    market_id: str
    freq_seconds: int
    origin: NDArray[np.int64]
    values: FloatArray
    liquidity: NDArray[np.str_]

    def where(self, keep: NDArray[np.bool_]) -> Contexts:
        """The contexts for which ``keep`` [N] holds."""
        return Contexts(
            self.market_id, self.freq_seconds, self.origin[keep], self.values[keep],
            self.liquidity[keep],
        )  # fmt: skip

    def without(self, origins: set[int]) -> Contexts:
        """The same without those origins."""
        return self.where(np.array([at not in origins for at in self.origin.tolist()], dtype=bool))

    def answered_by(self, card: ModelCard, policy: PolicySettings) -> Contexts:
        """Those that the model would answer if somebody asked."""
        step = np.full(len(self.origin), self.freq_seconds, dtype=np.int64)
        return self.where(answered(card, policy, self.values, step, self.liquidity))


def contexts(
    market_id: str,
    t: NDArray[np.int64],
    p: FloatArray,
    *,
    since: int,
    until: int,
    every_steps: int,
    context_steps: int,
    liquidity: list[str | None] | None = None,
) -> Contexts | None:
    """The contexts of a market at its origins in a window; None where there is none.

    Args:
        market_id: the market.
        t: [N] int64 seconds since the epoch, ascending.
        p: [N] float64 in [0, 1].
        since, until: the window; an origin is at or after its begin, before the last price in it.
        every_steps: steps between origins.
        context_steps: longest context.
        liquidity: [N] buckets; None where nobody says.
    """
    seen = t <= until
    t, p = t[seen], p[seen]
    if t.size < 2 or t[-1] <= since:
        return None
    freq = CADENCES[usual_cadence(t)]
    earliest = max(int(t[0]), since - context_steps * freq)
    grid = np.arange(-(-earliest // freq) * freq, int(t[-1]) + 1, freq, dtype=np.int64)
    values = resample(t, p, grid, max_fill_seconds=max(MAX_FILL_SECONDS, 2 * freq))
    known = np.isfinite(values)
    chosen = (grid % (every_steps * freq) == 0) & (grid >= since) & (grid < t[-1]) & known
    places = np.flatnonzero(chosen & (np.cumsum(known) >= 2))
    if not places.size:
        return None
    padded = np.concatenate([np.full(context_steps - 1, np.nan), values])
    windows = np.lib.stride_tricks.sliding_window_view(padded, context_steps)[places]
    said = np.array([bucket or "" for bucket in liquidity or [""] * len(seen)], dtype=np.str_)
    at = np.searchsorted(t, grid[places], side="right") - 1
    return Contexts(market_id, freq, grid[places], windows, said[seen][at])


def latest_context(
    market_id: str,
    t: NDArray[np.int64],
    p: FloatArray,
    *,
    until: int,
    context_steps: int,
    liquidity: str = "",
) -> Contexts | None:
    """What a model is shown now; None where the last price is too old to stand for the present.

    Args:
        market_id: the market.
        t: [N] int64 seconds since the epoch, ascending, at most ``until``.
        p: [N] float64 in [0, 1].
        until: the present; the origin is the last step at or before it.
        context_steps: longest context.
        liquidity: bucket now.
    """
    if t.size < 2:
        return None
    freq = CADENCES[usual_cadence(t)]
    grid = until // freq * freq + freq * np.arange(1 - context_steps, 1, dtype=np.int64)
    values = resample(t, p, grid, max_fill_seconds=max(MAX_FILL_SECONDS, 2 * freq))
    if not np.isfinite(values[-1]):
        return None
    said = np.array([liquidity], dtype=np.str_)
    return Contexts(market_id, freq, grid[-1:], values[None, :], said)


def windows_of(
    snapshots: pl.DataFrame, *, since: datetime, until: datetime, every_steps: int, context: int
) -> Iterator[Contexts]:
    """The contexts of every market.

    Args:
        snapshots: market_id, ts and p_yes of ``market_snapshot``, none of them null, and
            liquidity_bucket.
        since, until, every_steps, context: as in `contexts`.
    """
    ordered = snapshots.sort("market_id", "ts")
    for (market,), rows in ordered.group_by("market_id", maintain_order=True):
        found = contexts(
            str(market), rows["ts"].dt.epoch("s").to_numpy(), rows["p_yes"].to_numpy(),
            since=int(since.timestamp()), until=int(until.timestamp()),
            every_steps=every_steps, context_steps=context,
            liquidity=rows["liquidity_bucket"].to_list(),
        )  # fmt: skip
        if found is not None:
            yield found


def bands_of(
    card: ModelCard,
    model: Model,
    windows: list[Contexts],
    ends: dict[str, float],
    max_steps: int,
    *,
    source: str = "history",
) -> pl.DataFrame:
    """``forecast_band`` rows of a model at all these origins, at the steps that are fitted.

    Args:
        card: of the model.
        model: the model.
        windows: of one cadence.
        ends: seconds since the epoch of each market's deciding event, where it is known.
        max_steps: longest step.
        source: what the rows say of themselves.

    Raises:
        ModelError, InvalidAnswerError: the model does not answer.
    """
    freq = windows[0].freq_seconds
    values = np.concatenate([one.values for one in windows])[:, -card.max_context :]
    market = np.repeat([one.market_id for one in windows], [len(one.origin) for one in windows])
    origin = np.concatenate([one.origin for one in windows])
    to_event = np.array([ends.get(name, np.nan) for name in market.tolist()])
    to_event = np.maximum((to_event - origin) / freq, 0.0)
    steps = np.array(list(knots_within(max_steps)))
    query = Query(card.name, int(steps[-1]), FIT_LEVELS, LOGIT, freq)
    parts = []
    for at in range(0, len(values), AT_ONCE):
        batch = Batch(query, values[at : at + AT_ONCE], to_event[at : at + AT_ONCE])
        parts.append(answer(model, batch, BUDGET_SECONDS).quantiles[:, steps - 1])
    quantiles = np.concatenate(parts)
    sound = np.isfinite(quantiles).all(axis=(1, 2))
    rows = _rows(
        card, freq, market[sound], origin[sound], values[sound, -1], steps, quantiles[sound]
    )
    return rows.with_columns(source=pl.lit(source))


def _rows(
    card: ModelCard,
    freq: int,
    market: NDArray[np.str_],
    origin: NDArray[np.int64],
    price: FloatArray,
    steps: NDArray[np.int64],
    quantiles: FloatArray,
) -> pl.DataFrame:
    count = steps.size
    many = pl.List(pl.Float64)
    return pl.DataFrame(
        {
            "ts": np.repeat(origin, count) * 1_000_000,
            "market_id": np.repeat(market, count),
            "horizon_step": np.tile(steps, len(origin)),
            "values": quantiles.reshape(-1, quantiles.shape[2]),
            "origin_price": np.repeat(price, count),
        }
    ).with_columns(
        pl.col("ts").cast(pl.Datetime("us", "UTC")),
        pl.col("values").cast(many),
        method=pl.lit(card.name),
        model_id=pl.lit(f"{card.name}@{card.version}"),
        step_seconds=pl.lit(freq, pl.Int64),
        levels=pl.lit(pl.Series([list(FIT_LEVELS)], dtype=many)).first(),
        band_calibration=pl.lit("raw"),
        conformal_version=pl.lit(None, pl.String),
    )
