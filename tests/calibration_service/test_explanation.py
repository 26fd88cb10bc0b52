"""An explanation adds up to the score, and says only what the score was computed from."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.explanation import explain
from calibration_service.trust import COMPONENTS, build_trust

START = datetime(2026, 1, 1, tzinfo=UTC)


def trusted(steps: int, *, volume: float | None = 12_345.0, seed: int = 0) -> dict[str, Any]:
    """The trust row of a market with hourly prices."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "ts": [START + timedelta(hours=hour) for hour in range(steps)],
            "market_id": ["m"] * steps,
            "p_yes": 1 / (1 + np.exp(-np.cumsum(rng.normal(0, 0.1, steps)))),
            "volume_24h": [volume] * steps,
            "open_interest": [None] * steps,
        },
        schema_overrides={"open_interest": pl.Float64, "volume_24h": pl.Float64},
    )
    return build_trust(frame).row(0, named=True)


@given(st.integers(1, 60), st.sampled_from([None, 50.0, 12_345.0, 1e8]), st.integers(0, 9))
def test_the_points_add_up_to_the_score(steps: int, volume: float | None, seed: int) -> None:
    row = trusted(steps, volume=volume, seed=seed)
    parts = explain(row)
    assert sum(part.points for part in parts) == pytest.approx(row["score"])
    assert {part.component for part in parts} == set(COMPONENTS)
    assert [part.points for part in parts] == sorted((p.points for p in parts), reverse=True)


def test_what_is_unknown_is_said_with_the_prior_it_stands_at() -> None:
    parts = {part.component: part for part in explain(trusted(3, volume=None))}
    assert parts["liquidity_depth"].evidence == (
        "Neither volume nor open interest is known; it stands at 0.25."
    )
    assert "fewer than 12 moves" in parts["stability"].evidence
    assert "Nobody has read the question yet" in parts["question_quality"].evidence


def test_what_is_known_is_said_in_its_units() -> None:
    parts = {part.component: part for part in explain(trusted(60))}
    assert "12,345 USD" in parts["liquidity_depth"].evidence
    assert "59 moves" in parts["stability"].evidence
    assert "robust standard deviations" in parts["manipulation_suspect"].evidence


def test_a_row_from_before_its_evidence_was_kept_says_so() -> None:
    row = trusted(60) | {"depth_usd": None, "volatility": None, "volume_z": None}
    parts = {part.component: part for part in explain(row)}
    for name in ("liquidity_depth", "stability", "manipulation_suspect"):
        assert parts[name].evidence == "What it was computed from was not kept."


def test_who_judged_the_question_is_named_with_the_first_reason() -> None:
    row = trusted(60) | {
        "question_quality": 0.625,
        "unknown_components": [],
        "question_scored_by": "rules-1",
        "question_note": "Time without a date: soon",
    }
    parts = {part.component: part for part in explain(row)}
    assert parts["question_quality"].evidence == (
        "The wording of the question was scored 0.62 by rules-1: Time without a date: soon."
    )
