"""Scores agree with libraries that other people keep: model-diagnostics and MAPIE."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from mapie.metrics.calibration import expected_calibration_error
from mapie.metrics.regression import regression_coverage_score, regression_mwi_score
from model_diagnostics.calibration import identification_function
from model_diagnostics.scoring import LogLoss, SquaredError, decompose

from calibration_service import scores
from calibration_service.metrics import build_metrics
from calibration_service.reliability import corp_decomposition
from calibration_service.segments import segment_key
from forecast_service.interval_scores import covered, winkler

SEEDS = range(6)


def tied(seed: int, n: int = 700) -> tuple[Any, Any]:
    """Prices in cents, which tie heavily, and outcomes that lean away from them."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(0.8, 1.4, n), 2).clip(0.01, 0.99)
    return p, (rng.random(n) < p**1.2).astype(float)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_decomposition_of_the_brier_score_is_that_of_model_diagnostics(seed: int) -> None:
    p, y = tied(seed)
    theirs = decompose(y, p, scoring_function=SquaredError(), functional="mean").row(0, named=True)
    ours = corp_decomposition(p, y)
    assert ours.miscalibration == pytest.approx(theirs["miscalibration"], abs=1e-12)
    assert ours.discrimination == pytest.approx(theirs["discrimination"], abs=1e-12)
    assert ours.uncertainty == pytest.approx(theirs["uncertainty"], abs=1e-12)
    assert scores.brier(p, y) == pytest.approx(theirs["score"], abs=1e-12)
    assert scores.log_loss(p, y) == pytest.approx(LogLoss()(y, p), abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_stored_decomposition_is_that_of_model_diagnostics(seed: int) -> None:
    p, y = tied(seed)
    rows = pl.DataFrame(
        {
            "market_id": [f"m{k}" for k in range(p.size)],
            "event_id": [f"m{k}" for k in range(p.size)],
            "category": ["sports"] * p.size,
            "liquidity_bucket": ["LOW"] * p.size,
            "tte_seconds": [3_600.0] * p.size,
            "p_yes": p,
            "outcome_yes": y,
        }
    )
    as_of = pl.datetime(2026, 10, 1, time_zone="UTC")
    metrics = build_metrics(
        rows, window="90d", run_id="oracle", rng=np.random.default_rng(0),
        as_of=pl.select(as_of).item(),
    )  # fmt: skip
    row = metrics.filter(pl.col("segment_key") == segment_key("*", "*", "*")).row(0, named=True)
    theirs = decompose(y, p, scoring_function=SquaredError(), functional="mean").row(0, named=True)
    for part in ("miscalibration", "discrimination", "uncertainty"):
        assert row[part] == pytest.approx(theirs[part], abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_mean_price_less_base_rate_is_the_bias_of_model_diagnostics(seed: int) -> None:
    p, y = tied(seed)
    theirs = identification_function(y, p).mean()
    assert float(p.mean() - y.mean()) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_calibration_errors_are_those_of_mapie(seed: int) -> None:
    rng = np.random.default_rng(seed)
    p = rng.random(900)  # continuous: how the two place a price on an edge does not matter
    y = (rng.random(900) < p).astype(float)
    nine = scores.equal_width_bins(p, bins=9)  # of ten edges, MAPIE makes nine bins
    theirs = expected_calibration_error(y, p, num_bins=10, split_strategy="uniform")
    assert scores.ece(scores.bin_sums(p, y, bin_of=nine)) == pytest.approx(theirs, abs=1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_coverage_and_interval_score_are_those_of_mapie(seed: int) -> None:
    rng = np.random.default_rng(seed)
    actual = rng.random(400)
    low = actual + rng.normal(-0.2, 0.15, 400)
    high = low + rng.random(400) * 0.5
    bands = np.stack([low, high], axis=1)[:, :, None]
    assert covered(low, high, actual).mean() == pytest.approx(
        float(regression_coverage_score(actual, bands).item()), abs=1e-12
    )
    assert winkler(low, high, actual, 0.8).mean() == pytest.approx(
        regression_mwi_score(actual, bands, 0.8), abs=1e-12
    )
