"""One reader of the alert table per process, and as many watchers as there are streams.

The feed asks for what comes after the last sequence, every 50 ms; that is how long an alert may
take to be seen, on SQLite and on PostgreSQL alike. A watcher that joins reads the table up to where
the feed is, and from then on has a bounded queue. When that overflows, its oldest alerts go and are
counted; no other watcher notices. A burst that is larger than a queue comes in parts, between which
those that keep up are given a moment to read.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import sqlalchemy as sa

from calibration_service.alerts import store
from calibration_service.alerts.errors import FeedNotReady, UnknownPlace
from calibration_service.alerts.store import StoredAlert
from calibration_service.alerts.values import Severity

_LOG = logging.getLogger("calibration_service.alerts")
POLL_SECONDS = 0.05
QUEUE = 256
PAGE = 500
BOOKMARK_SECONDS = 30.0
MOMENT_SECONDS = 0.1
"""Longest pause between two parts of a burst."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which alerts a watcher is sent.

    Attributes:
        min_severity: this one or a higher one.
        market_ids: of these markets; empty for all.
    """

    min_severity: Severity = Severity.MED
    market_ids: frozenset[str] = frozenset()

    def takes(self, stored: StoredAlert) -> bool:
        """Whether an alert is among them."""
        alert = stored.alert
        return alert.severity >= self.min_severity and (
            not self.market_ids or alert.market_id in self.market_ids
        )


@dataclass(frozen=True, slots=True, eq=False)
class Message:
    """What a watcher is told; all watchers of an alert are told the same object.

    Attributes:
        sequence: up to where it has heard of everything after this message.
        stored: an alert; None for a bookmark or a gap.
        missed: alerts that were passed over since it was too slow.
    """

    sequence: int
    stored: StoredAlert | None = None
    missed: int = 0


@dataclass(slots=True, eq=False)
class _Queue:
    wanted: Wanted
    position: int
    limit: int
    waiting: deque[Message] = field(default_factory=deque)
    missed: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(default_factory=asyncio.Event)

    def put(self, stored: StoredAlert, message: Message) -> bool:
        """Adds an alert that is wanted; False where an older one had to go."""
        if stored.sequence <= self.position or not self.wanted.takes(stored):
            return True
        self.waiting.append(message)
        self.ready.set()
        self.drained.clear()
        if len(self.waiting) <= self.limit:
            return True
        self.position = self.waiting.popleft().sequence
        self.missed += 1
        return False


class AlertFeed:
    """Tells watchers of alerts as they are committed, in that order.

    Args:
        engine: the control store.
        poll_seconds: between two looks at the table.
        queue: alerts that wait for one watcher at most.
        bookmark_seconds: after which a watcher that heard nothing is told where it is.
    """

    def __init__(
        self,
        engine: sa.Engine,
        *,
        poll_seconds: float = POLL_SECONDS,
        queue: int = QUEUE,
        bookmark_seconds: float = BOOKMARK_SECONDS,
    ) -> None:
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._limit = queue
        self._bookmark_seconds = bookmark_seconds
        self._queues: set[_Queue] = set()
        self._position: int | None = None
        self.missed = 0

    @property
    def watchers(self) -> int:
        """Watchers that hear of alerts now."""
        return len(self._queues)

    async def run(self) -> None:
        """Reads the table until cancelled.

        While the store is away it asks again and again, and says so once in the log.
        """
        away = False
        while True:
            try:
                full = await self._advance()
                away = False
            except sa.exc.SQLAlchemyError as error:
                if not away:
                    _LOG.warning("the alert table cannot be read: %s", type(error).__name__)
                full, away = False, True
            await asyncio.sleep(0 if full else self._poll_seconds)

    async def watch(self, wanted: Wanted, resume_after: int | None) -> AsyncGenerator[Message]:
        """Where the watcher is, then alerts in order; without end.

        Args:
            wanted: what it is sent.
            resume_after: sequence of the last message that it has seen; None begins now.

        Raises:
            FeedNotReady: the table has not been read yet.
            UnknownPlace: the store has no such sequence yet, so the place is of another store.
        """
        position = await self._start(resume_after)
        yield Message(position)
        while position < (end := self._position or 0):
            found = await asyncio.to_thread(self._after, position, PAGE)
            for stored in found:
                position = stored.sequence
                if wanted.takes(stored):
                    yield Message(position, stored)
            if len(found) < PAGE:  # whatever is committed up to ``end`` was there to be read
                position = max(position, end)
        with self._joined(wanted, position) as queue:
            while True:
                message = await self._next(queue)
                if message is not None:
                    yield message

    async def _start(self, resume_after: int | None) -> int:
        if self._position is None:
            raise FeedNotReady
        if resume_after is None:
            return self._position
        if resume_after > self._position:
            newest = await asyncio.to_thread(self._latest)
            if resume_after > newest:
                raise UnknownPlace
        return resume_after

    @contextmanager
    def _joined(self, wanted: Wanted, position: int) -> Iterator[_Queue]:
        queue = _Queue(wanted, position, self._limit)
        self._queues.add(queue)
        try:
            yield queue
        finally:
            self._queues.discard(queue)
            queue.drained.set()

    async def _next(self, queue: _Queue) -> Message | None:
        """What waits for a watcher; a bookmark where nothing came for a while."""
        if not queue.waiting:
            queue.ready.clear()
            try:
                async with asyncio.timeout(self._bookmark_seconds):
                    await queue.ready.wait()
            except TimeoutError:
                if queue.waiting:
                    return None
                queue.position = max(queue.position, self._position or 0)
                return Message(queue.position)
        if queue.missed:
            missed, queue.missed = queue.missed, 0
            return Message(queue.position, missed=missed)
        message = queue.waiting.popleft()
        queue.position = message.sequence
        if not queue.waiting:
            queue.drained.set()
        return message

    async def _advance(self) -> bool:
        """Reads on and tells the watchers; True where there may be more at once."""
        if self._position is None:
            self._position = await asyncio.to_thread(self._latest)
            return False
        found = await asyncio.to_thread(self._after, self._position, PAGE)
        part = max(1, self._limit // 2)
        for start in range(0, len(found), part):
            prompt = [queue for queue in self._queues if not queue.waiting]
            for stored in found[start : start + part]:
                self._position = stored.sequence
                message = Message(stored.sequence, stored)
                for queue in self._queues:
                    self.missed += not queue.put(stored, message)
            if len(found) > part:
                await _let_read(prompt)
        return len(found) == PAGE

    def _latest(self) -> int:
        with self._engine.connect() as connection:
            return store.latest_sequence(connection)

    def _after(self, sequence: int, limit: int) -> list[StoredAlert]:
        with self._engine.connect() as connection:
            return store.after(connection, sequence, limit=limit)


async def _let_read(queues: list[_Queue]) -> None:
    """Waits until those queues are read, and not for long."""
    with suppress(TimeoutError):
        async with asyncio.timeout(MOMENT_SECONDS):
            for queue in queues:
                if queue.waiting:
                    await queue.drained.wait()
