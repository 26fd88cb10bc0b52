"""Tells events that were seen before."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Recent:
    """The last events seen, between ``capacity`` and twice as many; older ones are forgotten.

    For events that change nothing when they come twice: a bounded memory saves work, and what it
    has forgotten does no harm. Kept as hashes of this process.

    >>> recent = Recent(2)
    >>> [recent.is_new(one) for one in ("a", "a", "b", "a")]
    [True, False, True, False]
    """

    __slots__ = ("_capacity", "_older", "_younger", "duplicates")

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._younger: set[int] = set()
        self._older: set[int] = set()
        self.duplicates = 0

    def is_new(self, identity: Hashable) -> bool:
        """Whether it was not seen lately; it has been from now on."""
        number = hash(identity)
        younger = self._younger
        if number in younger or number in self._older:
            self.duplicates += 1
            return False
        younger.add(number)
        if len(younger) >= self._capacity:
            self._older, self._younger = younger, set()
        return True


class Ledger:
    """Events that must not count twice, by their whole identity and the venue's time.

    An identity is kept until the venue's time has gone on by ``span_ms``: longer than anything
    that late may still count. What is new can be written down bit by bit.
    """

    __slots__ = ("_kept", "_new", "_swept_ms", "span_ms")

    def __init__(self, span_ms: int, kept: Iterable[tuple[str, int]] = ()) -> None:
        self.span_ms = span_ms
        self._kept = dict(kept)
        self._new: list[tuple[str, int]] = []
        self._swept_ms = 0

    def __len__(self) -> int:
        return len(self._kept)

    def is_new(self, identity: str, ms: int) -> bool:
        """Whether it has not counted yet; it has from now on."""
        if identity in self._kept:
            return False
        self._kept[identity] = ms
        self._new.append((identity, ms))
        return True

    def new(self) -> list[tuple[str, int]]:
        """What has counted and was not written down yet."""
        return self._new[:]

    def written(self, count: int) -> None:
        """The first ``count`` of `new` are written down."""
        del self._new[:count]

    def sweep(self, now_ms: int) -> None:
        """Forgets what is too old to come again; cheap, and does nothing most of the time."""
        if now_ms - self._swept_ms < self.span_ms // 4:
            return
        self._swept_ms = now_ms
        oldest = now_ms - self.span_ms
        self._kept = {one: ms for one, ms in self._kept.items() if ms >= oldest}
