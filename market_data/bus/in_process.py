"""The bus within one process: nothing is copied, and nothing outlives the process."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import count

from market_data.bus.port import BodyCodec, DeadLetter, Delivery, Envelope, Lag, Merge

_KEPT_LETTERS = 1_000


@dataclass(slots=True)
class _Slot:
    """A place in the queue of a group; what waits in it may be merged with what comes later."""

    number: int
    envelope: Envelope
    since: float
    attempt: int = 1


@dataclass(slots=True)
class _Group:
    waiting: deque[_Slot] = field(default_factory=deque)
    mergeable: dict[tuple[str, str], _Slot] = field(default_factory=dict)
    taken: dict[int, _Slot] = field(default_factory=dict)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    room: asyncio.Event = field(default_factory=asyncio.Event)
    coalesced: int = 0
    dead: int = 0


class InProcessBus:
    """Carries envelopes between tasks of one event loop.

    Where a group has as many waiting as ``soft_bound``, what may be merged is merged into what
    waits; where it has ``bound``, its publisher waits.

    Args:
        groups: names of all groups; an envelope waits for each of them from its publication on.
        codec: makes bytes of what is put aside.
        merge: makes one body of two.
        clock: monotonic seconds.
        bound: envelopes that may wait in a group.
        attempts: how often one is tried before it is put aside.
    """

    def __init__(
        self,
        groups: Sequence[str],
        codec: BodyCodec,
        merge: Merge,
        clock: Callable[[], float],
        *,
        bound: int = 50_000,
        attempts: int = 5,
    ) -> None:
        self._groups = {name: _Group() for name in groups}
        self._codec = codec
        self._merge = merge
        self._clock = clock
        self._bound = bound
        self._soft_bound = bound // 2
        self._attempts = attempts
        self._numbers = count()
        self._letters: deque[DeadLetter] = deque(maxlen=_KEPT_LETTERS)

    async def publish(self, envelopes: Sequence[Envelope]) -> None:
        """Takes them over, in order; waits while a group is full."""
        for envelope in envelopes:
            for group in self._groups.values():
                if len(group.waiting) >= self._soft_bound and self._merged(group, envelope):
                    continue
                while len(group.waiting) >= self._bound:
                    group.room.clear()
                    await group.room.wait()
                self._append(group, envelope)

    def _merged(self, group: _Group, envelope: Envelope) -> bool:
        if not envelope.coalesce:
            return False
        slot = group.mergeable.get((envelope.symbol, envelope.coalesce))
        if slot is None:
            return False
        body = self._merge(slot.envelope.body, envelope.body)
        slot.envelope = Envelope(
            envelope.event_id, envelope.symbol, envelope.kind, body, envelope.coalesce
        )
        group.coalesced += 1
        return True

    def _append(self, group: _Group, envelope: Envelope) -> None:
        slot = _Slot(next(self._numbers), envelope, self._clock())
        group.waiting.append(slot)
        if envelope.coalesce:
            group.mergeable[envelope.symbol, envelope.coalesce] = slot
        group.arrived.set()

    async def subscribe(self, group: str, consumer: str) -> InProcessConsumer:  # noqa: ARG002
        """A consumer of a group that was named at the beginning; raises KeyError for another."""
        return InProcessConsumer(self, self._groups[group])

    async def lag(self, group: str) -> Lag:
        """How far ``group`` is behind."""
        of = self._groups[group]
        oldest = self._clock() - of.waiting[0].since if of.waiting else 0.0
        return Lag(len(of.waiting), len(of.taken), oldest, of.coalesced, of.dead)

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """What was put aside, newest first; the last thousand at most."""
        return list(reversed(self._letters))[:limit]

    async def close(self) -> None:
        """Nothing is held."""

    def _take(self, group: _Group, limit: int) -> list[Delivery]:
        taken: list[Delivery] = []
        while group.waiting and len(taken) < limit:
            slot = group.waiting.popleft()
            envelope = slot.envelope
            place = (envelope.symbol, envelope.coalesce)
            if envelope.coalesce and group.mergeable.get(place) is slot:
                del group.mergeable[place]
            group.taken[slot.number] = slot
            taken.append(Delivery(envelope, slot.attempt, slot.number))
        group.room.set()
        return taken

    def _give_back(self, group: _Group, delivery: Delivery) -> None:
        """Puts one back to the front, and after it the later ones of its symbol."""
        first = group.taken[delivery.token]
        symbol = delivery.envelope.symbol
        later = [
            slot
            for number, slot in sorted(group.taken.items())
            if number >= first.number and slot.envelope.symbol == symbol
        ]
        first.attempt += 1
        for slot in reversed(later):
            del group.taken[slot.number]
            group.waiting.appendleft(slot)
        group.arrived.set()

    def _put_aside(self, group: _Group, delivery: Delivery, reason: str) -> None:
        slot = group.taken.pop(delivery.token)
        envelope = slot.envelope
        group.dead += 1
        self._letters.append(
            DeadLetter(
                envelope.event_id, envelope.symbol, envelope.kind, reason, slot.attempt,
                self._codec.encode(envelope.body),
            )
        )  # fmt: skip


class InProcessConsumer:
    """Takes from one group."""

    def __init__(self, bus: InProcessBus, group: _Group) -> None:
        self._bus = bus
        self._group = group

    async def take(self, limit: int, wait_seconds: float) -> list[Delivery]:
        """The next deliveries; empty where none comes within the time."""
        group = self._group
        if not group.waiting:
            group.arrived.clear()
            try:
                async with asyncio.timeout(wait_seconds):
                    await group.arrived.wait()
            except TimeoutError:
                return []
        return self._bus._take(group, limit)

    async def acknowledge(self, deliveries: Sequence[Delivery]) -> None:
        """Says that they are done."""
        for delivery in deliveries:
            self._group.taken.pop(delivery.token, None)

    async def refuse(self, delivery: Delivery, reason: str) -> None:
        """Gives one back, and the later ones of its symbol with it."""
        if delivery.token not in self._group.taken:
            return
        if delivery.attempt >= self._bus._attempts:
            self._bus._put_aside(self._group, delivery, reason)
        else:
            self._bus._give_back(self._group, delivery)

    async def put_aside(self, delivery: Delivery, reason: str) -> None:
        """Makes a dead letter of one."""
        if delivery.token in self._group.taken:
            self._bus._put_aside(self._group, delivery, reason)

    async def close(self) -> None:
        """What it took goes back to the front, in its order."""
        for _, slot in sorted(self._group.taken.items(), reverse=True):
            self._group.waiting.appendleft(slot)
        self._group.taken.clear()
        self._group.arrived.set()
