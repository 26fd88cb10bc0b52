"""How many streams may be open, and what ends them: their time, the drain, a revoked credential."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

from gateway.call import Call
from marketcal.errors import CredentialRevoked, Draining, MarketcalError, Overloaded

RETRY_AFTER = 0.1
"""Seconds after which a stream may be opened elsewhere."""
HEALTH = "/grpc.health.v1."
"""Beginning of the methods whose streams tell of the drain, and so outlast its beginning."""
_ASIDE = 8
"""Streams that need no key have an eighth of the room of those that do, and it is their own."""


@dataclass(slots=True)
class _Room:
    """Streams of one kind."""

    limit: int
    per_caller: int
    callers: Counter[str] = field(default_factory=Counter)
    count: int = 0


@dataclass(slots=True)
class _Open:
    """A stream that something may end; ``why`` is what its caller hears."""

    call: Call
    ending: asyncio.Timeout
    why: MarketcalError | None = None

    def end(self, why: MarketcalError) -> None:
        """Ends it, unless its time is over already."""
        with suppress(RuntimeError):  # its handler tidies up
            self.ending.reschedule(asyncio.get_running_loop().time())
            self.why = why


class OpenStreams:
    """Counts open streams, in all and by caller, and ends those of the contract.

    Args:
        limit: streams of all callers that show who they are.
        per_caller: streams of one caller; a caller without a key is its network.
    """

    def __init__(self, limit: int, per_caller: int) -> None:
        self._of_callers = _Room(limit, per_caller)
        self._of_anybody = _Room(max(1, limit // _ASIDE), per_caller)
        self._open: dict[int, _Open] = {}
        self._draining = False

    @property
    def count(self) -> int:
        """Streams that are open."""
        return self._of_callers.count + self._of_anybody.count

    @contextmanager
    def hold(self, call: Call) -> Iterator[None]:
        """A place for the stream of ``call``.

        Raises:
            Overloaded: there are too many.
            Draining: this server is shutting down.
        """
        own = _is_a_gateways_own(call)
        anybody = call.method.scope is None and not own
        room = self._of_anybody if anybody else self._of_callers
        caller = call.caller or call.network
        if self._draining:
            raise _draining()
        if room.count >= room.limit:
            raise Overloaded("too many streams are open", retry_after=RETRY_AFTER)
        if room.callers[caller] >= room.per_caller and not own:
            raise Overloaded(
                f"this caller has {room.per_caller} streams open, the most it may",
                retry_after=RETRY_AFTER,
                metadata={"limit": "streams_per_caller", "maximum": str(room.per_caller)},
            )
        room.count += 1
        room.callers[caller] += 1
        try:
            yield
        finally:
            room.count -= 1
            room.callers[caller] -= 1
            if not room.callers[caller]:
                del room.callers[caller]

    @asynccontextmanager
    async def until(self, call: Call) -> AsyncIterator[None]:
        """Lets the body run while ``call`` has time, or until something ends it.

        Raises:
            TimeoutError: the time is over.
            Draining: this server is shutting down.
            CredentialRevoked: its caller may not go on.
        """
        stream: _Open | None = None
        try:
            async with asyncio.timeout(call.time_remaining()) as ending:
                stream = self._open[id(call)] = _Open(call, ending)
                try:
                    yield
                finally:
                    del self._open[id(call)]
        except TimeoutError:
            if stream is not None and stream.why is not None:
                raise stream.why from None
            raise

    def drain(self) -> None:
        """Ends the open streams and lets no new ones in: their callers resume elsewhere."""
        self._draining = True
        for stream in list(self._open.values()):
            if not stream.call.method.name.startswith(HEALTH):
                stream.end(_draining())

    def end_of(self, gone: Callable[[str], bool]) -> None:
        """Ends the streams of callers of whose names ``gone`` holds."""
        for stream in list(self._open.values()):
            if stream.call.identity is not None and gone(stream.call.caller):
                stream.end(CredentialRevoked("the credential of this stream has ended"))


def _is_a_gateways_own(call: Call) -> bool:
    """Whether a gateway in front watches health: all its workers do, under one name."""
    return call.method.scope is None and call.identity is not None and call.identity.unlimited


def _draining() -> Draining:
    return Draining("this server is shutting down", retry_after=RETRY_AFTER)
