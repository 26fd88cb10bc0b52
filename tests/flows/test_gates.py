"""Which contexts a model with weights would answer in service."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flows.gates import answered
from flows.history import Contexts, contexts
from forecast_service.models.catalog import CATALOG, configured
from forecast_service.policy.settings import PolicySettings
from forecast_service.settings import ForecastSettings

NATIVE = configured(ForecastSettings(models=("native",)))["native"]
STEPS = np.array([300])


def context(known: int, gap: int = 0) -> Any:
    values = np.full((1, 288), np.nan)
    values[0, -known:] = 0.5
    if gap:
        values[0, -5 - gap : -5] = np.nan
    return values


@pytest.mark.parametrize(
    ("values", "liquidity", "expected"),
    [
        (context(32), "MID", True),
        (context(31), "MID", False),
        (context(288, gap=12), "", True),
        (context(288, gap=13), "", False),
        (context(288), "LOW", False),
        (context(288), "HIGH", True),
    ],
)
def test_a_model_is_asked_where_all_gates_are_open_and_a_baseline_everywhere(
    values: Any, liquidity: str, expected: bool
) -> None:
    said = np.array([liquidity])
    assert answered(NATIVE, PolicySettings(), values, STEPS, said).tolist() == [expected]
    assert answered(CATALOG["ewma"], PolicySettings(), values, STEPS, said).tolist() == [True]


def test_contexts_know_the_liquidity_at_their_origin() -> None:
    t = np.arange(100, dtype=np.int64) * 300
    said = ["LOW"] * 60 + [None] * 10 + ["MID"] * 30
    told = {"since": 0, "until": int(t[-1]), "every_steps": 5, "context_steps": 64}
    found = contexts("m", t, np.linspace(0.2, 0.8, 100), liquidity=said, **told)  # type: ignore[arg-type]
    assert isinstance(found, Contexts)
    assert found.liquidity.tolist() == [said[at // 300] or "" for at in found.origin.tolist()]
    kept = found.answered_by(NATIVE, PolicySettings()).origin // 300
    assert kept.tolist() == list(range(60, 99, 5))
    assert len(found.answered_by(CATALOG["ewma"], PolicySettings()).origin) == len(found.origin)
