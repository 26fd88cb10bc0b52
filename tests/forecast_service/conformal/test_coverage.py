"""Corrected bands cover what they promise on windows that they were not fitted on."""

from __future__ import annotations

from math import sqrt
from typing import Any

import numpy as np
import pytest

from forecast_service.conformal.coverage import coverages, measured_step
from forecast_service.conformal.fit import Outcomes, Rules
from forecast_service.postprocess import WidthLimits
from forecast_service.processes import PROCESSES

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
HORIZONS = (1, 12, 72, 288)
FREE = WidthLimits(0.0, 1.0)
SPLIT = 5 * 10**8


def tolerance(fitted: int, measured: int) -> float:
    """Four standard deviations of the measured coverage of a band that is right in the mean.

    The share outside each fitted level varies by τ(1 - τ)/n, at both levels; the measured share by
    0.8 · 0.2/n.
    """
    return 4.0 * sqrt(2 * 0.1 * 0.9 / fitted + 0.8 * 0.2 / measured)


def covered_share(outcomes: Outcomes, step: int) -> tuple[float, float, float]:
    """(before, after, tolerance) at one step."""
    found = measured_step(
        outcomes, LEVELS, step=step, freq_seconds=300, split_at=SPLIT, rules=Rules(),
        band=(0.1, 0.9), limits=FREE,
    )  # fmt: skip
    half = found.before.size
    return float(found.before.mean()), float(found.after.mean()), tolerance(half, half)


@pytest.mark.parametrize("step", HORIZONS)
@pytest.mark.parametrize(("process", "scale"), [("noisy_walk", 1 / 3), ("jump_diffusion", 3.0)])
def test_a_band_of_the_wrong_width_covers_eight_of_ten_after_correction(
    process: str, scale: float, step: int, misscaled_windows: Any
) -> None:
    outcomes = misscaled_windows(process, step=step, scale=scale, series=13_000)
    before, after, within = covered_share(outcomes, step)
    assert within < 0.03
    assert abs(before - 0.8) > 0.05
    assert after == pytest.approx(0.8, abs=within)


@pytest.mark.soak
@pytest.mark.parametrize("process", sorted(PROCESSES))
@pytest.mark.parametrize("scale", [1 / 3, 3.0])
@pytest.mark.parametrize("step", HORIZONS)
def test_every_process_is_covered_after_correction(
    process: str, scale: float, step: int, misscaled_windows: Any
) -> None:
    outcomes = misscaled_windows(process, step=step, scale=scale, series=40_000, seed=3)
    before, after, within = covered_share(outcomes, step)
    print(f"{process:>20} x{scale:4.2f} h={step:3} {before:.3f} -> {after:.3f} ± {within:.3f}")
    assert after == pytest.approx(0.8, abs=within)


def test_coverage_is_measured_on_windows_a_horizon_after_the_split(windows: Any, band: Any) -> None:
    origin = np.array([0, 40_000, 50_000, 50_001, 53_600, 53_700, 60_000])
    outcomes = windows(np.tile(band(0.5, 0.05), (7, 1)), [0.5] * 7, origin=origin)
    found = measured_step(
        outcomes, LEVELS, step=12, freq_seconds=300, split_at=50_000, rules=Rules(), band=(0.1, 0.9)
    )
    assert found.outcomes.origin.tolist() == [53_600, 53_700, 60_000]


def test_figures_count_windows_and_resample_events(windows: Any, band: Any) -> None:
    rng = np.random.default_rng(2)
    count = 4_000
    event = np.arange(count) // 10
    common = rng.normal(0.0, 0.05, 400)[event]  # windows of one event move together
    outcomes = windows(
        np.tile(band(0.5, 0.02), (count, 1)), 0.5 + common, event=event,
        origin=np.where(event < 200, 0, 10**9),
        segment=(event % 2).astype(np.int64),
        segments=("category=a|liquidity=LOW|tte=LE_6H", "category=b|liquidity=LOW|tte=LE_6H"),
    )  # fmt: skip
    found = measured_step(
        outcomes, LEVELS, step=1, freq_seconds=300, split_at=SPLIT, rules=Rules(), band=(0.1, 0.9)
    )
    rows = coverages([found], nominal=0.8, rules=Rules(), rng=np.random.default_rng(0))
    assert {row.segment.split("|")[0] for row in rows} == {"category=*", "category=a", "category=b"}
    everywhere = next(row for row in rows if row.segment == "category=*|liquidity=*|tte=*")
    assert (everywhere.third, everywhere.samples, everywhere.after.events) == ("short", 2_000, 200)
    assert everywhere.after.value == pytest.approx(0.8, abs=tolerance(200, 200))
    # Two hundred events, not two thousand windows: the interval is about eleven points wide.
    assert 0.07 < everywhere.after.high - everywhere.after.low < 0.16
    assert everywhere.before.value < 0.5
    assert everywhere.width_after > everywhere.width_before
