"""The recalibration in force: read from its rows, applied to prices, chosen and taken back.

A map is kept as a table over a grid of prices and is interpolated in log-odds between them, and in
the price itself next to 0 and 1. Which version is in force is said by the latest row of
``recalibration_choice``; rows are only ever added, so that going back is one more row.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy import special

from calibration_service.frames import conform
from market_data.calibration_tables import RECALIBRATION_CHOICE, RECALIBRATION_STATE

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

IDENTITY_VERSION = "identity"
WHOLE = "*"
_STEPS = 8_192
"""Equal steps of price at which a map is laid out once, to be read off by position."""
_EDGE = 1e-9
"""Ends of an interval that are 0 or 1 lie here in log-odds."""


@dataclass(frozen=True, slots=True)
class Recalibration:
    """Maps of one version, laid out for application.

    Attributes:
        version: its name.
        pools: row of each pool in the tables; "*" is row 0.
        methods: [P] what is served in each pool; "identity" is the price.
        value, lo, hi: [P, S + 1] float64 at equal steps of price.
    """

    version: str
    pools: Mapping[str, int]
    methods: tuple[str, ...]
    value: FloatArray
    lo: FloatArray
    hi: FloatArray


@dataclass(frozen=True, slots=True)
class Calibrated:
    """Calibrated probabilities of some prices.

    Attributes:
        value, lo, hi: [N] float64 in [0, 1], lo ≤ value ≤ hi; NaN where the price is NaN or no
            interval is known.
        pool: [N] int64, row of the pool that served.
        version: of the maps.
        methods: of each pool.
    """

    value: FloatArray
    lo: FloatArray
    hi: FloatArray
    pool: IntArray
    version: str
    methods: tuple[str, ...]


def identity() -> Recalibration:
    """The price itself, without an interval: what is served as long as nothing was fitted."""
    line = np.linspace(0.0, 1.0, _STEPS + 1)[None]
    unknown = np.full_like(line, np.nan)
    return Recalibration(IDENTITY_VERSION, {WHOLE: 0}, ("identity",), line, unknown, unknown)


def load(rows: pl.DataFrame) -> Recalibration:
    """Lay out one version.

    Args:
        rows: rows of ``recalibration_state`` of one version, "*" among them.

    Raises:
        ValueError: the rows are of several versions, or the pool of everything is missing.
    """
    versions = rows["version"].unique().to_list()
    ordered = rows.sort(pl.col("pool") != WHOLE, "pool")
    if len(versions) != 1 or ordered["pool"][0] != WHOLE:
        raise ValueError(f"not one whole version: {versions}")
    source = {
        "price": pl.lit("identity"),
        "pool": pl.col("method").first(),
        "own": pl.col("method"),
    }
    methods = ordered.select(
        pl.coalesce(pl.when(pl.col("served") == name).then(given) for name, given in source.items())
    ).to_series()
    tables = [
        np.stack([_laid_out(row["price"], row[name]) for row in ordered.iter_rows(named=True)])
        for name in ("value", "lo", "hi")
    ]
    return Recalibration(
        version=versions[0],
        pools={pool: k for k, pool in enumerate(ordered["pool"].to_list())},
        methods=tuple(methods.to_list()),
        value=tables[0],
        lo=tables[1],
        hi=tables[2],
    )


def _laid_out(price: list[float], given: list[float | None]) -> FloatArray:
    """[S + 1] float64: a map at equal steps of price, from its values at a grid from 0 to 1."""
    at, grid = np.linspace(0.0, 1.0, _STEPS + 1), np.asarray(price)
    values = np.array([np.nan if v is None else v for v in given])
    inner = slice(1, -1)
    between = np.interp(
        special.logit(np.clip(at, grid[1], grid[-2])),
        special.logit(grid[inner]),
        special.logit(np.clip(values[inner], _EDGE, 1.0 - _EDGE)),
    )
    outside = (at < grid[1]) | (at > grid[-2])
    return np.asarray(np.where(outside, np.interp(at, grid, values), special.expit(between)))


def apply(state: Recalibration, p: FloatArray, pool: IntArray) -> Calibrated:
    """Calibrated probabilities.

    Args:
        state: the maps.
        p: [N] float64 in [0, 1], NaN where there is no price.
        pool: [N] int64, row of each price's pool, from `pools_of`.
    """
    scaled = p * _STEPS
    known = scaled >= 0.0
    left = np.minimum(np.where(known, scaled, 0.0).astype(np.int64), _STEPS - 1)
    share = scaled - left
    place = pool * (_STEPS + 1) + left
    found = []
    for table in (state.value, state.lo, state.hi):
        flat = table.reshape(-1)
        below = flat.take(place)
        found.append(below + share * (flat[1:].take(place) - below))
    return Calibrated(found[0], found[1], found[2], pool, state.version, state.methods)


def pools_of(state: Recalibration, category: pl.Series) -> IntArray:
    """[N] int64: the pool of each category; unknown ones and null belong to "*"."""
    return (
        category.replace_strict(
            list(state.pools), list(state.pools.values()), default=0, return_dtype=pl.Int64
        )
        .fill_null(0)
        .to_numpy()
    )


def with_calibrated(rows: pl.DataFrame, state: Recalibration) -> pl.DataFrame:
    """Add calibrated_probability, calibrated_lo, calibrated_hi to rows, null where unknown.

    Args:
        rows: columns category and p_yes; other columns pass through.
        state: the maps.
    """
    prices = rows["p_yes"].cast(pl.Float64).fill_null(np.nan).to_numpy()
    found = apply(state, prices, pools_of(state, rows["category"]))
    names = ("calibrated_probability", "calibrated_lo", "calibrated_hi")
    return rows.with_columns(
        pl.Series(name, values).fill_nan(None)
        for name, values in zip(names, (found.value, found.lo, found.hi), strict=True)
    )


def in_force(choices: pl.DataFrame, states: pl.DataFrame) -> Recalibration:
    """The recalibration that the latest choice names; the identity where nothing was chosen.

    Args:
        choices: rows of ``recalibration_choice``.
        states: rows of ``recalibration_state``.

    Raises:
        ValueError: the chosen version is not among the states.
    """
    if choices.is_empty():
        return identity()
    version = choices.sort("chosen_at")["version"][-1]
    return identity() if version == IDENTITY_VERSION else load(_of_version(states, version))


def choose(
    version: str, states: pl.DataFrame, *, at: datetime, by: str, reason: str
) -> pl.DataFrame:
    """One row of ``recalibration_choice`` that brings a version into force.

    Args:
        version: a version of ``states``, or "identity".
        states: rows of ``recalibration_state``.
        at: when, aware UTC, later than every choice before.
        by: who or what chose.
        reason: why.

    Raises:
        ValueError: there is no such version.
    """
    if version != IDENTITY_VERSION:
        _of_version(states, version)
    row = {"chosen_at": [at], "version": [version], "by": [by], "reason": [reason]}
    return conform(pl.DataFrame(row), RECALIBRATION_CHOICE)


def roll_back(
    choices: pl.DataFrame, states: pl.DataFrame, *, at: datetime, by: str, reason: str
) -> pl.DataFrame:
    """One row of ``recalibration_choice`` that brings back what was in force before the latest.

    Before the first choice the identity was in force; arguments as in `choose`.
    """
    history = choices.sort("chosen_at")["version"].to_list()
    earlier = [version for version in history[:-1] if version != history[-1]]
    back = earlier[-1] if earlier else IDENTITY_VERSION
    return choose(back, states, at=at, by=by, reason=reason)


def _of_version(states: pl.DataFrame, version: str) -> pl.DataFrame:
    found = states.filter(pl.col("version") == version)
    if found.is_empty():
        raise ValueError(f"{RECALIBRATION_STATE.name}: no version {version}")
    return found
