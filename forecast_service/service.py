"""ForecastService: one short method per RPC."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from forecast_service import wire
from forecast_service.models.catalog import CATALOG
from forecast_service.policy.forecaster import Forecaster
from marketcal import status
from marketcal.errors import InvalidArgument, InvalidPageToken, MarketcalError
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import forecast_pb2_grpc


class CallFacts(Protocol):
    """What a handler needs to know of its call."""

    @property
    def request_id(self) -> str:
        """Id of the call."""
        ...

    def time_remaining(self) -> float:
        """Seconds left."""
        ...


Rules = Callable[[Any], InvalidArgument | None]
"""Checks a message against the rules in the contract."""


class ForecastService(forecast_pb2_grpc.ForecastServiceServicer):
    """Forecasts of market prices as quantile bands."""

    def __init__(
        self,
        forecaster: Forecaster,
        rules: Rules,
        *,
        default_model: str,
        clock: Callable[[], float],
    ) -> None:
        self._forecaster = forecaster
        self._rules = rules
        self._default_model = default_model
        self._clock = clock

    async def Forecast(self, request: pb.ForecastRequest, call: CallFacts) -> pb.ForecastResponse:
        """One series."""
        return await self._answer(request, call.time_remaining())

    async def BatchForecast(
        self, request: pb.BatchForecastRequest, call: CallFacts
    ) -> pb.BatchForecastResponse:
        """Many series, each with its own answer or error."""
        wire.check_totals(request)
        results = await asyncio.gather(*(self._result(item, call) for item in request.items))
        return pb.BatchForecastResponse(results=results)

    async def ListModels(
        self, request: pb.ListModelsRequest, call: CallFacts
    ) -> pb.ListModelsResponse:
        """Models by name."""
        names = list(CATALOG)
        start = _start(request.page_token, names)
        end = start + min(request.page_size or 50, 100)
        models = [
            wire.encode_model(CATALOG[name], self._default_model) for name in names[start:end]
        ]
        return pb.ListModelsResponse(
            models=models, next_page_token=names[end] if end < len(names) else ""
        )

    async def _answer(self, request: pb.ForecastRequest, budget: float) -> pb.ForecastResponse:
        began = self._clock()
        question = wire.decode(request, self._default_model)
        bands = await self._forecaster.forecast(question.query, question.series, budget)
        return wire.encode(request, question, bands, self._clock() - began)

    async def _result(self, item: pb.ForecastRequest, call: CallFacts) -> pb.BatchForecastResult:
        try:
            broken = self._rules(item)
            if broken is not None:
                raise broken
            return pb.BatchForecastResult(forecast=await self._answer(item, call.time_remaining()))
        except MarketcalError as error:
            return pb.BatchForecastResult(error=status.encode(error, call.request_id))


def _start(token: str, names: Sequence[str]) -> int:
    if not token:
        return 0
    if token not in names:
        raise InvalidPageToken.of("page_token", "was not made by this server for this list")
    return names.index(token)
