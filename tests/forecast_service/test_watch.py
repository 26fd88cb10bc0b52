"""WatchForecast over any source of bars: what it asks, what it passes over, when it ends."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field

import numpy as np
import pytest

from forecast_service.models.catalog import CATALOG
from forecast_service.policy.decision import Answer
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.routing import Router
from forecast_service.service import ForecastService
from forecast_service.settings import ForecastSettings
from forecast_service.transform import FloatArray
from forecast_service.watch import BAND_SECONDS
from forecast_service.wire import Question
from marketcal.errors import InvalidArgument, MarketcalError, ModelNotFound, NotReady
from marketcal.v1 import forecast_pb2 as pb

DAY = 86_400.0
RISING = [0.4, 0.41, 0.42, 0.43]


@dataclass
class Recorded:
    """Bars that have closed: prices by the end of a bar, or why there are none."""

    bars: dict[int, list[float] | MarketcalError]
    left: list[str] = field(default_factory=list)

    async def watch(self, market_id: str) -> AsyncGenerator[int]:
        try:
            for end_ms in self.bars:
                yield end_ms
        finally:
            self.left.append(market_id)

    async def closes(self, market_id: str, end_ms: int) -> FloatArray:
        found = self.bars[end_ms]
        if isinstance(found, MarketcalError):
            raise found
        return np.array(found)


@dataclass(frozen=True)
class Call:
    """A stream that may go on for a day."""

    request_id: str = "id-1"
    caller: str = "key-1"

    def time_remaining(self) -> float:
        return DAY


class Slowest(Forecaster):
    """Notes how long a forecast may take."""

    budgets: list[float]

    async def forecast(self, ask: object, budget: float) -> Answer:
        self.budgets.append(budget)
        return await super().forecast(ask, budget)  # type: ignore[arg-type]


def no_rules(_item: object) -> InvalidArgument | None:
    return None


@dataclass
class Served:
    service: ForecastService
    forecaster: Slowest
    issued: list[tuple[Question, Answer]]

    async def watched(self, **fields: object) -> list[pb.ForecastResponse]:
        request = pb.WatchForecastRequest(**({"market_id": "m"} | fields))  # type: ignore[arg-type]
        async with aclosing(self.service.WatchForecast(request, Call())) as stream:
            return [message.forecast async for message in stream]


def serve(bars: Recorded | None) -> Served:
    settings = ForecastSettings()
    forecaster = Slowest(settings, time.monotonic)
    forecaster.budgets = []
    issued: list[tuple[Question, Answer]] = []
    given = {} if bars is None else {"bars": bars}
    service = ForecastService(
        forecaster, no_rules, Router(settings.policy, "ewma", CATALOG), clock=time.monotonic,
        issued=lambda question, answer: issued.append((question, answer)), **given,
    )  # fmt: skip
    return Served(service, forecaster, issued)


async def test_a_bar_without_a_forecast_is_passed_over_and_counted() -> None:
    bars = Recorded(
        {1_000: RISING, 2_000: [0.5], 3_000: [], 4_000: NotReady("away"), 5_000: [*RISING, 0.44]}
    )
    served = serve(bars)
    answers = await served.watched()
    assert [answer.as_of_time.ToMilliseconds() for answer in answers] == [1_000, 5_000]
    assert served.service.skipped == {"INVALID_FIELD": 2, "NOT_READY": 1}
    assert bars.left == ["m"]


async def test_a_band_goes_the_way_of_every_forecast() -> None:
    """It is noted for the corrections, and may take as long as one forecast, not as the stream."""
    served = serve(Recorded({1_000: RISING}))
    [answer] = await served.watched(horizon_steps=2, quantiles=[0.2, 0.8])
    [(question, _)] = served.issued
    assert (question.as_of, question.freq, question.ask.caller) == (1_000_000, "5m", "key-1")
    assert served.forecaster.budgets == [BAND_SECONDS]
    assert [path.level for path in answer.quantile_paths] == [0.2, 0.8]
    assert all(len(path.values) == 2 for path in answer.quantile_paths)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model": pb.ModelSpec(name="none")}, ModelNotFound),
        ({"model": pb.ModelSpec(name="ewma", version="99")}, ModelNotFound),
        ({"quantiles": [0.5, 0.5]}, InvalidArgument),
        ({"market_id": "a\0b"}, InvalidArgument),
    ],
)
async def test_what_no_bar_could_answer_is_refused_before_the_first(
    fields: dict[str, object], error: type[MarketcalError]
) -> None:
    bars = Recorded({})
    with pytest.raises(error):
        await serve(bars).watched(**fields)
    assert bars.left == []


async def test_a_process_that_knows_no_bars_says_so() -> None:
    with pytest.raises(NotReady, match="no bars of m"):
        await serve(None).watched()
