"""Ends what runs too long, with one timer for many calls.

A timer of its own for every call costs more than all rules together. Here the calls that end within
the same tenth of a second share one, so that a call is ended at most that much late; callers who
wait for less have their own clocks, and the transport ends their calls on time.
"""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

RESOLUTION_SECONDS = 0.1


class Deadlines:
    """The calls under way on one event loop, by when they must end."""

    def __init__(self) -> None:
        self._ticks: dict[int, set[Within]] = {}

    def within(self, seconds: float) -> Within:
        """Lets the body of an ``async with`` run for ``seconds``; TimeoutError after that."""
        return Within(self, seconds)

    def add(self, body: Within, seconds: float) -> set[Within]:
        """Watches ``body``; returns the set to take it out of when it has ended."""
        loop = asyncio.get_running_loop()
        tick = math.ceil((loop.time() + seconds) / RESOLUTION_SECONDS)
        bodies = self._ticks.get(tick)
        if bodies is None:
            bodies = self._ticks[tick] = set()
            loop.call_at(tick * RESOLUTION_SECONDS, self._end, tick)
        bodies.add(body)
        return bodies

    def _end(self, tick: int) -> None:
        for body in self._ticks.pop(tick):
            body.end()


class Within:
    """A body that may run for some time; see `Deadlines.within`."""

    __slots__ = ("_among", "_deadlines", "_ended", "_seconds", "_task")

    def __init__(self, deadlines: Deadlines, seconds: float) -> None:
        self._deadlines = deadlines
        self._seconds = seconds
        self._ended = False

    def end(self) -> None:
        """Interrupts the body: its time is over."""
        self._ended = True
        self._task.cancel()

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._task: asyncio.Task[object] = task
        self._among = self._deadlines.add(self, self._seconds)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._among.discard(self)
        if not self._ended:
            return
        left = self._task.uncancel()
        if kind is asyncio.CancelledError and left == 0:  # else somebody else cancelled it too
            raise TimeoutError from error
