"""How many calls may be under way at once, and how many streams open; above it: come back later."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from gateway.call import Call
from marketcal.errors import Draining, Overloaded

RETRY_AFTER = 0.1


class InFlight:
    """Counts unary calls in flight and refuses above the limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0

    @property
    def count(self) -> int:
        """Calls in flight."""
        return self._count

    def __enter__(self) -> None:
        if self._count >= self._limit:
            raise Overloaded("too many calls in flight", retry_after=RETRY_AFTER)
        self._count += 1

    def __exit__(self, *_ending: object) -> None:
        self._count -= 1


class OpenStreams:
    """Counts open streams, in all and by caller, and ends those of the contract at the drain.

    Args:
        limit: streams of all callers.
        per_caller: streams of one caller; a caller without a key is its address.
    """

    def __init__(self, limit: int, per_caller: int) -> None:
        self._limit = limit
        self._per_caller = per_caller
        self._callers: Counter[str] = Counter()
        self._count = 0
        self._endings: set[asyncio.Timeout] = set()
        self._draining = False

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._count

    @contextmanager
    def hold(self, call: Call) -> Iterator[None]:
        """A place for the stream of ``call``.

        Raises:
            Overloaded: there are too many.
            Draining: this server is shutting down.
        """
        caller = call.caller or call.address
        if self._draining:
            raise Draining("this server is shutting down", retry_after=RETRY_AFTER)
        if self._count >= self._limit:
            raise Overloaded("too many streams are open", retry_after=RETRY_AFTER)
        if self._callers[caller] >= self._per_caller:
            raise Overloaded(
                f"this caller has {self._per_caller} streams open, the most it may",
                retry_after=RETRY_AFTER,
                metadata={"limit": "streams_per_caller", "maximum": str(self._per_caller)},
            )
        self._count += 1
        self._callers[caller] += 1
        try:
            yield
        finally:
            self._count -= 1
            self._callers[caller] -= 1
            if not self._callers[caller]:
                del self._callers[caller]

    @asynccontextmanager
    async def until(self, call: Call) -> AsyncIterator[None]:
        """Lets the body run while ``call`` has time, or until the drain.

        Health streams go on: they tell of the drain and end by themselves.

        Raises:
            TimeoutError: the time is over.
            Draining: this server is shutting down.
        """
        try:
            async with asyncio.timeout(call.time_remaining()) as ending:
                if call.method.scope is not None:
                    self._endings.add(ending)
                try:
                    yield
                finally:
                    self._endings.discard(ending)
        except TimeoutError:
            if self._draining:
                raise Draining("this server is shutting down", retry_after=RETRY_AFTER) from None
            raise

    def drain(self) -> None:
        """Ends the open streams and lets no new ones in: their callers resume elsewhere."""
        self._draining = True
        now = asyncio.get_running_loop().time()
        for ending in self._endings:
            ending.reschedule(now)
