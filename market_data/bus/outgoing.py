"""What a publisher holds while the bus is full: in order, and merged where that is allowed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from market_data.bus.port import Envelope, Merge


class Outgoing:
    """Envelopes that the bus has not taken yet.

    Args:
        merge: makes one body of two.
        bound: how many may wait while nobody waits for them.

    Attributes:
        coalesced: how many were merged into another one, and not yet reported.
    """

    def __init__(self, merge: Merge, bound: int) -> None:
        self._merge = merge
        self._bound = bound
        self._slots: list[Envelope] = []
        self.coalesced = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def envelopes(self) -> Sequence[Envelope]:
        """What waits, in order."""
        return tuple(self._slots)

    @property
    def must_be_waited_for(self) -> bool:
        """Whether one may never be lost, or too many wait: then the publisher waits."""
        return len(self._slots) >= self._bound or any(not one.coalesce for one in self._slots)

    def replace(self, left: Iterable[Envelope]) -> None:
        """What the bus has left is what waits now."""
        self._slots = list(left)

    def merge_in(self, envelopes: Iterable[Envelope]) -> None:
        """Adds envelopes, merged into those of their symbol and key that wait already."""
        places = {
            (one.symbol, one.coalesce): at for at, one in enumerate(self._slots) if one.coalesce
        }
        for one in envelopes:
            at = places.get((one.symbol, one.coalesce)) if one.coalesce else None
            if at is not None:
                body = self._merge(self._slots[at].body, one.body)
                self._slots[at] = Envelope(one.event_id, one.symbol, one.kind, body, one.coalesce)
                self.coalesced += 1
                continue
            if one.coalesce:
                places[one.symbol, one.coalesce] = len(self._slots)
            self._slots.append(one)
