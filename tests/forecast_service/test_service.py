"""The service without a server: items of a batch fail alone."""

from __future__ import annotations

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
from marketcal.errors import InvalidArgument, InvalidPageToken
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
