"""Closed five-minute bars of the live path, told to the streams that watch their markets.

The stream worker is another process; it writes its bars into the control store. One reader per
process asks for what comes after the last sequence number, and marks the newest bar of each watched
market. A stream that is busy when two bars close hears of the later one alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from flows.live_history import CONTEXT_STEPS, History
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS
from marketcal.errors import NotReady

_LOG = logging.getLogger("gateway")
POLL_SECONDS = 0.1
PAGE = 1_000
RECENT_MS = 600_000
"""A stream begins with the newest bar of its market, if the newest of all is no later by more."""
RETRY_AFTER = 1.0
_T = TypeVar("_T")


@dataclass(slots=True, eq=False)
class _Watcher:
    """A stream: the end of the newest bar of its market, in milliseconds; 0 before any."""

    newest_ms: int = 0
    ready: asyncio.Event = field(default_factory=asyncio.Event)

    def mark(self, end_ms: int) -> None:
        """Takes note of a closed bar; one that was revised, or came late, is no news."""
        if end_ms > self.newest_ms:
            self.newest_ms = end_ms
            self.ready.set()


class LiveBars:
    """Tells of closed bars, and reads what lies before them.

    Args:
        engine: the control store, whose tables of the live path are there.
        poll_seconds: between two looks at the table.

    Attributes:
        watchers: streams that are told of bars now.
    """

    def __init__(self, engine: sa.Engine, *, poll_seconds: float = POLL_SECONDS) -> None:
        self._engine = engine
        self._poll_seconds = poll_seconds
        self._watchers: dict[str, set[_Watcher]] = {}
        self._position: int | None = None
        self.watchers = 0

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
                    _LOG.warning("the table of bars cannot be read: %s", type(error).__name__)
                full, away = False, True
            await asyncio.sleep(0 if full else self._poll_seconds)

    async def watch(self, market_id: str) -> AsyncGenerator[int]:
        """Ends of closed five-minute bars in UTC milliseconds, ascending; without end.

        The first one is there already where the newest bar of the market is at most ten minutes
        behind the newest of all markets.

        Raises:
            NotReady: the table has not been read yet, or cannot be read.
        """
        if self._position is None:
            raise _away()
        with self._joined(market_id) as watcher:
            watcher.mark(await self._read(lambda connection: _recent(connection, market_id)))
            while True:
                await watcher.ready.wait()
                watcher.ready.clear()
                yield watcher.newest_ms

    async def closes(self, market_id: str, end_ms: int) -> NDArray[np.float64]:
        """Closes of the up to 288 five-minute bars that end at ``end_ms`` or before, oldest first.

        They are those that the stream worker looks back on: a bar without a price has the one
        before it for at most an hour, then NaN; leading NaN are cut off.

        Raises:
            NotReady: the table cannot be read.
        """
        since = end_ms - CONTEXT_STEPS * FIVE_MS
        history = History()
        history.add(
            await self._read(
                lambda connection: live_store.read_bars(
                    connection, FIVE_MS, since_ms=since, market_id=market_id
                )
            )
        )
        return history.closes(market_id, end_ms)

    @contextmanager
    def _joined(self, market_id: str) -> Iterator[_Watcher]:
        watcher = _Watcher()
        beside = self._watchers.setdefault(market_id, set())
        beside.add(watcher)
        self.watchers += 1
        try:
            yield watcher
        finally:
            self.watchers -= 1
            beside.remove(watcher)
            if not beside:
                del self._watchers[market_id]

    async def _advance(self) -> bool:
        """Reads on and tells the watchers; True where there may be more at once."""
        position = self._position
        if position is None or not self._watchers:
            newest = await asyncio.to_thread(self._in_store, live_store.latest_bar_sequence)
            if position is None or not self._watchers:  # who has joined meanwhile misses no bar
                self._position = newest
                return False
        found = await asyncio.to_thread(
            self._in_store, lambda connection: live_store.bars_after(connection, position, PAGE)
        )
        for sequence, bar in found:
            self._position = sequence
            if bar.interval_ms == FIVE_MS:
                for watcher in self._watchers.get(bar.market_id, ()):
                    watcher.mark(bar.end_ms)
        return len(found) == PAGE

    async def _read(self, work: Callable[[sa.Connection], _T]) -> _T:
        try:
            return await asyncio.to_thread(self._in_store, work)
        except sa.exc.SQLAlchemyError:
            raise _away() from None

    def _in_store(self, work: Callable[[sa.Connection], _T]) -> _T:
        with self._engine.connect() as connection:
            return work(connection)


def _recent(connection: sa.Connection, market_id: str) -> int:
    """End of the newest bar of a market; 0 where it is long behind, or there is none."""
    table = live_store.LIVE_BAR
    newest = sa.select(sa.func.max(table.c.start_ms)).where(table.c.interval_ms == FIVE_MS)
    of_all = connection.execute(newest).scalar()
    own = connection.execute(newest.where(table.c.market_id == market_id)).scalar()
    if of_all is None or own is None or of_all - own > RECENT_MS:
        return 0
    return int(own) + FIVE_MS


def _away() -> NotReady:
    return NotReady("the live bars cannot be read now", retry_after=RETRY_AFTER)
