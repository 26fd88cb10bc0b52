"""Single flight: identical requests that come together share one call to the model.

The call is nobody's own: it goes on while anybody waits for it, whoever asked first, and ends when
nobody does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from forecast_service.batch import Bands
from forecast_service.policy.decision import FallbackReason, ModelFailed

ENOUGH = 0.5
"""A request joins a flight that has at least this share of the request's own time left."""


@dataclass(slots=True, eq=False)
class _Flight:
    """A call under way, until when it may take, and how many wait for it."""

    task: asyncio.Task[Bands]
    until: float
    waiting: int = 0


class Flights:
    """The calls under way by the digest of their input."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._under_way: dict[bytes, _Flight] = {}

    def __len__(self) -> int:
        return len(self._under_way)

    async def join(
        self, key: bytes, seconds: float, begin: Callable[[], Coroutine[Any, Any, Bands]]
    ) -> Bands:
        """The bands of the call under way for ``key``; begins one where there is none.

        Raises:
            ModelFailed: as the call does; with DEADLINE after ``seconds``.
        """
        flight = self._under_way.get(key)
        own = flight is None or flight.until - self._clock() < ENOUGH * seconds
        if flight is None or own:
            flight = self._begin(key, seconds, begin)
        flight.waiting += 1
        try:
            if own:  # the call ends by itself within the time of whoever began it
                return await asyncio.shield(flight.task)
            done, _ = await asyncio.wait((flight.task,), timeout=seconds)
        finally:
            flight.waiting -= 1
            if not flight.waiting and not flight.task.done():
                self._forget(key, flight)
                flight.task.cancel()
        if not done:
            raise ModelFailed(FallbackReason.DEADLINE)
        return flight.task.result()

    def _begin(
        self, key: bytes, seconds: float, begin: Callable[[], Coroutine[Any, Any, Bands]]
    ) -> _Flight:
        flight = _Flight(asyncio.create_task(begin()), self._clock() + seconds)
        self._under_way[key] = flight
        flight.task.add_done_callback(lambda _: self._forget(key, flight))
        return flight

    def _forget(self, key: bytes, flight: _Flight) -> None:
        if self._under_way.get(key) is flight:
            del self._under_way[key]
        if flight.task.done() and not flight.task.cancelled():
            flight.task.exception()  # seen: its callers may all have left
