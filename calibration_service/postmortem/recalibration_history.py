"""Which recalibration was in force at an instant of the past; nothing chosen later counts."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import polars as pl

from calibration_service.recalibration.state import (
    IDENTITY_VERSION,
    Recalibration,
    apply,
    load,
    pools_of,
)


class RecalibrationHistory:
    """The choices ever made, each with the maps that it names.

    Args:
        choices: rows of ``recalibration_choice``.
        states: rows of ``recalibration_state``.
    """

    def __init__(self, choices: pl.DataFrame, states: pl.DataFrame) -> None:
        ordered = choices.sort("chosen_at")
        self._times: list[datetime] = ordered["chosen_at"].to_list()
        self._versions: list[str] = ordered["version"].to_list()
        self._states = states
        self._loaded: dict[str, Recalibration] = {}

    def version_at(self, instant: datetime) -> str:
        """The version in force; "identity" where none was."""
        chosen = [v for at, v in zip(self._times, self._versions, strict=True) if at <= instant]
        return chosen[-1] if chosen else IDENTITY_VERSION

    def calibrated(self, p_yes: float, category: str | None, instant: datetime) -> float | None:
        """The calibrated probability of a price at an instant; None where nothing was in force.

        Raises:
            ValueError: the version that was chosen is not among the states.
        """
        version = self.version_at(instant)
        if version == IDENTITY_VERSION:
            return None
        if version not in self._loaded:
            self._loaded[version] = load(self._states.filter(pl.col("version") == version))
        state = self._loaded[version]
        pool = pools_of(state, pl.Series([category], dtype=pl.String))
        return float(apply(state, np.array([p_yes]), pool).value[0])
