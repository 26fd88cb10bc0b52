"""The recalibration stage: resolved rows in, one version of ``recalibration_state`` out."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from calibration_service.frames import conform, empty_frame
from calibration_service.recalibration.bands import GRID, band_of
from calibration_service.recalibration.maps import CANDIDATES, IsotonicMaps, LogitMaps, Method
from calibration_service.recalibration.promotion import MIN_EVENTS, Verdict, decide
from calibration_service.recalibration.selection import (
    Sample,
    Validation,
    plan_folds,
    validate,
)
from calibration_service.recalibration.state import WHOLE
from calibration_service.segments import UNSPECIFIED, text_codes
from market_data.calibration_tables import RECALIBRATION_STATE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

EMBARGO = timedelta(days=1)
"""Between the last event that a map is fitted on and the first that it is scored on."""


@dataclass(frozen=True, slots=True)
class _Pools:
    """Which rows belong to which pool.

    Attributes:
        names: "*" and the categories with enough events, in order.
        category: [N] int64, place of each row's category among ``names``, 0 for a thin one.
        sample: the rows of "*", followed by those of the categories.
    """

    names: tuple[str, ...]
    category: IntArray
    sample: Sample


def build_recalibration(
    rows: pl.DataFrame,
    *,
    version: str,
    run_id: str,
    as_of: datetime,
    rng: np.random.Generator,
    embargo: timedelta = EMBARGO,
) -> pl.DataFrame:
    """Fit, choose and judge a map for everything together and for each category with 200 events.

    What a category serves: its own map where that is promoted; else the map of "*" where that is
    promoted and was not worse than the price in this category; else the price. The interval of a
    price that stays is that of Platt's map, widened to hold the price. Every grid that is served
    has finite ``lo ≤ value ≤ hi``.

    Args:
        rows: ``metrics.ScoredRows.frame`` with ``resolved_at`` (aware UTC) for each row, in any
            order; rows without it are left out.
        version: name of the version, such as the run's id.
        run_id: run that writes the rows.
        as_of: instant of the fit, aware UTC.
        rng: source of the resampling in the intervals.
        embargo: see `EMBARGO`.

    Returns:
        Rows of ``recalibration_state``, "*" first; none for no rows.
    """
    dated = rows.filter(pl.col("resolved_at").is_not_null())
    if dated.is_empty():
        return empty_frame(RECALIBRATION_STATE)
    pools = _pools_of(dated)
    sample = pools.sample
    plan = plan_folds(sample.resolved, embargo=embargo // timedelta(microseconds=1))
    found = validate(sample, plan)
    events = [np.unique(sample.event[sample.pool == k]).size for k in range(sample.pools)]
    verdicts = decide(sample, found, tested=np.array(events) >= MIN_EVENTS)
    verdicts = [_with_a_grid(k, found, verdict) for k, verdict in enumerate(verdicts)]
    served = _served(pools, found, verdicts)
    written = [
        _row(k, pools, found, verdicts, served=served[k], rng=rng) for k in range(sample.pools)
    ]
    constant = {"version": version, "as_of": as_of, "run_id": run_id}
    return conform(pl.DataFrame([{**row, **constant} for row in written]), RECALIBRATION_STATE)


def _pools_of(rows: pl.DataFrame) -> _Pools:
    event, names = text_codes(rows["event_id"])
    category, categories = text_codes(rows["category"].fill_null(UNSPECIFIED))
    seen = np.unique(category * len(names) + event) // len(names)
    kept = np.flatnonzero(np.bincount(seen, minlength=len(categories)) >= MIN_EVENTS)
    number = np.zeros(len(categories), dtype=np.int64)
    number[kept] = np.arange(1, kept.size + 1)
    pool, times = number[category], rows["resolved_at"].dt.epoch("us").to_numpy()
    resolved = np.full(len(names), np.iinfo(np.int64).min)
    np.maximum.at(resolved, event, times)
    own = np.flatnonzero(pool)
    both = np.concatenate([np.arange(pool.size), own])
    sample = Sample(
        p=rows["p_yes"].to_numpy()[both],
        y=rows["outcome_yes"].to_numpy()[both],
        event=event[both],
        market=text_codes(rows["market_id"])[0][both],
        pool=np.concatenate([np.zeros(pool.size, dtype=np.int64), pool[own]]),
        pools=kept.size + 1,
        resolved=resolved,
    )
    return _Pools((WHOLE, *(categories[k] for k in kept)), pool, sample)


def _with_a_grid(k: int, found: Validation, verdict: Verdict) -> Verdict:
    """The verdict, or a refusal where the map of everything that is known has no estimate."""
    if not verdict.promoted or np.isfinite(_value(verdict.method, found, k)).all():
        return verdict
    reason = f"the {verdict.method.value} map of all events has no estimate"
    return replace(verdict, promoted=False, reasons=(reason,))


def _served(pools: _Pools, found: Validation, verdicts: list[Verdict]) -> list[str]:
    """ "own", "pool" or "price" for each pool."""
    whole = found.rows[pools.sample.pool[found.rows] == 0]
    q = found.recalibrated[found.best[0], : whole.size]
    p, y = pools.sample.p[whole], pools.sample.y[whole]
    gains = pools.sample.weight[whole] * ((q - y) ** 2 - (p - y) ** 2)
    gain = np.bincount(pools.category[whole], gains, minlength=len(pools.names))
    served = []
    for k, verdict in enumerate(verdicts):
        by_pool = k > 0 and verdicts[0].promoted and gain[k] <= 0.0
        served.append("own" if verdict.promoted else "pool" if by_pool else "price")
    return served


def _row(
    k: int,
    pools: _Pools,
    found: Validation,
    verdicts: list[Verdict],
    *,
    served: str,
    rng: np.random.Generator,
) -> dict[str, Any]:
    sample, verdict = pools.sample, verdicts[k]
    source = 0 if served == "pool" else k
    method = Method.IDENTITY if served == "price" else verdicts[source].method
    rows = np.flatnonzero(sample.pool == source)
    event = np.unique(sample.event[rows], return_inverse=True)[1]
    value = _value(method, found, source)
    low, high = band_of(method, sample.p[rows], sample.y[rows], event, rng=rng)
    own = np.flatnonzero(sample.pool == k)
    times = sample.resolved[sample.event[own]]
    return {
        "pool": pools.names[k],
        "parameters": _parameters(found, k, verdict.method),
        "served": served,
        "price": GRID.tolist(),
        "value": value.tolist(),
        "lo": np.minimum(low, value).tolist(),
        "hi": np.maximum(high, value).tolist(),
        "sample_size": own.size,
        "event_count": np.unique(sample.event[own]).size,
        "fitted_from": _time(times.min()),
        "fitted_to": _time(times.max()),
        **_said(verdict),
    }


def _said(verdict: Verdict) -> dict[str, Any]:
    return {
        "method": verdict.method.value,
        "promoted": verdict.promoted,
        "reasons": list(verdict.reasons),
        "brier_raw": verdict.brier_raw,
        "brier_recalibrated": verdict.brier_recalibrated,
        "difference": verdict.difference,
        "difference_lo": verdict.lo,
        "difference_hi": verdict.hi,
        "p_value": verdict.p,
        "p_adjusted": verdict.p_adjusted,
        "validation_events": verdict.validation_events,
    }


def _value(method: Method, found: Validation, pool: int) -> FloatArray:
    """[K] float64: the map that knows everything, at the grid; the price where there is none."""
    if method == Method.IDENTITY:
        return GRID
    maps = found.fitted[CANDIDATES.index(method)]
    return maps.at(GRID, np.full(GRID.size, found.final_group(pool)))


def _parameters(found: Validation, pool: int, method: Method) -> str:
    """JSON of the map that knows everything."""
    maps, group = found.fitted[CANDIDATES.index(method)], found.final_group(pool)
    if isinstance(maps, LogitMaps):
        c, a, b = (None if np.isnan(v) else float(v) for v in maps.theta[:, group])
        return json.dumps({"c": c, "a": a, "b": b})
    assert isinstance(maps, IsotonicMaps)
    own = maps.group == group
    price, rate = maps.price[own], maps.rate[own]
    ends = np.ones(price.size, dtype=np.bool_)
    ends[1:-1] = (rate[1:-1] != rate[:-2]) | (rate[1:-1] != rate[2:])
    return json.dumps({"price": price[ends].tolist(), "rate": rate[ends].tolist()})


def _time(microseconds: np.int64) -> datetime:
    return datetime.fromisoformat("1970-01-01T00:00:00+00:00") + timedelta(
        microseconds=int(microseconds)
    )
