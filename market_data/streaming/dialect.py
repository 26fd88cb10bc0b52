"""What a venue's stream has of its own: how it is asked, and what its control frames mean."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from market_data.streaming.backoff import BackoffPolicy


class Kind(enum.Enum):
    """What a frame is to the session."""

    DATA = "data"
    PONG = "pong"
    ACK = "ack"


@dataclass(frozen=True, slots=True)
class Reading:
    """A frame as the session needs to know it.

    Attributes:
        instrument: the one that a data frame is about, "" where only the parser can say.
        request_id: the request that an acknowledgement answers, 0 where it names none.
        error: why the venue refused that request, "" where it did not.
    """

    kind: Kind
    instrument: str = ""
    request_id: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """A subscription message.

    Attributes:
        text: the frame to send.
        instruments: what it is about.
        request_id: the acknowledgement to wait for, 0 where the venue sends none.
    """

    text: str
    instruments: tuple[str, ...]
    request_id: int = 0


class Dialect(Protocol):
    """The protocol of one venue's channel. Pure: no state, no clock; ``read`` never raises."""

    @property
    def ping(self) -> str:
        """The text heartbeat, "" where the venue has none."""

    @property
    def awaits_snapshot(self) -> bool:
        """Whether a subscription is answered with a snapshot; else any event answers it."""

    def subscribe(
        self, instruments: Sequence[str], *, is_first: bool, next_id: int
    ) -> list[Request]:
        """Messages that add instruments; ``is_first`` on a connection that has none yet."""

    def unsubscribe(self, instruments: Sequence[str], *, next_id: int) -> list[Request]:
        """Messages that drop instruments."""

    def must_speak(self, instrument: str) -> bool:
        """Whether an instrument is broken that says nothing while others of its connection do."""

    def read(self, frame: bytes) -> Reading:
        """What a frame is; anything that is no control frame is data."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The bounds of a session; seconds unless the name says otherwise, 0 switches a watch off.

    Attributes:
        ping_every: between text heartbeats, at least.
        pong_within: a heartbeat unanswered for this long ends the connection.
        ack_within: a subscription unacknowledged for this long ends the connection.
        answer_within: the first snapshot (or event) of an instrument must come by then.
        stale_after: a connection without a data frame for this long is stale, whatever its PONGs.
        dead_after: and after this long it is given up; after twice as long each time, up to
            ``quiet_for``, where the connections before it brought snapshots and nothing else.
        quiet_for: a silence in which REST says what the stream said last may last this long.
        instrument_stale_after: an instrument that nothing was said of for this long is read over
            REST; quiet markets are common, so this one is long.
        resync_every: all instruments are read over REST once in this time.
        gap_ms: a jump of the venue's clock between two frames that counts as a hole.
        life: a connection is replaced after this long.
        max_instruments: on one connection.
    """

    ping_every: float = 10.0
    pong_within: float = 8.0
    ack_within: float = 10.0
    answer_within: float = 15.0
    stale_after: float = 30.0
    dead_after: float = 60.0
    quiet_for: float = 600.0
    instrument_stale_after: float = 900.0
    resync_every: float = 600.0
    gap_ms: int = 60_000
    life: float = 0.0
    max_instruments: int = 500
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)


def shards(instruments: Iterable[str], size: int) -> tuple[tuple[str, ...], ...]:
    """Groups of at most ``size`` instruments, each one once, in the order given.

    >>> shards(["a", "b", "a", "c"], 2)
    (('a', 'b'), ('c',))

    Raises:
        ValueError: size < 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    distinct = iter(dict.fromkeys(instruments))
    return tuple(iter(lambda: tuple(itertools.islice(distinct, size)), ()))
