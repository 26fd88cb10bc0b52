"""What the tests of the correction share: windows with known truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from forecast_service.baselines.registry import forecast
from forecast_service.conformal.fit import Outcomes
from forecast_service.conformal.segments import ALL
from forecast_service.processes import PROCESSES
from forecast_service.transform import FloatArray, expit

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
CONTEXT = 96
LATE = 10**9
"""Origin of the windows that are measured; those that are fitted begin at 0."""


@pytest.fixture(scope="session")
def windows() -> Callable[..., Outcomes]:
    """Windows from arrays: each its own market and event unless told otherwise."""

    def make(quantiles: Any, actual: Any, **fields: Any) -> Outcomes:
        count = len(actual)
        usual: dict[str, Any] = {
            "market": np.arange(count), "event": np.arange(count),
            "origin": np.zeros(count, dtype=np.int64), "segment": np.zeros(count, dtype=np.int64),
            "segments": (ALL,),
        }  # fmt: skip
        return Outcomes(np.asarray(quantiles), np.asarray(actual, dtype=float), **(usual | fields))

    return make


def misscaled(process: str, *, step: int, scale: float, series: int, seed: int) -> Any:
    """(quantiles [N, Q], actual [N]) of a random-walk band of ``scale`` times its width."""
    rng = np.random.default_rng(seed)
    quantiles, actual = [], []
    for _ in range(0, series, 1_000):
        prices = expit(PROCESSES[process](rng, series=1_000, length=CONTEXT + step))
        raw = forecast(
            "random_walk", prices[:, :CONTEXT], horizon_steps=step, levels=np.array(LEVELS)
        ).quantiles[:, -1]
        median = raw[:, 3:4]
        quantiles.append(np.clip(median + scale * (raw - median), 0.0, 1.0))
        actual.append(prices[:, -1])
    return np.concatenate(quantiles), np.concatenate(actual)


@pytest.fixture(scope="session")
def misscaled_windows(windows: Any) -> Callable[..., Outcomes]:
    """Windows of a method whose bands have a wrong width, the first half of them early."""

    def make(process: str, *, step: int, scale: float, series: int, seed: int = 11) -> Outcomes:
        quantiles, actual = misscaled(process, step=step, scale=scale, series=series, seed=seed)
        origin = np.where(np.arange(series) < series // 2, 0, LATE)
        found: Outcomes = windows(quantiles, actual, origin=origin)
        return found

    return make


@pytest.fixture(scope="session")
def band() -> Callable[[float, float], FloatArray]:
    """Rows of one band: (centre, half width at the 0.1 and 0.9 levels)."""
    shape = np.array([-1.28, -1.0, -0.53, 0.0, 0.53, 1.0, 1.28])
    return lambda centre, half: np.clip(centre + half * shape, 0.0, 1.0)
