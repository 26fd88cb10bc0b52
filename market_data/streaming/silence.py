"""How long a connection has brought no data, and what may be made of that.

A quiet market and a frozen feed look alike on the stream. REST tells them apart: while it says of a
silent connection's instruments what the stream said last, nothing has happened, and quiet is quiet;
where it says something else, the feed is frozen. Without its word the connection is replaced, and
where replacements bring snapshots alone each waits twice as long as the one before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from market_data.streaming.dialect import Policy

_MOST_DOUBLINGS = 16


@dataclass(slots=True)
class Silence:
    """The silence of one connection; times are seconds of listening.

    Attributes:
        policy: its bounds.
        frame_at: the last data frame, or the beginning.
        asked_at: when REST was asked last, because of silence.
        explained_at: when REST said last that nothing has happened.
        is_silent: whether the silence has passed its bound.
        is_doubted: whether REST said that something has happened in it.
        barren: connections in a row that were given up as silent and had brought snapshots alone.
    """

    policy: Policy
    frame_at: float = 0.0
    asked_at: float = 0.0
    explained_at: float = 0.0
    is_silent: bool = False
    is_doubted: bool = False
    barren: int = 0

    def begin(self, at: float) -> None:
        """A connection is up."""
        self.frame_at = self.explained_at = at
        self.is_silent = self.is_doubted = False

    def broken(self, at: float) -> bool:
        """A data frame came; returns whether it has ended a silence."""
        was_silent, self.is_silent, self.is_doubted = self.is_silent, False, False
        self.frame_at = at
        return was_silent

    def explain(self, at: float) -> bool:
        """REST agrees with the stream; returns whether that counts."""
        if self.is_silent and not self.is_doubted:
            self.explained_at = at
            return True
        return False

    def ask(self, at: float) -> bool:
        """Whether REST has to be asked now; from then on the connection is silent."""
        bound = self.policy.stale_after
        since = self.asked_at if self.is_silent else self.frame_at
        if not bound or at - since < bound:
            return False
        self.is_silent, self.asked_at = True, at
        return True

    @property
    def is_explained(self) -> bool:
        """Whether REST has said, when it was asked last, that nothing has happened."""
        return self.is_silent and not self.is_doubted and self.explained_at >= self.asked_at

    def dead_at(self) -> float:
        """When the connection is to be given up; inf for never."""
        first, most = self.policy.dead_after, self.policy.quiet_for or math.inf
        if not first:
            return math.inf
        if self.is_doubted:
            return self.frame_at + first
        patience = min(first * 2.0 ** min(self.barren, _MOST_DOUBLINGS), max(first, most))
        last = max(self.frame_at, self.explained_at)
        return min(last + patience, self.frame_at + max(patience, most))

    def give_up(self, *, was_useful: bool) -> None:
        """The connection is replaced because of its silence."""
        self.barren += was_useful and not self.is_doubted

    def due(self) -> float:
        """When something is to be done next; inf for never."""
        since = self.asked_at if self.is_silent else self.frame_at
        return min(since + (self.policy.stale_after or math.inf), self.dead_at())
