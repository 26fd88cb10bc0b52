"""What the tests of the policy share: a clock, backends that behave as told, models to ask for."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Batch, BatchAnswer, Query
from forecast_service.models.baselines import answer
from forecast_service.models.catalog import CATALOG, Family, ModelCard
from forecast_service.policy.decision import Ask
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.settings import PolicySettings
from forecast_service.segment import UNSPECIFIED_SEGMENT
from forecast_service.series import series_of
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT

LEVELS = (0.1, 0.5, 0.9)


class Clock:
    """Monotonic seconds that a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


class Model:
    """A backend that behaves as it is told: it answers, or fails in one of many ways.

    Attributes:
        manner: well, hangs, garbage, or an exception to raise.
        calls: calls so far; sizes: series in each; budgets: seconds that each was given.
    """

    def __init__(self, manner: Any = "well", served_by: str = "test") -> None:
        self.manner = manner
        self.served_by = served_by
        self.calls = 0
        self.sizes: list[int] = []
        self.budgets: list[float] = []
        self.began = asyncio.Event()
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def answer(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer]:
        self.calls += 1
        self.began.set()
        self.sizes.append(sum(batch.values.shape[0] for batch in batches))
        self.budgets.append(budget)
        manner = self.manner.pop(0) if isinstance(self.manner, list) else self.manner
        if isinstance(manner, BaseException):
            raise manner
        if manner == "hangs":
            await asyncio.Event().wait()
        await self.may_answer.wait()
        given = [
            answer(dataclasses.replace(b, query=dataclasses.replace(b.query, model="last_value")))
            for b in batches
        ]
        if manner == "garbage":
            return [dataclasses.replace(a, quantiles=a.quantiles * np.nan) for a in given]
        return given


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model_of() -> Callable[..., Model]:
    """Makes a backend."""
    return Model


@pytest.fixture
def card() -> ModelCard:
    """A model that is no baseline."""
    fields = CATALOG["ewma"].model_dump() | {
        "name": "thinker", "family": Family.NATIVE, "version": "3", "runtime": "test",
        "max_context": 512,
    }  # fmt: skip
    return ModelCard(**fields)


@pytest.fixture
def ask(card: ModelCard) -> Callable[..., Ask]:
    """A request for that model, bent by fields; ``values`` and ``horizon`` by name."""

    def make(**fields: Any) -> Ask:
        values = fields.pop("values", [0.5 + 0.001 * (i % 9) for i in range(64)])
        freq, horizon = fields.pop("freq", "5m"), fields.pop("horizon", 3)
        series = series_of(values, freq, context_steps=512)
        query = Query(card.name, horizon, LEVELS, LOGIT, series.freq_seconds)
        made = Ask("m", card, query, series, UNSPECIFIED_SEGMENT)
        return made._replace(**fields)

    return make


@pytest.fixture
def rules() -> Callable[..., PolicySettings]:
    """Settings of the policy."""
    return lambda **fields: PolicySettings(**fields)


@pytest.fixture
def forecaster(clock: Any) -> Callable[..., Forecaster]:
    """Makes a forecaster whose model has the given backend; settings by name, policy as a dict."""

    def make(backend: Any, *, local: Any = None, policy: Any = None, **fields: Any) -> Forecaster:
        settings = ForecastSettings(policy=policy or {}, **fields)
        made = Forecaster(settings, clock, local and {"native": local})
        made.connect(backend and {"native": backend})
        return made

    return make
