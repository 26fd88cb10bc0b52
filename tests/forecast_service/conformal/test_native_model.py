"""The native model with its shipped weights covers what it promises, once it is corrected."""

from __future__ import annotations

from functools import lru_cache
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Batch, Query
from forecast_service.conformal.coverage import measured_step
from forecast_service.conformal.fit import Rules
from forecast_service.models import port
from forecast_service.models.catalog import known_models
from forecast_service.models.digests import verified
from forecast_service.models.native import Native
from forecast_service.postprocess import WidthLimits
from forecast_service.processes import PROCESSES
from forecast_service.transform import LOGIT, FloatArray, expit

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
HORIZONS = (1, 12, 72, 288)
CONTEXT, AT_ONCE = 288, 500
FREE = WidthLimits(0.0, 1.0)
SPLIT = 5 * 10**8


@pytest.fixture(scope="module")
def native() -> Native:
    return Native(Path(verified(known_models()["native"], "")), threads=2)


@lru_cache(maxsize=8)
def simulated(native: Native, process: str, series: int) -> tuple[FloatArray, FloatArray]:
    """Bands [N, HORIZONS, Q] of the model and what happened [N, HORIZONS]."""
    rng = np.random.default_rng(17)
    steps = np.array(HORIZONS) - 1
    query = Query("native", HORIZONS[-1], LEVELS, LOGIT, limits=FREE)
    bands, actual = [], []
    for _ in range(0, series, AT_ONCE):
        odds = PROCESSES[process](rng, series=AT_ONCE, length=CONTEXT + HORIZONS[-1])
        prices = expit(odds)
        given = port.answer(native, Batch(query, prices[:, :CONTEXT]), 60.0)
        bands.append(given.quantiles[:, steps])
        actual.append(prices[:, CONTEXT + steps])
    return np.concatenate(bands), np.concatenate(actual)


def covered(
    native: Native, windows: Any, process: str, place: int, series: int
) -> tuple[float, float, float]:
    """Coverage of the 80 % band before and after, on windows not fitted on, and its tolerance.

    The tolerance is four standard deviations of the measured coverage of a band that is right in
    the mean: n/2 windows are fitted at two levels and n/2 are measured.
    """
    bands, actual = simulated(native, process, series)
    origin = np.where(np.arange(series) < series // 2, 0, 10**9)
    found = measured_step(
        windows(bands[:, place], actual[:, place], origin=origin), LEVELS,
        step=HORIZONS[place], freq_seconds=300, split_at=SPLIT, rules=Rules(),
        band=(0.1, 0.9), limits=FREE,
    )  # fmt: skip
    within = 4.0 * sqrt((2 * 0.1 * 0.9 + 0.8 * 0.2) / (series // 2))
    return float(found.before.mean()), float(found.after.mean()), within


@pytest.mark.parametrize("place", range(len(HORIZONS)))
@pytest.mark.parametrize("process", ["jump_diffusion", "noisy_walk"])
def test_the_corrected_band_covers_eight_of_ten(
    process: str, place: int, native: Native, windows: Any
) -> None:
    _, after, within = covered(native, windows, process, place, 13_000)
    assert within < 0.03
    assert after == pytest.approx(0.8, abs=within)


@pytest.mark.soak
@pytest.mark.parametrize("process", sorted(PROCESSES))
@pytest.mark.parametrize("place", range(len(HORIZONS)))
def test_the_corrected_band_covers_eight_of_ten_on_every_process(
    process: str, place: int, native: Native, windows: Any
) -> None:
    before, after, within = covered(native, windows, process, place, 40_000)
    print(f"{process:>20} h={HORIZONS[place]:3} {before:.3f} -> {after:.3f} ± {within:.3f}")
    assert after == pytest.approx(0.8, abs=within)
