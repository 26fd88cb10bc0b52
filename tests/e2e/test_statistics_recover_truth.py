"""A venue with known miscalibration is measured: the scores find the law that it was drawn from.

The law is P(YES | p) = sigmoid(intercept + slope · logit(p)), known per category and liquidity
bucket. The short way (draw → frame → `build_metrics`) is repeated over many seeds; the whole way
(archive → venue → daily flow → lake) is gone once and must give the numbers of the short one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calibration_service.metrics import build_metrics, scored_rows
from calibration_service.segments import segment_key
from flows import daily
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.replay.server import serve
from market_data.replay.simulate import (
    CATEGORIES,
    LIQUIDITY,
    SimulationConfig,
    sample_cutoffs,
    with_truth,
)
from market_data.replay.simulate_records import simulate

ENOUGH_EVENTS = 100
POOLED = segment_key("*", "*", "*")


def short_way(config: SimulationConfig) -> pl.DataFrame:
    """Scores of the drawn prices at T-24h and their outcomes."""
    drawn = sample_cutoffs(config)
    rows = pl.DataFrame(
        {
            "market_id": [f"m{i}" for i in range(len(drawn.p))],
            "event_id": [f"e{i}" for i in drawn.event.tolist()],
            "category": np.array(CATEGORIES)[drawn.category],
            "liquidity_bucket": np.array(LIQUIDITY)[drawn.liquidity],
            "tte_seconds": np.full(len(drawn.p), 86_400.0),
            "p_yes": drawn.p,
            "outcome_yes": drawn.y.astype(np.float64),
        }
    )
    return metrics_of(rows, config)


def metrics_of(rows: pl.DataFrame, config: SimulationConfig) -> pl.DataFrame:
    return build_metrics(
        rows, window="90d", run_id="test", as_of=config.as_of, rng=np.random.default_rng(1)
    )


@dataclass(frozen=True, slots=True)
class Covered:
    """How often a true value lay inside its 95 % interval, over segments × seeds."""

    pairs: int
    slope: float
    intercept: float

    def __str__(self) -> str:
        return f"{self.pairs} pairs: slope {self.slope:.2%}, intercept {self.intercept:.2%}"


def coverage(seeds: int, markets: int) -> Covered:
    pieces = []
    for seed in range(seeds):
        config = SimulationConfig(seed=10_000 + seed, n_markets=markets)
        truth = pl.DataFrame(
            {
                "segment_key": [segment_key(s.category, s.liquidity, "*") for s in config.segments],
                "true_slope": [s.slope for s in config.segments],
                "true_intercept": [s.intercept for s in config.segments],
            }
        )
        scores = short_way(config).filter(pl.col("event_count") >= ENOUGH_EVENTS)
        found = scores.join(truth, on="segment_key", how="inner")
        pieces.append(
            found.select(
                pl.col(f"true_{name}")
                .is_between(pl.col(f"{name}_lo"), pl.col(f"{name}_hi"))
                .fill_null(value=False)
                .alias(name)
                for name in ("slope", "intercept")
            )
        )
    inside = pl.concat(pieces)
    slope, intercept = (float(inside[name].mean()) for name in ("slope", "intercept"))  # type: ignore[arg-type]
    return Covered(inside.height, slope, intercept)


@pytest.mark.parametrize(
    ("seeds", "markets"),
    [
        pytest.param(200, 6_000, id="126-to-230-events"),
        pytest.param(2_000, 6_000, id="126-to-230-events-soak", marks=pytest.mark.soak),
        pytest.param(500, 30_000, id="over-600-events-soak", marks=pytest.mark.soak),
    ],
)
def test_intervals_contain_the_true_law_as_often_as_they_promise(seeds: int, markets: int) -> None:
    covered = coverage(seeds, markets)
    print(f"coverage of the true law, {covered}")
    assert covered.pairs >= 10 * seeds
    # The promise is 93 to 97 %; three standard errors of the simulation itself come on top.
    error = 3.0 * np.sqrt(0.95 * 0.05 / covered.pairs)
    assert 0.93 - error <= covered.slope <= 0.97 + error
    assert 0.93 - error <= covered.intercept <= 0.97 + error
    assert error < 0.0125


@pytest.mark.parametrize("seeds", [100, pytest.param(2_000, marks=pytest.mark.soak)])
def test_a_slope_of_seven_tenths_is_told_from_a_calibrated_venue(seeds: int) -> None:
    told = false_alarms = 0
    for seed in range(seeds):
        config = SimulationConfig(seed=50_000 + seed, n_markets=1_600)
        biased = short_way(with_truth(config, 0.7)).filter(pl.col("segment_key") == POOLED)
        calibrated = short_way(with_truth(config, 1.0)).filter(pl.col("segment_key") == POOLED)
        assert min(biased["event_count"].item(), calibrated["event_count"].item()) >= 500
        told += biased["slope_hi"].item() < 1.0
        false_alarms += not calibrated["slope_lo"].item() <= 1.0 <= calibrated["slope_hi"].item()
    print(f"slope 0.7 excludes 1 in {told / seeds:.1%}, slope 1 in {false_alarms / seeds:.1%}")
    assert told >= 0.98 * seeds
    assert false_alarms / seeds <= 0.05 + 3.0 * np.sqrt(0.05 * 0.95 / seeds)


def whole_way(config: SimulationConfig, folder: Path) -> Run:
    """The daily flow over the archive, served by a venue."""
    with serve(simulate(config)) as venue:
        settings = FlowSettings(
            lake=str(folder / "lake"),
            raw=str(folder / "raw"),
            gamma_url=f"{venue.base_url}/gamma",
            clob_url=f"{venue.base_url}/clob",
            subgraph_url=f"{venue.base_url}/subgraph/activity",
            venue_rate=0,
            venue_concurrency=16,
            windows=("90d",),
        )
        return daily.daily.fn(as_of=config.as_of, flow_settings=settings)


def test_the_whole_way_gives_the_numbers_of_the_short_one(tmp_path: Path) -> None:
    config = SimulationConfig(seed=31, n_markets=900, snapshots_per_market=12)
    run = whole_way(config, tmp_path)
    cutoffs = run.lake.read("cutoff_snapshot", pl.col("cutoff_type") == "T-24h")
    scored = scored_rows(
        cutoffs,
        labels=run.lake.read("label_status"),
        registry=run.lake.read("market_registry"),
    )
    pooled_time = pl.col("tte_bucket") == "*"
    found = metrics_of(scored.frame, config).filter(pooled_time)
    expected = short_way(config).filter(pooled_time)
    assert found.height == expected.height == 24
    keys = ["segment_key", "category", "liquidity_bucket", "sample_size", "event_count"]
    assert found.sort("segment_key").select(keys).equals(expected.sort("segment_key").select(keys))
    for name in ("base_rate", "mean_price", "brier", "log_loss", "slope", "slope_lo", "slope_hi",
                 "intercept", "ece"):  # fmt: skip
        np.testing.assert_allclose(
            found.sort("segment_key")[name].to_numpy(),
            expected.sort("segment_key")[name].to_numpy(),
            rtol=1e-6, atol=1e-9, err_msg=name,
        )  # fmt: skip
    # What the flow itself stores pools all cutoffs: T-24h, T-1h and each midnight before.
    stored = run.lake.read("calibration_metrics", pl.col("segment_key") == POOLED)
    resolved = run.lake.read("label_status", pl.col("outcome_yes").is_not_null())
    every = run.lake.read("cutoff_snapshot").join(resolved, on="market_id", how="semi")
    assert stored["sample_size"].item() == every.height > scored.frame.height
    assert (
        stored["event_count"].item()
        == expected.filter(pl.col("segment_key") == POOLED)["event_count"].item()
    )
