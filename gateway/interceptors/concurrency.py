"""How many calls may be in flight at once; above it callers are told to come back."""

from __future__ import annotations

from types import TracebackType

from marketcal.errors import Draining, Overloaded

RETRY_AFTER = 0.1


class InFlight:
    """Counts calls in flight, refuses above the limit and while draining."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self.draining = False

    @property
    def count(self) -> int:
        """Calls in flight."""
        return self._count

    def __enter__(self) -> None:
        if self.draining:
            raise Draining("this server is shutting down", retry_after=RETRY_AFTER)
        if self._count >= self._limit:
            raise Overloaded("too many calls in flight", retry_after=RETRY_AFTER)
        self._count += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._count -= 1
