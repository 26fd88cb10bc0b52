"""Deterministic trouble for replayed streams.

Whether a frame is harmed depends on the seed and the frame's number in the capture, never on
timing. Each kind harms one frame once, so what is sent again after a reconnection is whole::

    latency      everything waits ``latency_ms`` before the frame
    freeze       no frame for ``freeze_ms``, while heartbeats go on
    disconnect   the connections break before the frame, without a goodbye
    duplicate    the frame comes twice
    truncate     half of the frame: text that is no JSON
    unknown      a message of an unknown type comes before the frame
    reorder      the frame comes after later ones: at most ``reorder_frames`` of them, none of which
                 was received more than ``reorder_ms`` after it
    array        the frame and the next ones, ``array_frames`` in all, come in one array
                 (Polymarket alone)
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, fields

from market_data.replay.stream_capture import Record

KINDS = (
    "latency", "freeze", "disconnect", "duplicate", "truncate", "unknown", "reorder", "array",
)  # fmt: skip
_WHOLE = {"reorder_frames", "reorder_ms", "array_frames", "seed"}


@dataclass(frozen=True, slots=True)
class StreamFaultPlan:
    """Probabilities in [0, 1] of each fault per frame, and their bounds.

    >>> StreamFaultPlan.parse("disconnect=0.001,duplicate=0.1,seed=5").duplicate
    0.1
    """

    latency: float = 0.0
    freeze: float = 0.0
    disconnect: float = 0.0
    duplicate: float = 0.0
    truncate: float = 0.0
    unknown: float = 0.0
    reorder: float = 0.0
    array: float = 0.0
    latency_ms: float = 20.0
    freeze_ms: float = 2_000.0
    reorder_frames: int = 8
    reorder_ms: int = 500
    array_frames: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        for name in KINDS:
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")

    @classmethod
    def parse(cls, text: str) -> StreamFaultPlan:
        """Read ``kind=rate,…``; raises ValueError naming an unknown or malformed part."""
        known = {f.name for f in fields(cls)}
        values: dict[str, float] = {}
        for part in filter(None, (p.strip() for p in text.split(","))):
            name, _, value = part.partition("=")
            if name not in known:
                raise ValueError(f"unknown fault {name!r}; known: {', '.join(sorted(known))}")
            try:
                values[name] = int(value) if name in _WHOLE else float(value)
            except ValueError:
                raise ValueError(f"{name} is not a number: {value!r}") from None
        return cls(**values)  # type: ignore[arg-type]

    def draws(self, kind: str, number: int) -> bool:
        """Whether frame ``number`` suffers ``kind``."""
        rate = float(getattr(self, kind))
        if rate <= 0:
            return False
        text = f"{self.seed}|{kind}|{number}".encode()
        drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
        return drawn / 2.0**64 < rate


@dataclass(frozen=True, slots=True)
class Wait:
    """Send nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Break:
    """Break all connections of a channel; frames that are not sent yet are sent to the next."""

    channel: str


@dataclass(frozen=True, slots=True)
class Deliver:
    """Send frames to whoever subscribed to them.

    Attributes:
        records: in the order to send; more than one go as one array.
        is_truncated: half of the text is sent.
        is_unknown: a message of an unknown type is sent in their place.
    """

    records: tuple[Record, ...]
    is_truncated: bool = False
    is_unknown: bool = False


Step = Wait | Break | Deliver


@dataclass(slots=True)
class _Held:
    """A frame that waits for later ones to pass."""

    record: Record
    passed: int = 0


class StreamFaults:
    """Turns the records of a capture into what is sent.

    Attributes:
        injected: how many faults of each kind were injected.
    """

    def __init__(self, plan: StreamFaultPlan) -> None:
        self.injected: Counter[str] = Counter()
        self._plan = plan
        self._done: set[tuple[str, int]] = set()
        self._held: list[_Held] = []
        self._grouped: list[Record] = []
        self._is_harmless = not any(getattr(plan, kind) for kind in KINDS)

    @property
    def reach(self) -> int:
        """How many records may be kept back at once; a rewinding replay must go back further."""
        return 4 * self._plan.reorder_frames + self._plan.array_frames

    def push(self, number: int, record: Record) -> list[Step]:
        """What happens when frame ``number`` of the capture comes."""
        if self._is_harmless or record.channel == "gamma":
            return [Deliver((record,))]
        steps: list[Step] = self._released(record)
        if self._suffers("latency", number):
            steps.append(Wait(self._plan.latency_ms / 1e3))
        if self._suffers("freeze", number):
            steps.append(Wait(self._plan.freeze_ms / 1e3))
        if self._suffers("disconnect", number):
            # The frame comes again on the next connection; what else befalls it happens there.
            return [*steps, Break(record.channel)]
        if self._suffers("unknown", number):
            steps.append(Deliver((record,), is_unknown=True))
        if self._suffers("reorder", number):
            self._held.append(_Held(record))
            return steps
        return steps + self._sent(number, record)

    def flush(self) -> list[Step]:
        """Everything that was kept back, at the end of the capture."""
        steps: list[Step] = [Deliver((held.record,)) for held in self._held]
        steps += self._array()
        self._held.clear()
        return steps

    def forget(self) -> None:
        """What was kept back will be read again: the replay goes back."""
        self._held.clear()
        self._grouped.clear()

    def _suffers(self, kind: str, number: int) -> bool:
        if (kind, number) in self._done or not self._plan.draws(kind, number):
            return False
        self._done.add((kind, number))
        self.injected[kind] += 1
        return True

    def _sent(self, number: int, record: Record) -> list[Step]:
        if self._grouped and record.channel == "polymarket":
            self._grouped.append(record)
            return self._array() if len(self._grouped) >= self._plan.array_frames else []
        can_group = record.channel == "polymarket" and record.frame[:1] == b"{"
        if can_group and self._suffers("array", number):
            self._grouped.append(record)
            return []
        if self._suffers("truncate", number):
            return [Deliver((record,), is_truncated=True)]
        times = 2 if self._suffers("duplicate", number) else 1
        return [Deliver((record,)) for _ in range(times)]

    def _array(self) -> list[Step]:
        grouped, self._grouped = tuple(self._grouped), []
        return [Deliver(grouped)] if grouped else []

    def _released(self, record: Record) -> list[Step]:
        """Frames that may be kept back no longer when ``record`` comes."""
        if not self._held:
            return []
        for held in self._held:
            held.passed += 1
        due = [
            held
            for held in self._held
            if held.passed > self._plan.reorder_frames
            or record.recv_ms - held.record.recv_ms > self._plan.reorder_ms
        ]
        self._held = [held for held in self._held if held not in due]
        return [Deliver((held.record,)) for held in due]
