"""The engine over recorded rows: the same `step` as the stream's, in market time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import polars as pl

from calibration_service.alerts.engine import step
from calibration_service.alerts.errors import BadObservation
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import Alert, Observation, band_of

_COLUMNS = [one.name for one in fields(Observation)]
_NUMBERS = [one.name for one in fields(Observation) if one.type == "float"]


def alerts_of(rows: pl.DataFrame, policy: AlertPolicy) -> list[Alert]:
    """The alerts of recorded bars, ordered by market and time.

    Args:
        rows: a column for each field of `Observation`; ``band`` is a struct with the fields of
            `Band`, or null. A null number is missing. The order of the rows does not matter.
        policy: the thresholds.

    Raises:
        BadObservation: a column is missing, or a market has two rows for one time.
    """
    missing = sorted(set(_COLUMNS) - set(rows.columns))
    if missing:
        raise BadObservation(f"{missing[0]}: there is no such column")
    key = ["market_id", "at_ms"]
    if rows.select(key).is_duplicated().any():
        raise BadObservation("at_ms: a market has two rows for one time")
    return list(_folded(rows.select(_COLUMNS).sort(key), policy))


def _folded(rows: pl.DataFrame, policy: AlertPolicy) -> Iterator[Alert]:
    state: MarketState | None = None
    for row in rows.iter_rows(named=True):
        if state is None or state.market_id != row["market_id"]:
            state = MarketState(row["market_id"])
        outcome = step(state, _observation(row), policy)
        state = outcome.state
        yield from outcome.alerts


def _observation(row: dict[str, Any]) -> Observation:
    numbers = {name: math.nan if row[name] is None else row[name] for name in _NUMBERS}
    band = None if row["band"] is None else band_of(row["band"])
    if band is not None and band.is_corrected is None:
        raise BadObservation("band.is_corrected: is null; say whether it is or not")
    return Observation(**row | numbers | {"band": band, "suppressed": row["suppressed"] or ""})
