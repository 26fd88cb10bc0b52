"""What a session asks the world to do; values, so that a test can compare them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Send:
    """Send a text frame."""

    text: str


@dataclass(frozen=True, slots=True)
class Disconnect:
    """Close the connection and open another one after the session's backoff.

    Attributes:
        reason: LIFE, NO_ACK, NO_PONG, SILENT, or what the caller gave up on it for.
    """

    reason: str


@dataclass(frozen=True, slots=True)
class Resync:
    """Read the instruments' books over REST: what the stream said of them may have holes.

    Attributes:
        reason: GAP, INTERVAL, NO_SNAPSHOT, CONNECTION_SILENT or INSTRUMENT_SILENT.
    """

    instruments: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Stale:
    """What is known of these instruments is old from now on; triggers wait.

    Attributes:
        reason: DISCONNECTED, CONNECTION_SILENT or INSTRUMENT_SILENT.
    """

    instruments: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True)
class Fresh:
    """The stream speaks of these instruments (again)."""

    instruments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Fail:
    """The venue does not serve these instruments; the others of the connection go on.

    Attributes:
        instruments: empty where the venue does not say what it refuses.
        reason: REJECTED (the venue refused them) or NO_EVENT (it never sent anything of them).
        detail: the sentence for people, with the names.
        is_all: whether it serves nothing at all on this connection.
    """

    instruments: tuple[str, ...]
    reason: str
    detail: str
    is_all: bool = False


Action = Send | Disconnect | Resync | Stale | Fresh | Fail
