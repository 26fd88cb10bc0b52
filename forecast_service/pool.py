"""The coalescing pool: many callers, few calls.

A call to a model costs about the same for one series as for sixty, so concurrent requests travel
together. The event loop admits requests one by one, so the first of a burst cannot know of the
others; the pool therefore expects as many series as have recently come together, and sends as soon
as they are there, or when `PATIENCE` has passed without a further one. Each `MEASURE_EVERY`-th
batch waits for as many as come, which is how the pool learns of them. A lone caller expects nobody
and waits for no timer but that one. While all slots are taken, series gather.

Series of one call are stacked by query and by length class. Series of the same query have the same
horizon: computing a longer one and cutting it would change what a model says of its own reach.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from dataclasses import dataclass
from typing import Protocol

from opentelemetry.trace import INVALID_SPAN, Span, Tracer, get_current_span

from forecast_service.batch import (
    Bands,
    Batch,
    BatchAnswer,
    InvalidAnswerError,
    Query,
    gather,
    scatter,
)
from forecast_service.models.errors import ModelRefused
from forecast_service.series import Series
from forecast_service.telemetry.spans import batch_span
from marketcal.errors import MarketcalError, Overloaded

RETRY_AFTER = 0.05
PATIENCE = 0.001
"""Seconds without a further series after which a batch leaves without those still expected."""
MEASURE_EVERY = 32
"""Each so many batches, one waits as long as further series come, to learn how many there are."""
A_FEW = 8
"""Series that are worked on in one turn of the event loop, among them those of other callers."""
MEMORY = 64
"""Batches whose sizes are remembered."""
MAX_NUMBERS = 800_000
"""Numbers in the answer to one batch, about 6 MB; a single series may hold a quarter of it."""
LENGTH_CLASSES = (64, 128, 288, 512, 1_024, 2_048, 4_096, 8_192)
"""Longest series of each length class; a series is never padded beyond that of its own."""


OF_THE_QUESTION = (InvalidAnswerError, ModelRefused, MarketcalError)
"""What a batch may fail by, among others that are answered, without its backend being at fault."""


class Backend(Protocol):
    """Something that answers batches.

    It raises ConnectionError when it cannot be reached, TimeoutError when it is out of time, and
    whatever else its runtime raises.
    """

    served_by: str
    """Which process answers, as callers see it."""

    async def answer(
        self, batches: Sequence[Batch], budget: float
    ) -> Sequence[BatchAnswer | Exception]:
        """One result per batch, the error of one that failed alone; raises when all fail at once.

        All of it within ``budget`` seconds.
        """
        ...


@dataclass(frozen=True, slots=True)
class Part:
    """What became of one batch of a call: ``failures`` of its ``series`` have no answer."""

    model: str
    series: int
    failures: int


@dataclass(frozen=True, slots=True)
class CallReport:
    """A call to a backend that has ended.

    Attributes:
        began: when, in seconds of the clock.
        seconds: how long it took.
        budget: how long it might have taken; infinite when nobody's time was bounded.
        error: why no series of it has an answer, or, where some have, why a whole batch has none
            by the backend's fault; None else.
        parts: its batches.
    """

    began: float
    seconds: float
    budget: float
    error: BaseException | None
    parts: tuple[Part, ...]


def _unwatched(call: CallReport) -> None:
    """Looks at no call."""


@dataclass(slots=True)
class _Waiting:
    """A series in the queue; ``expires_at`` is when nobody waits for it any more.

    ``asking`` is the span of whoever asks.
    """

    query: Query
    series: Series
    future: asyncio.Future[Bands]
    expires_at: float = math.inf
    timer: asyncio.TimerHandle | None = None
    failed: bool = False
    asking: Span = INVALID_SPAN

    @property
    def numbers(self) -> int:
        """How many numbers its answer will hold."""
        return self.query.horizon_steps * len(self.query.levels)


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
        watch: Callable[[CallReport], None] = _unwatched,
        tracer: Tracer | None = None,
    ) -> None:
        self._tracer = tracer
        self.backend = backend
        self._watch = watch
        self._clock = clock
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._free = parallel_batches
        self._waiting: deque[_Waiting] = deque()
        self._recent: deque[int] = deque([1], maxlen=MEMORY)
        self._held = False
        self._sent = 0
        self._running: set[asyncio.Task[None]] = set()

    @property
    def queued(self) -> int:
        """Series that wait for a call."""
        return len(self._waiting)

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
            self._waiting = deque(item for item in self._waiting if not item.future.done())
        if len(self._waiting) >= self._max_queue:
            raise Overloaded("the forecast queue is full", retry_after=RETRY_AFTER)
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Bands] = loop.create_future()
        item = _Waiting(query, series, future)
        if budget is not None:
            item.expires_at = self._clock() + budget
            item.timer = loop.call_later(max(budget, 0.0), _fail, item, TimeoutError())
        if self._tracer is not None:
            item.asking = get_current_span()
        self._waiting.append(item)
        if not self._held or len(self._waiting) >= self._expected():
            self._held = False
            self._gather()
        return future

    def _gather(self) -> None:
        """Sends, or waits for those that are expected."""
        if not self._free or self._held or not self._waiting:
            return
        if len(self._waiting) >= self._expected():
            self._send()
            return
        self._held = True
        loop = asyncio.get_running_loop()
        if self._expected() == 1:
            loop.call_soon(self._send)
        else:
            loop.call_later(PATIENCE, self._look, loop, len(self._waiting))

    def _look(self, loop: asyncio.AbstractEventLoop, seen: int) -> None:
        """Sends when nobody has come since the last look; looks again otherwise."""
        arrived = len(self._waiting)
        if self._held and seen < arrived < self._max_batch:
            loop.call_later(PATIENCE, self._look, loop, arrived)
        elif self._held:
            self._send()

    def _expected(self) -> int:
        """How many come together, as far as the last batches tell; now and then it is measured."""
        measuring = self._sent % MEASURE_EVERY == 0
        return self._max_batch if measuring else min(max(self._recent), self._max_batch)

    def _send(self) -> None:
        self._held = False
        while self._free and self._waiting:
            taken = self._take()
            if not taken:
                return
            self._free -= 1
            self._recent.append(len(taken))
            self._sent += 1
            # In no caller's context: its spans and log records are not those of a batch.
            task = asyncio.create_task(self._run(taken), context=Context())
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    def _take(self) -> list[_Waiting]:
        """The next batch: bounded in series and in the numbers that its answer will hold."""
        taken: list[_Waiting] = []
        numbers = 0
        while self._waiting and len(taken) < self._max_batch:
            item = self._waiting[0]
            if taken and numbers + item.numbers > MAX_NUMBERS:
                break
            self._waiting.popleft()
            if not item.future.done():
                taken.append(item)
                numbers += item.numbers
        return taken

    async def _run(self, taken: list[_Waiting]) -> None:
        groups: dict[tuple[Query, int], list[_Waiting]] = {}
        for item in taken:
            length = bisect_left(LENGTH_CLASSES, item.series.values.size)
            groups.setdefault((item.query, length), []).append(item)
        began, until = self._clock(), max(item.expires_at for item in taken)
        failed: BaseException | None = None
        fault: Exception | None = None
        try:
            batches = [
                gather(query, [item.series for item in items])
                for (query, _), items in groups.items()
            ]
            with self._span(taken, batches):
                answers = await self._ask(batches, until - began)
            for batch, given, items in zip(batches, answers, groups.values(), strict=True):
                error = _settle(items, batch, given, self.backend.served_by)
                failed = failed or error
                if isinstance(given, Exception) and not isinstance(given, OF_THE_QUESTION):
                    fault = fault or given
        except BaseException as error:  # each caller gets it; the pool itself goes on
            failed = _as_failure(error)
            for item in taken:
                _fail(item, failed)
            if not isinstance(failed, Exception):
                raise
        finally:
            self._report(groups, began, until - began, failed, fault)
            self._free += 1
            self._gather()

    def _span(self, taken: list[_Waiting], batches: list[Batch]) -> AbstractContextManager[None]:
        if self._tracer is None:
            return nullcontext()
        asking, models = [item.asking for item in taken], [one.query.model for one in batches]
        return batch_span(self._tracer, asking, self.backend.served_by, models)

    async def _ask(self, batches: list[Batch], budget: float) -> Sequence[BatchAnswer | Exception]:
        """The backend's answers; a call that nobody waits for any more gives its slot back."""
        async with asyncio.timeout(None if math.isinf(budget) else budget):
            answers = await self.backend.answer(batches, budget)
        if not isinstance(answers, list) or len(answers) != len(batches):
            raise InvalidAnswerError(f"no list of {len(batches)} answers")
        return answers

    def _report(
        self,
        groups: dict[tuple[Query, int], list[_Waiting]],
        began: float,
        budget: float,
        failed: BaseException | None,
        fault: Exception | None,
    ) -> None:
        parts = tuple(
            Part(query.model, len(items), sum(item.failed for item in items))
            for (query, _), items in groups.items()
        )
        answered = any(part.failures < part.series for part in parts)
        error = fault if answered else failed
        self._watch(CallReport(began, self._clock() - began, budget, error, parts))


