"""The conformal state of the lake, swapped whole when a newer one is there."""

from __future__ import annotations

import logging
import math
from typing import Any

import polars as pl
from deltalake.exceptions import DeltaError
from polars.exceptions import PanicException, PolarsError

from forecast_service.conformal.fit import Correction
from forecast_service.conformal.state import ConformalState, ModelKey
from market_data.errors import MarketDataError
from market_data.lake import Lake

_LOG = logging.getLogger("forecast_service")
TABLE = "conformal_state"
WIDTH_CLASSES = {"wide": False, "quiet": True}
"""Whether a width class is that of quiet bands."""
LARGEST = 1_000.0
"""No sound correction is near it: a thousand times the width of the band."""


class BrokenStateError(Exception):
    """A stored conformal state is not what one must be."""


class StoredCorrections:
    """Holds the newest state; keeps the last sound one while the lake is away or a state broken."""

    def __init__(self, lake: Lake) -> None:
        self._lake = lake
        self._state: ConformalState | None = None
        self._seen: int | None = None
        self._told: int | None = None

    @property
    def current(self) -> ConformalState | None:
        """The newest sound state; None before the first."""
        return self._state

    def refresh(self) -> bool:
        """Loads a newer state if there is one; returns whether it did. Blocks.

        A broken state is logged once, and what was there before stays.

        Raises:
            Exception: the lake is away; what was there before stays.
        """
        stored = self._lake.version(TABLE)
        if stored is None or stored == self._seen:
            return False
        try:
            loaded = load(self._lake)
        except (
            BrokenStateError,
            MarketDataError,
            DeltaError,
            PolarsError,
            PanicException,
        ) as error:
            if self._told == stored:
                return False
            self._told = stored
            kept = self._state.version if self._state is not None else "none"
            _LOG.error("conformal state %d is broken, %s stays: %s", stored, kept, error)
            return False
        self._seen = stored
        if loaded is None or (self._state is not None and loaded.version == self._state.version):
            return False
        self._state = loaded
        _LOG.info("bands are corrected by the conformal state %s", loaded.version)
        return True


def load(lake: Lake) -> ConformalState | None:
    """The newest state in the lake; None where there is none.

    Raises:
        BrokenStateError: it holds what no correction can be.
    """
    newest = (
        lake.scan(TABLE)
        .filter(pl.col("fitted_at") == pl.col("fitted_at").max())
        .filter(pl.col("version") == pl.col("version").max())
        .collect()
    )
    if newest.is_empty():
        return None
    by_model: dict[ModelKey, list[Correction]] = {}
    for row in newest.iter_rows(named=True):
        key = ModelKey(row["model"], row["model_version"], row["freq_seconds"])
        by_model.setdefault(key, []).append(_correction(row))
    return ConformalState(newest["version"][0], by_model)


def _correction(row: dict[str, Any]) -> Correction:
    value, kind = row["correction"], row["width_class"]
    sound = (
        value is not None and math.isfinite(value) and abs(value) <= LARGEST
        and kind in WIDTH_CLASSES and row["horizon_step"] >= 1
        and 0.0 < row["level"] < 1.0 and row["segment"].count("|") == 2
    )  # fmt: skip
    if not sound:
        raise BrokenStateError(f"version {row['version']}: no correction can be {row}")
    return Correction(
        row["segment"], WIDTH_CLASSES[kind], row["horizon_step"], row["level"], value,
        row["samples"] or 0, row["events"] or 0,
    )  # fmt: skip
