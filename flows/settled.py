"""Bands held against what happened: which price came, and in which segment the market was then.

What happened at a step is the last recorded price at or before its instant, carried no further
than in a series that a model sees, and known only where the market has a price at or after that
instant: a recording that ended says nothing. A price of 0 is a price.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl

from forecast_service.conformal.fit import FIT_LEVELS, Outcomes
from forecast_service.conformal.state import ModelKey
from forecast_service.segment import UNSPECIFIED_SEGMENT, Tte
from forecast_service.transform import FloatArray
from market_data.series import MAX_FILL_SECONDS

_UNKNOWN = UNSPECIFIED_SEGMENT.category
_SAME_LEVEL = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Settled:
    """All bands of a model at one cadence, by step.

    Attributes:
        key: whose.
        by_step: outcomes by horizon step.
        markets: the ids that the market codes stand for.
    """

    key: ModelKey
    by_step: dict[int, Outcomes]
    markets: list[str]

    @property
    def events_made_afterwards(self) -> int:
        """Events of the bands that nobody asked for."""
        found = [
            of.event if of.preferred is None else of.event[of.preferred]
            for of in self.by_step.values()
        ]
        return int(np.unique(np.concatenate(found)).size) if found else 0


def settled_rows(
    bands: pl.DataFrame,
    snapshots: pl.DataFrame,
    registry: pl.DataFrame,
    *,
    until: datetime,
    max_price_gap: float,
) -> pl.DataFrame:
    """The bands of an instant's past with ``actual``, ``event_id`` and ``segment``.

    Args:
        bands: ``forecast_band`` rows.
        snapshots: market_id, ts, p_yes and liquidity_bucket, no price null.
        registry: market_id, event_id, category and end_at.
        until: nothing after it is looked at.
        max_price_gap: a band that a caller asked for is left out where its last price is farther
            than this from the recorded one, or none is recorded: callers may send what they like.
    """
    seen = snapshots.filter(pl.col("ts") <= until).sort("ts")
    last = seen.group_by("market_id").agg(pl.col("ts").max().alias("last_ts"))
    step = pl.duration(seconds=pl.col("horizon_step") * pl.col("step_seconds"))
    fill = pl.max_horizontal(pl.lit(MAX_FILL_SECONDS), 2 * pl.col("step_seconds"))
    rows = bands.with_columns(settled_at=pl.col("ts") + step).filter(pl.col("settled_at") <= until)
    origin = seen.select("market_id", "ts", origin_recorded="p_yes", liquidity="liquidity_bucket")
    outcome = seen.select("market_id", settled_at="ts", found="p_yes", found_at="ts")
    joined = (
        rows.sort("ts")
        .join_asof(origin, on="ts", by="market_id", check_sortedness=False)
        .sort("settled_at")
        .join_asof(outcome, on="settled_at", by="market_id", check_sortedness=False)
        .join(last, on="market_id", how="left")
        .join(registry, on="market_id", how="left")
    )
    age = (pl.col("settled_at") - pl.col("found_at")).dt.total_seconds()
    known = (age <= fill) & (pl.col("last_ts") >= pl.col("settled_at"))
    gap = (pl.col("origin_price") - pl.col("origin_recorded")).abs()
    trusted = (pl.col("source") == "history") | (gap <= max_price_gap).fill_null(value=False)
    return (
        joined.filter(trusted)
        .with_columns(
            actual=pl.when(known).then(pl.col("found")),
            event_id=pl.coalesce("event_id", "market_id"),
            segment=_segment(),
        )
        .sort("model_id", "step_seconds", "horizon_step", "ts", "market_id")
    )


def _segment() -> pl.Expr:
    """Key of the segment at the origin, as `forecast_service.segment.segment_of` writes it."""
    left = (pl.col("end_at") - pl.col("ts")).dt.total_milliseconds().clip(lower_bound=0) / 3.6e6
    tte = (
        pl.when(left.is_null()).then(pl.lit(str(Tte.UNSPECIFIED)))
        .when(left <= 6).then(pl.lit(str(Tte.LE_6H)))
        .when(left <= 24).then(pl.lit(str(Tte.LE_24H)))
        .when(left <= 72).then(pl.lit(str(Tte.LE_72H)))
        .otherwise(pl.lit(str(Tte.GT_72H)))
    )  # fmt: skip
    named = pl.col("category").replace("", _UNKNOWN).fill_null(_UNKNOWN)
    category = named.str.replace_all("|", "_", literal=True)
    liquidity = pl.col("liquidity").fill_null(_UNKNOWN)
    return pl.format("category={}|liquidity={}|tte={}", category, liquidity, tte)


def by_model(rows: pl.DataFrame) -> list[Settled]:
    """What `settled_rows` gives, as arrays."""
    found = []
    coded = rows.with_columns(
        market=pl.col("market_id").rank("dense").cast(pl.Int64) - 1,
        event=pl.col("event_id").rank("dense").cast(pl.Int64) - 1,
    )
    markets = coded["market_id"].unique().sort().to_list()
    for (name, freq), of in coded.group_by("model_id", "step_seconds", maintain_order=True):
        model, _, version = str(name).rpartition("@")
        steps = {
            int(step): _outcomes(part)
            for (step,), part in of.group_by("horizon_step", maintain_order=True)
        }
        key = ModelKey(model, version, int(freq))
        found.append(Settled(key, steps, markets))
    return found


def _outcomes(part: pl.DataFrame) -> Outcomes:
    segments = part["segment"].unique().sort().to_list()
    codes = part["segment"].cast(pl.Enum(segments)).to_physical()
    return Outcomes(
        _at_fitted_levels(part),
        part["actual"].fill_null(np.nan).to_numpy(),
        part["market"].to_numpy(),
        part["event"].to_numpy(),
        part["ts"].dt.epoch("s").to_numpy(),
        codes.to_numpy().astype(np.int64),
        tuple(segments),
        (part["source"] == "history").to_numpy(),
    )


def _at_fitted_levels(part: pl.DataFrame) -> FloatArray:
    """[N, Q] quantiles at `FIT_LEVELS`; NaN at the levels that a band does not have."""
    wanted = np.array(FIT_LEVELS)
    result = np.full((part.height, wanted.size), np.nan)
    numbered = part.select("levels", "values").with_row_index("row")
    for (given,), rows in numbered.group_by("levels"):
        levels = np.array(given)
        values = rows["values"].list.to_array(levels.size).to_numpy()
        place, of = np.nonzero(np.abs(wanted[:, None] - levels) < _SAME_LEVEL)
        result[np.ix_(rows["row"].to_numpy(), place)] = values[:, of]
    return result
