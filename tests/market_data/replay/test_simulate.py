"""The simulated venue keeps the law that it promises."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.special import expit, logit

from market_data.replay.simulate import (
    CATEGORIES,
    LIQUIDITY,
    RESOLVED,
    SimulationConfig,
    default_truth,
    draw_truth,
    sample_cutoffs,
    with_truth,
)
from market_data.replay.simulate_prices import draw_paths, offsets
from market_data.replay.simulate_records import simulate


def test_the_same_seed_gives_the_same_archive_and_another_seed_another() -> None:
    config = SimulationConfig(n_markets=40, snapshots_per_market=8)
    one, two = simulate(config), simulate(config)
    assert one.markets == two.markets
    assert one.prices.equals(two.prices)
    assert one.splits == two.splits
    assert simulate(dataclasses.replace(config, seed=8)).markets != one.markets


def test_outcomes_follow_the_law_of_each_segment() -> None:
    """Standardised mean residual of each segment: |z| < 4.5 over 15 independent segments."""
    sample = sample_cutoffs(SimulationConfig(seed=3, n_markets=60_000, event_size_weights=(1.0,)))
    laws = {(s.category, s.liquidity): s for s in default_truth()}
    for c, category in enumerate(CATEGORIES):
        for b, bucket in enumerate(LIQUIDITY):
            inside = (sample.category == c) & (sample.liquidity == b)
            law = laws[category, bucket]
            x = logit(sample.p[inside])
            q = expit(law.intercept + law.slope * x)
            for weight in (np.ones_like(x), x):  # intercept and slope scores
                score = np.sum(weight * (sample.y[inside] - q))
                spread = np.sqrt(np.sum(weight**2 * q * (1 - q)))
                assert abs(score) < 4.5 * spread


def test_exactly_one_market_of_a_negative_risk_event_is_yes_at_its_stated_rate() -> None:
    truth = draw_truth(SimulationConfig(seed=5, n_markets=30_000, neg_risk_share=1.0))
    inside = truth.neg_risk
    winners = np.bincount(truth.event[inside], truth.y[inside])
    members = np.bincount(truth.event[inside])
    assert set(winners[members > 0]) == {1.0}
    totals = np.bincount(truth.event[inside], truth.q[inside])[members > 0]
    np.testing.assert_allclose(totals, 1.0, atol=1e-9)
    z = (truth.y[inside].sum() - truth.q[inside].sum()) / np.sqrt(inside.sum())
    assert abs(z) < 1e-6
    named = inside & ~truth.is_other
    residual = (truth.y - truth.q)[named]
    spread = np.sqrt(np.sum((truth.q * (1 - truth.q))[named]))
    assert abs(residual.sum()) < 4.5 * spread


def test_a_calibrated_venue_can_be_asked_for() -> None:
    config = with_truth(SimulationConfig(n_markets=500, event_size_weights=(1.0,)), 1.0)
    truth = draw_truth(config)
    np.testing.assert_allclose(truth.q, truth.p, atol=1e-12)


@pytest.mark.parametrize("points", [4, 6, 20, 47, 48, 100, 450])
def test_each_history_has_a_point_at_the_cutoffs_with_the_drawn_price(points: int) -> None:
    steps = offsets(points)
    assert len(steps) == points
    assert (np.diff(steps) > 0).all()
    assert -86_400 in steps
    assert -3_600 in steps
    config = SimulationConfig(n_markets=50, snapshots_per_market=points)
    truth = draw_truth(config)
    paths = draw_paths(config, truth)
    np.testing.assert_array_equal(paths.p[:, paths.cut], truth.p)
    closed = truth.close_ts > 0
    np.testing.assert_array_equal(paths.t[closed, paths.cut], truth.close_ts[closed] - 86_400)
    assert ((paths.p > 0) & (paths.p < 1)).all()
    resolved = truth.kind == RESOLVED
    assert ((paths.p[resolved, -1] > 0.5) == (truth.y[resolved] == 1)).all()


def test_fine_paths_stand_still_on_most_steps() -> None:
    config = SimulationConfig(n_markets=200, snapshots_per_market=400)
    paths = draw_paths(config, draw_truth(config))
    still = (np.diff(paths.p, axis=1) == 0).mean()
    assert 0.6 <= still <= 0.9


def test_nothing_in_an_archive_is_later_than_its_instant() -> None:
    config = SimulationConfig(n_markets=300, snapshots_per_market=10)
    archive = simulate(config)
    as_of = int(config.as_of.timestamp())
    assert archive.prices["t"].list.max().max() <= as_of  # type: ignore[operator]
    for rows in (archive.splits, archive.merges, archive.redemptions):
        assert max(int(row["timestamp"]) for row in rows) <= as_of
    for market in archive.markets:
        if market["closed"]:
            assert datetime.fromisoformat(market["closedTime"]) <= datetime(2026, 10, 1, tzinfo=UTC)


def test_every_kind_of_market_occurs() -> None:
    archive = simulate(SimulationConfig(n_markets=2_000, snapshots_per_market=4))
    labels = set((archive.truth or {})["markets"]["label"])
    assert labels == {"RESOLVED_TRUE", "RESOLVED_FALSE", "VOID", "UNRESOLVED", "MULTI_OUTCOME"}
    chains = {m["umaResolutionStatuses"] for m in archive.markets}
    assert any("disputed" in chain for chain in chains)
    assert {m["closed"] for m in archive.markets} == {True, False}


@pytest.mark.parametrize(
    "change", [{"n_markets": 0}, {"snapshots_per_market": 3}, {"sibling_correlation": 1.0},
               {"segments": ()}],
)  # fmt: skip
def test_an_impossible_configuration_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must"):
        dataclasses.replace(SimulationConfig(), **change)  # type: ignore[arg-type]
