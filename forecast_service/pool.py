"""The coalescing pool: many callers, few calls.

A call to a model costs about the same for one series as for sixty, so concurrent requests travel
together. The event loop admits requests one by one, so the first of a burst cannot know of the
others; the pool therefore expects as many series as have recently come together, and sends as soon
as they are there, or when `PATIENCE` has passed without a further one. A lone caller expects nobody
and is held back by a few empty turns of the loop alone. While all slots are taken, series gather.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from forecast_service.batch import Bands, Batch, BatchAnswer, Query, answer, gather, scatter
from forecast_service.series import Series
from marketcal.errors import Overloaded

RETRY_AFTER = 0.05
PATIENCE = 0.0005
"""Seconds without a further series after which a batch leaves without those still expected."""
LONE_TURNS = 4
"""Empty turns of the loop after which a series that expects nobody leaves."""
MEMORY = 64
"""Batches whose sizes are remembered."""


class Backend(Protocol):
    """Something that answers batches."""

    served_by: str
    """Which process answers, as callers see it."""

    async def answer(self, batches: Sequence[Batch]) -> list[BatchAnswer]:
        """One answer per batch; raises when it cannot."""
        ...


class InProcess:
    """The baselines in the caller's own process."""

    served_by = "in-process"

    async def answer(self, batches: Sequence[Batch]) -> list[BatchAnswer]:
        """Computes on the event loop when that is short, else in a thread."""
        if sum(batch.values.size for batch in batches) <= _INLINE_VALUES:
            return [answer(batch) for batch in batches]
        return await asyncio.to_thread(lambda: [answer(batch) for batch in batches])


_INLINE_VALUES = 64 * 288
"""Values up to which a hand-over to a thread costs more than it frees."""


class _Waiting:
    __slots__ = ("future", "query", "series")

    def __init__(self, query: Query, series: Series, future: asyncio.Future[Bands]) -> None:
        self.query = query
        self.series = series
        self.future = future


class Pool:
    """Coalesces series for one backend.

    Attributes:
        backend: who answers.
    """

    def __init__(
        self,
        backend: Backend,
        clock: Callable[[], float],
        *,
        max_batch: int,
        max_queue: int,
        parallel_batches: int,
    ) -> None:
        self.backend = backend
        self._clock = clock
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._free = parallel_batches
        self._waiting: deque[_Waiting] = deque()
        self._recent: deque[int] = deque([1], maxlen=MEMORY)
        self._scheduled = False
        self._running: set[asyncio.Task[None]] = set()

    def submit(
        self, query: Query, series: Series, budget: float | None = None
    ) -> asyncio.Future[Bands]:
        """Queues one series; a cancelled future leaves its batch before it is sent.

        Args:
            query: what is asked.
            series: of which series.
            budget: seconds after which the future ends with TimeoutError; None for never.

        Returns:
            A future of the bands; it may end with whatever the backend raised for the batch.

        Raises:
            Overloaded: the queue is full.
        """
        if len(self._waiting) >= self._max_queue:
            raise Overloaded("the forecast queue is full", retry_after=RETRY_AFTER)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Bands] = loop.create_future()
        if budget is not None:
            timer = loop.call_later(max(budget, 0.0), _expire, future)
            future.add_done_callback(lambda _: timer.cancel())
        self._waiting.append(_Waiting(query, series, future))
        if self._free and not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._gather, loop, len(self._waiting), self._clock(), 0)
        return future

    def _gather(self, loop: asyncio.AbstractEventLoop, seen: int, since: float, turns: int) -> None:
        """Sends when those that are expected have come, or nobody has come for a while."""
        arrived = len(self._waiting)
        now = self._clock()
        if arrived > seen:
            since, turns = now, 0
        expected = max(self._recent)
        alone = expected == 1 and turns >= LONE_TURNS
        if not (
            alone or now - since > PATIENCE or arrived >= min(max(expected, 2), self._max_batch)
        ):
            loop.call_soon(self._gather, loop, arrived, since, turns + 1)
            return
        self._scheduled = False
        self._send()

    def _send(self) -> None:
        while self._free and self._waiting:
            taken = self._take()
            if not taken:
                return
            self._free -= 1
            self._recent.append(len(taken))
            task = asyncio.create_task(self._run(taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> list[_Waiting]:
        taken: list[_Waiting] = []
        while self._waiting and len(taken) < self._max_batch:
            item = self._waiting.popleft()
            if not item.future.done():
                taken.append(item)
        return taken

    async def _run(self, taken: list[_Waiting]) -> None:
        groups: dict[Query, list[_Waiting]] = {}
        for item in taken:
            groups.setdefault(item.query, []).append(item)
        try:
            batches = [
                gather(query, [item.series for item in items]) for query, items in groups.items()
            ]
            answers = await self.backend.answer(batches)
            for batch, given, items in zip(batches, answers, groups.values(), strict=True):
                bands = scatter(batch, given, self.backend.served_by)
                for item, band in zip(items, bands, strict=True):
                    if not item.future.done():
                        item.future.set_result(band)
        except BaseException as error:  # each caller gets it; the pool itself goes on
            for item in taken:
                if not item.future.done():
                    item.future.set_exception(error)
            if not isinstance(error, Exception):
                raise
        finally:
            self._free += 1
            self._send()


def _expire(future: asyncio.Future[Bands]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())
