"""The service without a server: items of a batch fail alone."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import pytest
from google.rpc import code_pb2

from forecast_service.models.catalog import CATALOG
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.routing import Router
from forecast_service.service import ForecastService
from forecast_service.settings import ForecastSettings
from marketcal.errors import InvalidArgument, InvalidPageToken, ModelNotFound, TooLarge
from marketcal.status import decode_status
from marketcal.v1 import forecast_pb2 as pb


@dataclass(frozen=True)
class Call:
    """A call with time left."""

    request_id: str = "id-1"
    caller: str = "key-1"

    def time_remaining(self) -> float:
        return 5.0


def no_nameless(item: Any) -> InvalidArgument | None:
    return None if item.market_id else InvalidArgument.of("market_id", "is empty")


@pytest.fixture
async def service() -> ForecastService:
    settings = ForecastSettings()
    forecaster = Forecaster(settings, time.monotonic)
    router = Router(settings.policy, "ewma", CATALOG)
    return ForecastService(forecaster, no_nameless, router, clock=time.monotonic)


def item(**fields: Any) -> pb.ForecastRequest:
    return pb.ForecastRequest(**({"market_id": "m", "values": [0.5, 0.6]} | fields))


async def test_each_item_has_its_own_answer_or_error(service: ForecastService) -> None:
    items = [
        item(),
        item(market_id=""),
        item(model=pb.ModelSpec(name="none")),
        item(values=[2.0, 0.5]),
        item(horizon_steps=3),
    ]

    answer = await service.BatchForecast(pb.BatchForecastRequest(items=items), Call())

    codes = [r.error.code if r.HasField("error") else code_pb2.OK for r in answer.results]
    bad, missing = code_pb2.INVALID_ARGUMENT, code_pb2.NOT_FOUND
    assert codes == [code_pb2.OK, bad, missing, bad, code_pb2.OK]
    assert answer.results[4].forecast.horizon_steps == 3
    assert decode_status(answer.results[1].error).request_id == "id-1"
    assert decode_status(answer.results[3].error).violations[0].field == "values[0]"


async def test_models_are_listed_in_pages(service: ForecastService) -> None:
    first = await service.ListModels(pb.ListModelsRequest(page_size=1), Call())
    rest = await service.ListModels(pb.ListModelsRequest(page_token=first.next_page_token), Call())

    assert len(first.models) == 1
    assert rest.next_page_token == ""
    assert first.models[0].name not in [model.name for model in rest.models]
    with pytest.raises(InvalidPageToken):
        await service.ListModels(pb.ListModelsRequest(page_token="none"), Call())


async def test_a_model_is_shown_with_what_it_has_done(service: ForecastService) -> None:
    for values in ([0.5, 0.6], [0.4, 0.6]):
        await service.Forecast(item(values=values), Call())

    shown = await service.GetModel(pb.GetModelRequest(name="ewma"), Call())

    assert (shown.model.name, shown.model.is_default) == ("ewma", True)
    done = shown.statistics
    assert (done.requests, done.failures) == (2, 0)
    assert sum(bar.count for bar in done.batch_sizes) == 2
    assert sum(bar.count for bar in done.latencies_ms) == 2
    assert done.batch_sizes[-1].upper_bound == math.inf
    other = await service.GetModel(pb.GetModelRequest(name="auto"), Call())
    assert other.statistics.requests == 0


async def test_a_model_that_there_is_not_is_not_shown(service: ForecastService) -> None:
    with pytest.raises(ModelNotFound):
        await service.GetModel(pb.GetModelRequest(name="none"), Call())


async def test_a_comparison_answers_for_each_model_or_says_why_not(
    service: ForecastService,
) -> None:
    request = pb.CompareForecastsRequest(
        market_id="compared",
        request=item(horizon_steps=2, model=pb.ModelSpec(name="random_walk")),
        models=[
            pb.ModelSpec(name="ewma"),
            pb.ModelSpec(name="none"),
            pb.ModelSpec(name="auto", params={"x": 1.0}),
            pb.ModelSpec(),
            pb.ModelSpec(name="last_value", version="1"),
        ],
    )

    results = (await service.CompareForecasts(request, Call())).results

    said = [r.forecast.meta.model_name if r.HasField("forecast") else r.error.code for r in results]
    missing, bad = code_pb2.NOT_FOUND, code_pb2.INVALID_ARGUMENT
    assert said == ["ewma", missing, bad, "ewma", "last_value"]
    assert {r.forecast.market_id for r in results if r.HasField("forecast")} == {"compared"}
    assert results[0].forecast.meta.route == "asked"
    assert results[3].forecast.meta.route == "default"


async def test_a_comparison_above_the_totals_is_refused(service: ForecastService) -> None:
    levels = [i / 100 for i in range(1, 100)]
    request = pb.CompareForecastsRequest(
        market_id="m",
        request=item(horizon_steps=2_016, quantiles=levels),
        models=[pb.ModelSpec(name="ewma")] * 3,
    )
    with pytest.raises(TooLarge):
        await service.CompareForecasts(request, Call())
