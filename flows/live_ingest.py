"""From a venue's frames to the bus: read, said to be fresh or stale, and published."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from market_data.bus.port import Bus, Envelope
from market_data.errors import BusUnavailable, RecordRejected, VenueError
from market_data.streaming.actions import Action, Fail, Fresh, Resync, Stale
from market_data.streaming.connection import Clock
from market_data.streaming.events import (
    Event,
    Feed,
    Quote,
    Unreadable,
    coalesce_key,
    event_id,
    kind_of,
)
from market_data.streaming.rejected import Rejected
from market_data.streaming.session import Session

_LOG = logging.getLogger("flows.live")
RETRY_SECONDS = 0.5
_RAW_BYTES = 65_536


class Parser(Protocol):
    """Reads the frames of one venue.

    Attributes:
        rejected: messages that could not be read, until somebody takes them away.
        counts: messages by kind.
    """

    rejected: list[Rejected]
    counts: Counter[str]

    def parse(self, frame: bytes, recv_ms: int) -> list[Event]:
        """The events of a frame."""
        ...


Books = Callable[[str], Awaitable[bytes]]
"""Asks the venue for the book of a token, as a message of the stream would bring it."""


def enveloped(events: Iterable[Event]) -> list[Envelope]:
    """Events as the bus carries them."""
    return [
        Envelope(event_id(one), one.market_id, kind_of(one), one, coalesce_key(one))
        for one in events
    ]


def feed(venue: str, markets: Iterable[str], reason: str, at_ms: int) -> Feed:
    """Says of markets why they are stale; "" where they are fresh again."""
    named = tuple(sorted(markets))
    key = f"{reason}/{len(named)}/{named[0] if named else ''}"
    return Feed(f"{venue}:*", at_ms, key, at_ms, named, reason)


class Publisher:
    """Publishes, and waits where the bus does not answer: meanwhile nothing is read."""

    def __init__(self, bus: Bus, stop: asyncio.Event) -> None:
        self._bus = bus
        self._stop = stop
        self.failures = 0

    async def publish(self, events: Sequence[Event]) -> None:
        """Publishes all of them; what was published of a part that failed is published again."""
        envelopes = enveloped(events)
        while envelopes and not self._stop.is_set():
            try:
                return await self._bus.publish(envelopes)
            except BusUnavailable as error:
                self.failures += 1
                _LOG.warning("the bus does not answer; trying again: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
        return None


class Ingest:
    """What stands around one connection of one venue.

    Args:
        venue: "polymarket" or "binance".
        session: of the connection.
        parser: of its frames.
        publisher: takes events.
        clock: the process's clocks.
        market_of: market of each instrument whose state is that of the market.
        books: reads books anew; None where the venue has none to read.

    Attributes:
        failed: instruments that the venue did not serve, by reason.
    """

    def __init__(
        self,
        venue: str,
        session: Session,
        parser: Parser,
        publisher: Publisher,
        clock: Clock,
        *,
        market_of: Mapping[str, str],
        books: Books | None = None,
    ) -> None:
        self.venue = venue
        self.session = session
        self._parser = parser
        self._publisher = publisher
        self._clock = clock
        self._market_of = market_of
        self._books = books
        self.failed: Counter[str] = Counter()
        self._said: dict[str, Quote] = {}
        self._heard: dict[str, tuple[int, bool]] = {}
        self._resyncs: dict[str, asyncio.Task[None]] = {}
        if hasattr(parser, "heard"):  # its frames do not begin with what they are about
            parser.heard = self._heard

    async def on_frame(self, frame: bytes, recv_ms: int) -> None:
        """Reads a frame and publishes what it says; it returns when the bus has taken it.

        Raises:
            RecordRejected: the frame cannot be read as a whole, so there is a hole in the stream.
        """
        events = self._read(frame, recv_ms)
        if self._books is not None:
            self._said.update((one.market_id, one) for one in events if type(one) is Quote)
        await self._pass_on(events, recv_ms)

    def _read(self, frame: bytes, recv_ms: int) -> list[Event]:
        """The events of a frame; the session is told of what they are about."""
        events = self._parser.parse(frame, recv_ms)
        if self._heard:
            now = self._clock.monotonic()
            for instrument, (venue_ms, is_book) in self._heard.items():
                self.session.noted(instrument, venue_ms, now, is_snapshot=is_book)
            self._heard.clear()
        return events

    async def _pass_on(self, events: list[Event], recv_ms: int) -> None:
        """Publishes events, and what could not be read with them."""
        unread = self._parser.rejected[:]
        self._parser.rejected.clear()
        events += self._unreadable(unread, recv_ms)
        if events:
            await self._publisher.publish(events)
        for one in unread:
            if one.reason == "NOT_JSON":
                raise RecordRejected("FRAME_UNREADABLE", one.detail)

    def _unreadable(self, unread: Sequence[Rejected], recv_ms: int) -> list[Event]:
        return [
            Unreadable(
                f"{self.venue}:unreadable", recv_ms, f"{recv_ms}/{place}", recv_ms, one.reason,
                one.detail[:400], one.raw[:_RAW_BYTES],
            )
            for place, one in enumerate(unread)
        ]  # fmt: skip

    async def on_action(self, action: Action) -> None:
        """Tells the bus what is stale and what is fresh again, and reads books anew."""
        if isinstance(action, Stale):
            await self._tell(action.instruments, action.reason)
        elif isinstance(action, Fresh):
            await self._tell(action.instruments, "")
        elif isinstance(action, Fail):
            _LOG.error("%s goes on without some of it: %s", self.venue, action.detail)
            self.failed[action.reason] += len(action.instruments)
            await self._tell(action.instruments, action.reason)
        elif isinstance(action, Resync) and self._books is not None:
            _LOG.info("reading %d books anew: %s", len(action.instruments), action.reason)
            for instrument in action.instruments:
                if instrument not in self._resyncs:
                    task = asyncio.create_task(self._resync(instrument))
                    self._resyncs[instrument] = task

    async def _tell(self, instruments: Iterable[str], reason: str) -> None:
        markets = {self._market_of[one] for one in instruments if one in self._market_of}
        if markets:
            await self._publisher.publish(
                [feed(self.venue, markets, reason, self._clock.wall_ms())]
            )

    def forget(self, markets: Iterable[str]) -> None:
        """These markets are followed no more."""
        for market_id in markets:
            self._said.pop(market_id, None)

    async def _resync(self, instrument: str) -> None:
        """Reads one book over REST, and holds it against what the stream said last."""
        assert self._books is not None
        try:
            frame, recv_ms = await self._books(instrument), self._clock.wall_ms()
            events = self._read(frame, recv_ms)
            self._compare(instrument, events)
            await self._pass_on(events, recv_ms)
        except (VenueError, RecordRejected) as error:
            _LOG.warning("the book of %s cannot be read: %s", instrument, error)
        finally:
            self._resyncs.pop(instrument, None)

    def _compare(self, instrument: str, events: Sequence[Event]) -> None:
        said = self._said.get(self._market_of.get(instrument, ""))
        if said is None:
            return
        for one in events:
            if not isinstance(one, Quote) or one.market_id != said.market_id:
                continue
            if _same(one.bid, said.bid) and _same(one.ask, said.ask):
                self.session.confirmed(instrument, self._clock.monotonic())
            else:
                self.session.contradicted()

    async def close(self) -> None:
        """Gives up what is under way."""
        tasks = list(self._resyncs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _same(one: float, other: float) -> bool:
    """Whether two prices are the same, or both are none."""
    return one == other or (one != one and other != other)


def as_book_message(answer: Any) -> bytes:
    """The answer of ``/book`` as a ``book`` message of the stream."""
    return orjson.dumps(dict(answer) | {"event_type": "book"})
