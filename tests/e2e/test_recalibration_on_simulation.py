"""Recalibration on the simulated venue, whose miscalibration is known by segment.

Fitted on one draw of the venue and judged on another one, which no fit has seen: it must improve
the Brier score there, by an interval below zero, and bring slopes nearer to 1; a calibrated venue
must keep its prices.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import polars as pl
import pytest

from calibration_service import intervals
from calibration_service.intervals import EventGroups
from calibration_service.metrics import build_metrics
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.state import load, with_calibrated
from calibration_service.segments import segment_key, text_codes
from market_data.replay.simulate import (
    CATEGORIES,
    LIQUIDITY,
    SimulationConfig,
    sample_cutoffs,
    uniform_truth,
)

MARKETS = 60_000


def drawn(config: SimulationConfig) -> pl.DataFrame:
    """Resolved rows of a draw at T-24h."""
    sample = sample_cutoffs(config)
    return pl.DataFrame(
        {
            "market_id": [f"m{i}" for i in range(len(sample.p))],
            "event_id": [f"e{i}" for i in sample.event.tolist()],
            "category": np.array(CATEGORIES)[sample.category],
            "liquidity_bucket": np.array(LIQUIDITY)[sample.liquidity],
            "tte_seconds": np.full(len(sample.p), 86_400.0),
            "p_yes": sample.p,
            "outcome_yes": sample.y.astype(np.float64),
            "resolved_at": [datetime.fromtimestamp(int(t), tz=UTC) for t in sample.close_ts],
        },
        schema_overrides={"resolved_at": pl.Datetime("us", "UTC")},
    )


def fitted(config: SimulationConfig) -> pl.DataFrame:
    """The version that a draw gives."""
    return build_recalibration(
        drawn(config), version="v1", run_id="test", as_of=config.as_of,
        rng=np.random.default_rng(0),
    )  # fmt: skip


def difference(rows: pl.DataFrame) -> tuple[float, float, float]:
    """Brier score recalibrated less raw, with its interval over events."""
    p, q, y = (rows[c].to_numpy() for c in ("p_yes", "calibrated_probability", "outcome_yes"))
    codes, names = text_codes(rows["event_id"])
    terms = (q - y) ** 2 - (p - y) ** 2
    total = np.bincount(codes, terms, minlength=len(names)).astype(np.float64)
    size = np.bincount(codes, minlength=len(names)).astype(np.float64)
    groups = EventGroups(np.zeros(len(names), dtype=np.int64), 1)
    found = intervals.signed_ratio(total, size, groups=groups)
    return float(terms.mean()), float(found.lo[0]), float(found.hi[0])


def slopes(rows: pl.DataFrame, price: str, as_of: datetime) -> dict[str, Any]:
    """Calibration slope of each category."""
    metrics = build_metrics(
        rows.with_columns(pl.col(price).alias("p_yes")),
        window="90d", run_id="test", as_of=as_of, rng=np.random.default_rng(0),
    )  # fmt: skip
    known = dict(metrics.select("segment_key", "slope").iter_rows())
    return {name: known[segment_key(name, "*", "*")] for name in CATEGORIES}


def test_what_is_wrong_in_one_draw_is_put_right_in_another() -> None:
    state = fitted(SimulationConfig(seed=31, n_markets=MARKETS))
    fresh_config = SimulationConfig(seed=77, n_markets=MARKETS)
    fresh = with_calibrated(drawn(fresh_config), load(state))
    value, low, high = difference(fresh)
    print(f"Brier difference on fresh draws: {value:+.5f} ({low:+.5f} to {high:+.5f})")
    assert high < 0.0
    served = state.filter(pl.col("served") == "own")["pool"].to_list()
    assert {"crypto", "politics"} <= set(served)  # slopes 1.2 and 0.8 over all depths
    assert "sports" not in served  # the one that is calibrated
    raw = slopes(fresh, "p_yes", fresh_config.as_of)
    mended = slopes(fresh, "calibrated_probability", fresh_config.as_of)
    for name in served:
        assert abs(mended[name] - 1.0) < abs(raw[name] - 1.0)


@pytest.mark.parametrize("seed", range(8))
def test_a_calibrated_venue_keeps_its_prices(seed: int) -> None:
    config = SimulationConfig(seed=500 + seed, n_markets=2_000, segments=uniform_truth())
    state = fitted(config)
    assert state.filter(pl.col("promoted")).is_empty()
    rows = with_calibrated(drawn(config), load(state))
    assert np.allclose(rows["calibrated_probability"], rows["p_yes"], atol=1e-12)
