"""What a publisher holds while the bus is full: in order, and merged where that is allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

from market_data.bus.port import Envelope, Merge


@dataclass(slots=True)
class Waiting:
    """An envelope that the bus has not taken yet.

    Attributes:
        number: rises with the order of publication.
        bucket: where it goes.
        envelope: what was published, or was merged of it.
        raw: its body as bytes, once somebody needed them.
    """

    number: int
    bucket: int
    envelope: Envelope
    raw: bytes | None = None


Undo = list[tuple[int, Waiting | None]]
"""What a publication changed: a number, and what waited there before."""


class Outgoing:
    """Envelopes that the bus has not taken yet.

    What is done for a publication hangs on its own size and not on how many wait.

    Args:
        merge: makes one body of two.
        bucket_of: where the envelopes of a symbol go.
        bound: how many may wait while nobody waits for them.

    Attributes:
        coalesced: how many were merged into another one, and not yet reported.
    """

    def __init__(self, merge: Merge, bucket_of: Callable[[str], int], bound: int) -> None:
        self._merge = merge
        self._bucket_of = bucket_of
        self._bound = bound
        self._waiting: dict[int, Waiting] = {}
        self._places: dict[tuple[str, str], int] = {}
        self._numbers = count()
        self._never_lost = 0
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def must_be_waited_for(self) -> bool:
        """Whether one may never be lost, or too many wait: then the publisher waits."""
        return len(self._waiting) >= self._bound or self._never_lost > 0

    def batches(self, size: int, full: set[int]) -> Iterator[list[Waiting]]:
        """What waits, in order, in parts; what goes to a bucket that is ``full`` by then is not."""
        batch: list[Waiting] = []
        for one in tuple(self._waiting.values()):
            if one.bucket in full:
                continue
            batch.append(one)
            if len(batch) == size:
                yield batch
                batch = []
        if batch:
            yield batch

    def add(self, envelopes: Iterable[Envelope]) -> Undo:
        """Adds envelopes; where some wait already, they are merged with those of their key.

        Returns:
            What `undo` needs to take them back.
        """
        may_merge, undo = bool(self._waiting), Undo()
        for one in envelopes:
            at = self._places.get((one.symbol, one.coalesce)) if may_merge else None
            if at is None:
                self._append(one, undo)
                continue
            before = self._waiting[at]
            body = self._merge(before.envelope.body, one.body)
            merged = Envelope(one.event_id, one.symbol, one.kind, body, one.coalesce)
            self._waiting[at] = Waiting(at, before.bucket, merged)
            self.coalesced += 1
            undo.append((at, before))
        return undo

    def _append(self, envelope: Envelope, undo: Undo) -> None:
        number = next(self._numbers)
        self._waiting[number] = Waiting(number, self._bucket_of(envelope.symbol), envelope)
        if envelope.coalesce:
            self._places[envelope.symbol, envelope.coalesce] = number
        else:
            self._never_lost += 1
        undo.append((number, None))

    def taken(self, gone: Iterable[Waiting]) -> None:
        """The bus has these."""
        for one in gone:
            self._forget(one.number)

    def undo(self, undo: Undo) -> None:
        """Takes back what `add` did, as far as the bus has not taken it: it is published again."""
        for number, before in reversed(undo):
            if number not in self._waiting:
                continue
            if before is None:
                self._forget(number)
            else:
                self._waiting[number] = before

    def _forget(self, number: int) -> None:
        one = self._waiting.pop(number).envelope
        if not one.coalesce:
            self._never_lost -= 1
        elif self._places.get((one.symbol, one.coalesce)) == number:
            del self._places[one.symbol, one.coalesce]
