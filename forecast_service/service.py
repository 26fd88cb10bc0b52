"""ForecastService: one short method per RPC."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from forecast_service import wire
from forecast_service.models.catalog import ModelCard
from forecast_service.policy.decision import Answer
from forecast_service.policy.forecaster import Forecaster
from forecast_service.policy.routing import Router
from forecast_service.pool import A_FEW
from forecast_service.watch import BAND_SECONDS, NO_BARS, ClosedBars
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

    @property
    def caller(self) -> str:
        """Name of who calls."""
        ...


Issued = Callable[[wire.Question, Answer], None]
"""Told of each forecast that goes out."""


def _unrecorded(question: wire.Question, answer: Answer) -> None:
    """Takes no note of a forecast."""


Rules = Callable[[Any], InvalidArgument | None]
"""Checks a message against the rules in the contract."""


class ForecastService(forecast_pb2_grpc.ForecastServiceServicer):
    """Forecasts of market prices as quantile bands.

    Args:
        forecaster: decides where forecasts are made.
        rules: check the items of a batch.
        router: chooses models.
        clock: monotonic seconds.
        issued: told of each forecast that goes out.
        bars: closed bars of watched markets; by default there are none here.

    Attributes:
        skipped: closed bars at which a stream got no band, by the reason of the refusal.
    """

    def __init__(
        self,
        forecaster: Forecaster,
        rules: Rules,
        router: Router,
        *,
        clock: Callable[[], float],
        issued: Issued = _unrecorded,
        bars: ClosedBars = NO_BARS,
    ) -> None:
        self.skipped: Counter[str] = Counter()
        self._bars = bars
        self._issued = issued
        self._forecaster = forecaster
        self._rules = rules
        self._router = router
        self._clock = clock

    async def Forecast(self, request: pb.ForecastRequest, call: CallFacts) -> pb.ForecastResponse:
        """One series."""
        return await self._answer(request, call.caller, call.time_remaining())

    async def BatchForecast(
        self, request: pb.BatchForecastRequest, call: CallFacts
    ) -> pb.BatchForecastResponse:
        """Many series, each with its own answer or error."""
        wire.check_totals(request.items, corrects=self._forecaster.corrects)
        return pb.BatchForecastResponse(results=await self._results(request.items, call))

    async def CompareForecasts(
        self, request: pb.CompareForecastsRequest, call: CallFacts
    ) -> pb.CompareForecastsResponse:
        """One series for several models, each with its own answer or error."""
        items = wire.compared(request)
        wire.check_totals(items, corrects=self._forecaster.corrects)
        return pb.CompareForecastsResponse(results=await self._results(items, call))

    async def WatchForecast(
        self, request: pb.WatchForecastRequest, call: CallFacts
    ) -> AsyncGenerator[pb.WatchForecastResponse]:
        """A band at each closed bar of the market; without end."""
        wire.check_watched(request, self._router)
        async with aclosing(self._bars.watch(request.market_id)) as closed:
            async for end_ms in closed:
                forecast = await self._at_bar(request, call, end_ms)
                if forecast is not None:
                    yield pb.WatchForecastResponse(forecast=forecast)

    async def _at_bar(
        self, request: pb.WatchForecastRequest, call: CallFacts, end_ms: int
    ) -> pb.ForecastResponse | None:
        """The forecast issued at a closed bar; None, and counted, where it is refused."""
        budget = min(BAND_SECONDS, call.time_remaining())
        try:
            closes = await self._bars.closes(request.market_id, end_ms)
            item = wire.at_bar(request, closes, end_ms)
            return await self._answer(item, call.caller, budget)
        except MarketcalError as error:
            self.skipped[error.reason or error.code] += 1
            return None

    async def ListModels(
        self, request: pb.ListModelsRequest, call: CallFacts
    ) -> pb.ListModelsResponse:
        """Models by name."""
        cards = self._router.models
        names = sorted(cards)
        start = _start(request.page_token, names)
        end = start + min(request.page_size or 50, 100)
        models = [self._shown(cards[name]) for name in names[start:end]]
        return pb.ListModelsResponse(
            models=models, next_page_token=names[end] if end < len(names) else ""
        )

    async def GetModel(self, request: pb.GetModelRequest, call: CallFacts) -> pb.GetModelResponse:
        """One model, and what it has done."""
        card = wire.find_model(self._router.models, request.name)
        return pb.GetModelResponse(
            model=self._shown(card),
            statistics=wire.encode_statistics(self._forecaster.statistics.of(card.name)),
        )

    def _shown(self, card: ModelCard) -> pb.Model:
        return wire.encode_model(card, self._router.default_model)

    async def _answer(
        self, request: pb.ForecastRequest, caller: str, budget: float
    ) -> pb.ForecastResponse:
        began = self._clock()
        question = wire.decode(request, self._router, caller)
        answer = await self._forecaster.forecast(question.ask, budget)
        self._issued(question, answer)
        return wire.encode(request, question, answer, self._clock() - began)

    async def _results(
        self, items: Iterable[pb.ForecastRequest], call: CallFacts
    ) -> list[pb.BatchForecastResult]:
        """One result per item; begun a few in one turn of the loop, for others wait for it too."""
        begun: list[asyncio.Task[pb.BatchForecastResult]] = []
        try:
            for item in items:
                begun.append(asyncio.create_task(self._result(item, call)))
                if len(begun) % A_FEW == 0:
                    await asyncio.sleep(0)
            return await asyncio.gather(*begun)
        finally:
            for task in begun:
                task.cancel()  # where the caller has gone away; one that has ended takes no harm

    async def _result(self, item: pb.ForecastRequest, call: CallFacts) -> pb.BatchForecastResult:
        try:
            broken = self._rules(item)
            if broken is not None:
                raise broken
            return pb.BatchForecastResult(
                forecast=await self._answer(item, call.caller, call.time_remaining())
            )
        except MarketcalError as error:
            return pb.BatchForecastResult(error=status.encode(error, call.request_id))


def _start(token: str, names: Sequence[str]) -> int:
    if not token:
        return 0
    if token not in names:
        raise InvalidPageToken.of("page_token", "was not made by this server for this list")
    return names.index(token)