def _as_failure(error: BaseException) -> BaseException:
    """A cancellation that nobody here asked for is a lost connection, not the caller's leaving."""
    task = asyncio.current_task()
    if isinstance(error, asyncio.CancelledError) and not (task and task.cancelling()):
        return ConnectionError("the backend cancelled the call")
    return error


def _settle(
    items: list[_Waiting], batch: Batch, given: BatchAnswer | Exception, served_by: str
) -> Exception | None:
    """Hands out one batch; returns what is wrong with it where a series gets no answer."""
    if isinstance(given, Exception):
        for item in items:
            _fail(item, given)
        return given
    try:
        bands = scatter(batch, given, served_by)
    except InvalidAnswerError as error:
        if len(items) == 1 or given.quantiles.shape[:1] != (len(items),):
            for item in items:
                _fail(item, error)
            return error
        for row, item in enumerate(items):
            _settle([item], *_row(batch, given, row), served_by)
        return error
    for item in items:
        if item.timer is not None:
            item.timer.cancel()
    _hand_out(deque(zip(items, bands, strict=True)))
    return None


def _hand_out(answered: deque[tuple[_Waiting, Bands]]) -> None:
    """Gives a few their bands, and the others theirs in the next turns of the loop.

    All at once would keep the loop from everybody else for as long as a whole batch takes.
    """
    for _ in range(min(A_FEW, len(answered))):
        item, band = answered.popleft()
        if not item.future.done():
            item.future.set_result(band)
    if answered:
        asyncio.get_running_loop().call_soon(_hand_out, answered)


def _row(batch: Batch, given: BatchAnswer, row: int) -> tuple[Batch, BatchAnswer]:
    """One series of a batch and its answer, as a batch of their own."""
    own = slice(row, row + 1)
    to_event = None if batch.steps_to_event is None else batch.steps_to_event[own]
    answer_of_row = BatchAnswer(
        given.quantiles[own],
        given.flags[own],
        given.adjusted[own],
        given.effective_horizon,
        given.source,
    )
    return Batch(batch.query, batch.values[own], to_event), answer_of_row


def _fail(item: _Waiting, error: BaseException) -> None:
    item.failed = True
    if item.timer is not None:
        item.timer.cancel()
    if not item.future.done():
        item.future.set_exception(error)
        item.future.exception()  # seen: it is no error of the loop when the caller has left
