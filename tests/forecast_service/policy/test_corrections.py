"""The policy corrects what it answers: by who made it, once, and anew when the state changes."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from forecast_service.conformal.fit import KNOTS, Correction
from forecast_service.conformal.segments import ALL
from forecast_service.conformal.state import ConformalState, ModelKey
from forecast_service.models.catalog import CATALOG
from forecast_service.policy.cache import ForecastCache, input_key
from forecast_service.policy.decision import BandKind
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.settings import PolicySettings
from forecast_service.settings import ForecastSettings, InProcess


class Held:
    """Holds the state that a test puts there."""

    current: ConformalState | None = None


def state(version: str, model: str, model_version: str, correction: float) -> ConformalState:
    rows = [
        Correction(ALL, quiet, step, level, correction, 100, 100)
        for quiet in (False, True)
        for step in KNOTS
        for level in (0.1, 0.9)
    ]
    return ConformalState(version, {ModelKey(model, model_version, 300): rows})


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def correcting(clock: Any, held: Held) -> Any:
    def make(backend: Any, **policy: Any) -> Forecaster:
        settings = ForecastSettings(policy=policy or {}, in_process=InProcess.WHEN_RAY_IS_AWAY)
        made = Forecaster(settings, clock, corrections=held)
        made.connect({"native": backend})
        return made

    return make


async def test_bands_are_corrected_by_the_model_that_made_them(
    correcting: Any, model_of: Any, ask: Any, held: Held
) -> None:
    held.current = state("v1", "thinker", "3", 1.0)
    well = correcting(model_of())
    made = (await well.forecast(ask(), 5.0)).made
    assert made.corrected is not None
    assert made.corrected.version == "v1"
    assert (np.ptp(made.corrected.quantiles, axis=1) > np.ptp(made.bands.quantiles, axis=1)).all()

    failing = correcting(model_of(RuntimeError("bug")))
    stand_in = (await failing.forecast(ask(), 5.0)).made
    assert (stand_in.card.name, stand_in.corrected) == ("ewma", None)
    held.current = state("v2", "ewma", "1", 1.0)
    again = (await correcting(model_of(RuntimeError("bug"))).forecast(ask(), 5.0)).made
    assert again.corrected is not None


async def test_who_wants_raw_bands_gets_no_others(
    correcting: Any, model_of: Any, ask: Any, held: Held
) -> None:
    held.current = state("v1", "thinker", "3", 1.0)
    made = correcting(model_of())
    assert made.corrects
    assert (await made.forecast(ask(band=BandKind.RAW), 5.0)).made.corrected is None
    held.current = None
    assert not made.corrects
    assert (await made.forecast(ask(), 5.0)).made.corrected is None


async def test_a_new_state_is_no_hit(correcting: Any, model_of: Any, ask: Any, held: Held) -> None:
    held.current = state("v1", "thinker", "3", 1.0)
    made = correcting(model_of())
    seen = []
    for version in ("v1", "v1", "v2"):
        if held.current is None or held.current.version != version:
            held.current = state(version, "thinker", "3", 2.0)
        answer = await made.forecast(ask(), 5.0)
        assert answer.made.corrected is not None
        seen.append((answer.cache.name, answer.made.corrected.version))
    assert seen == [("MISS", "v1"), ("HIT", "v1"), ("MISS", "v2")]


async def test_remembered_corrections_cannot_be_changed_and_have_a_size(
    correcting: Any, model_of: Any, ask: Any, held: Held, clock: Any
) -> None:
    held.current = state("v1", "thinker", "3", 1.0)
    made = (await correcting(model_of()).forecast(ask(), 5.0)).made
    assert made.corrected is not None
    with pytest.raises(ValueError, match="read-only"):
        made.corrected.quantiles[0, 0] = 0.0
    cache, bare = (ForecastCache(PolicySettings(), clock) for _ in range(2))
    cache.put(input_key(ask()), ask(), made)
    bare.put(input_key(ask()), ask(), made._replace(corrected=None))
    assert cache.size - bare.size == made.corrected.quantiles.nbytes


def test_a_correction_costs_a_request_microseconds(held: Held) -> None:
    corrections = state("v1", "ewma", CATALOG["ewma"].version, 0.3)
    key, levels = ModelKey("ewma", "1", 300), (0.1, 0.5, 0.9)
    segment = "category=sports|liquidity=LOW|tte=LE_6H"
    bands = 0.5 + np.sqrt(np.arange(1, 13))[:, None] * np.array([-0.02, 0.0, 0.02])

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(200):
            factors = corrections.factors(key, segment, 12, levels)
            assert factors is not None
            factors.corrected(bands, (0.02, 0.9))
        return (time.perf_counter() - began) / 200

    best = min(seconds() for _ in range(20))
    print(f"{best * 1e6:.1f} µs")
    assert best < 75e-6  # 11 to 13 µs where nothing else runs
