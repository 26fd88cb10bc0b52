"""The port: what carries events from those who hear them to those who work on them.

Every bus gives the same promises, and one contract suite holds each of them to it:

* **At least once.** What was published is delivered until it is acknowledged; a consumer that dies
  before that is followed by one that gets it again.
* **In order for each symbol.** Deliveries of one symbol come in the order of their publication;
  one that is being tried again holds back the later ones of its symbol, and no others.
* **In order for all, where it can.** A consumer that holds everything gets a backlog in the order
  in which all of it was published, within the process and from Redis; bars are closed by the time
  of all symbols, so one that runs ahead would make the others late. Kafka and Pub/Sub keep the
  order of a symbol alone: use one partition there, or reopen bars for as long as a backlog may be.
* **Bounded.** A bus that is full merges what may be merged, and then makes the publisher wait.
* **Poison goes aside.** What cannot be read, or fails too often, becomes a dead letter with its
  reason, and the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Envelope:
    """One event on its way.

    Attributes:
        event_id: the same for the same event, however often it is published.
        symbol: what order is kept by.
        kind: what the body is, for people and for dead letters.
        body: the event.
        coalesce: events of one symbol and key may be merged under pressure; "" for never.
    """

    event_id: str
    symbol: str
    kind: str
    body: Any
    coalesce: str = ""


@dataclass(frozen=True, slots=True)
class Delivery:
    """An envelope in the hands of a consumer.

    Attributes:
        envelope: what was published.
        attempt: 1 for the first time.
        token: what the bus knows it by.
    """

    envelope: Envelope
    attempt: int
    token: Any


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What could not be worked on.

    Attributes:
        event_id, symbol, kind: as published; "" where even that cannot be read.
        reason: why it was put aside.
        attempts: how often it was tried.
        body: what it was, as bytes.
    """

    event_id: str
    symbol: str
    kind: str
    reason: str
    attempts: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Lag:
    """How far the consumers of a group are behind.

    Attributes:
        waiting: published and not yet taken.
        unacknowledged: taken and not yet acknowledged.
        oldest_seconds: age of the oldest that waits; 0.0 where none does.
        coalesced: how many were merged into later ones so far.
        dead: how many were put aside so far.
    """

    waiting: int
    unacknowledged: int
    oldest_seconds: float
    coalesced: int
    dead: int


class BodyCodec(Protocol):
    """Bodies to bytes and back."""

    def encode(self, body: Any) -> bytes:
        """The body as bytes."""
        ...

    def decode(self, raw: bytes) -> Any:
        """The body again; raises ValueError where the bytes are none."""
        ...


Merge = Callable[[Any, Any], Any]
"""Makes one body of an older and a newer one."""


class Consumer(Protocol):
    """Takes what a group has to work on. One task at a time uses it."""

    async def take(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """The next deliveries, at most ``limit``; empty where none comes within the time.

        What was taken before and not acknowledged by a consumer that is gone comes first.
        """
        ...

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Says that what they brought is done and kept; they never come again."""
        ...

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Gives one back: it comes again, until its attempts are spent; then it is put aside."""
        ...

    async def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Makes a dead letter of one at once: trying again would not help."""
        ...

    async def close(self) -> None:
        """Leaves; what was taken and not acknowledged goes to others."""
        ...


class Bus(Protocol):
    """Carries envelopes."""

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Takes them over, in order; waits while there is no room.

        Raises:
            BusUnavailable: it does not answer; nothing or a beginning of them was taken over,
                so publish all of them again.
        """
        ...

    async def subscribe(self, group: str, consumer: str) -> Consumer:
        """A consumer of ``group``; each envelope goes to one consumer of each group."""
        ...

    async def lag(self, group: str) -> Lag:
        """How far ``group`` is behind."""
        ...

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What was put aside, newest first."""
        ...

    async def close(self) -> None:
        """Gives back what the bus holds."""
        ...
