"""The shares of misses that corrections aim at, kept in the lake between runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl

from flows.runs import Run
from flows.settled import Settled
from forecast_service.conformal.adaptive import Adaptive, fresh
from forecast_service.conformal.adaptive import Settled as Outcome
from forecast_service.conformal.coverage import corrected_rows
from forecast_service.conformal.fit import FIT_LEVELS, Outcomes, groups
from forecast_service.conformal.state import ConformalState, ModelKey
from forecast_service.interval_scores import covered

TARGET = 0.2
"""Share that the 10-90 % band promises to miss."""
_THREE = [FIT_LEVELS.index(level) for level in (0.1, 0.5, 0.9)]
_Key = tuple[ModelKey, str, int]


class Shares:
    """Reads the stored shares, counts outcomes once each, and writes them back.

    Args:
        run: whose lake and settings.
        state: the corrections in force: an outcome was missed when their band missed it.
    """

    def __init__(self, run: Run, state: ConformalState | None) -> None:
        self._run = run
        self._state = state or ConformalState("", {})
        self._known: dict[_Key, Adaptive] | None = None
        self._changed: dict[_Key, Adaptive] = {}

    def updated(self, of: Settled) -> dict[int, dict[str, float]]:
        """By step and segment the factor of the tails, after the outcomes of these bands."""
        known = self._stored()
        tails: dict[int, dict[str, float]] = {}
        for step, outcomes in of.by_step.items():
            whole = np.asarray(np.isfinite(outcomes.quantiles[:, _THREE]).all(axis=1))
            kept = outcomes.where(whole).settled(step * of.key.freq_seconds)
            missed = self._missed(of.key, kept, step)
            for segment, rows in groups(kept):
                told = [
                    Outcome(at + step * of.key.freq_seconds, of.markets[market], at, step, miss)
                    for market, at, miss in zip(
                        kept.market[rows].tolist(), kept.origin[rows].tolist(),
                        missed[rows].tolist(), strict=True,
                    )
                ]  # fmt: skip
                key = (of.key, segment, step)
                before = known.get(key, fresh(TARGET))
                after = before.after(told, gamma=self._run.settings.conformal.gamma)
                tails.setdefault(step, {})[segment] = after.tail
                if after != before:
                    self._changed[key] = after
        return tails

    def tails(self, of: Settled) -> dict[int, dict[str, float]]:
        """By step and segment the factor of the tails as it is stored; nothing is counted."""
        found: dict[int, dict[str, float]] = {}
        for (key, segment, step), state in self._stored().items():
            if key == of.key:
                found.setdefault(step, {})[segment] = state.tail
        return found

    def _missed(self, key: ModelKey, outcomes: Outcomes, step: int) -> np.ndarray[Any, Any]:
        three = replace(outcomes, quantiles=outcomes.quantiles[:, _THREE])
        after = corrected_rows(self._state, key, three, (0.1, 0.5, 0.9), step)
        return ~covered(after[:, 0], after[:, 2], outcomes.actual)

    def _stored(self) -> dict[_Key, Adaptive]:
        if self._known is None:
            rows = self._run.lake.read("conformal_adaptive").iter_rows(named=True)
            self._known = {_key(row): _adaptive(row) for row in rows}
        return self._known

    def keep(self) -> int:
        """Writes what changed; returns how many rows."""
        if not self._changed:
            return 0
        rows = [_row(key, state) for key, state in self._changed.items()]
        frame = pl.DataFrame(rows).with_columns(
            pl.col("last_settled_at", "last_origin").cast(pl.Datetime("us", "UTC")),
            state_version=pl.lit(self._state.version or None, pl.String),
        )
        done = self._run.lake.upsert("conformal_adaptive", frame)
        return done.rows_new + done.rows_changed


def _key(row: dict[str, Any]) -> _Key:
    model = ModelKey(row["model"], row["model_version"], row["freq_seconds"])
    return model, row["segment"], row["horizon_step"]


def _adaptive(row: dict[str, Any]) -> Adaptive:
    settled, origin = (int(row[name].timestamp()) for name in ("last_settled_at", "last_origin"))
    last = (settled, row["last_market_id"], origin, row["horizon_step"])
    return Adaptive(row["target"], row["alpha"], row["outcomes"], last)


def _row(key: _Key, state: Adaptive) -> dict[str, Any]:
    (model, version, freq), segment, step = key
    assert state.last is not None
    settled, market, origin, _ = state.last
    return {
        "model": model, "model_version": version, "freq_seconds": freq, "segment": segment,
        "horizon_step": step, "target": state.target, "alpha": state.alpha,
        "outcomes": state.outcomes, "last_settled_at": datetime.fromtimestamp(settled, UTC),
        "last_market_id": market, "last_origin": datetime.fromtimestamp(origin, UTC),
    }  # fmt: skip
