"""How a watched stream goes on after a failure: decisions alone, without a connection."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from marketcal.errors import MarketcalError, OutOfTime, RateLimited, Unavailable

LOST = frozenset({"INTERNAL", "UNKNOWN", "CANCELLED"})
"""Codes that stand for a lost connection where no server of this platform gives a reason."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waiting times between attempts to reopen a stream; they double, and chance spreads them.

    Attributes:
        initial_seconds: longest wait after the first failure.
        max_seconds: longest wait after any.
        attempts: failures in a row after which the last one is raised; None means never.
        draw: uniform numbers in [0, 1).
    """

    initial_seconds: float = 0.2
    max_seconds: float = 30.0
    attempts: int | None = None
    draw: Callable[[], float] = field(default=random.random, repr=False)

    def __post_init__(self) -> None:
        if not 0 < self.initial_seconds <= self.max_seconds:
            raise ValueError("initial_seconds: must be above 0 and at most max_seconds")
        if self.attempts is not None and self.attempts < 1:
            raise ValueError("attempts: must be at least 1, or None")

    def seconds(self, failures: int) -> float:
        """Wait after so many failures in a row (at least 1): half of it is left to chance."""
        longest = min(self.max_seconds, self.initial_seconds * 2.0 ** min(failures - 1, 60))
        return longest * (0.5 + 0.5 * self.draw())


class Watching:
    """Where a watched stream stands.

    Args:
        request: opens the stream; its ``resume_token``, where it has one, follows the messages.
        backoff: waiting times.
        timeout: seconds that the caller watches; None means without end.
        now: a clock that never goes back, in seconds.
    """

    def __init__(
        self,
        request: Any,
        backoff: Backoff,
        timeout: float | None,
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.request = type(request)()
        self.request.CopyFrom(request)
        self._backoff = backoff
        self._now = now
        self._end = None if timeout is None else now() + timeout
        self._failures = 0
        self._resumes = "resume_token" in request.DESCRIPTOR.fields_by_name

    def remaining(self) -> float | None:
        """Seconds that the caller still watches; None means without end."""
        return None if self._end is None else max(0.0, self._end - self._now())

    def received(self, message: Any) -> bool:
        """Notes a message; False where it holds nothing but the token to resume with."""
        self._failures = 0
        if not self._resumes:
            return True
        if message.resume_token:
            self.request.resume_token = message.resume_token
        return message.WhichOneof("event") is not None

    def delay_after(self, error: MarketcalError) -> float | None:
        """Seconds to wait before the stream is opened again; None where ``error`` is the end."""
        if not _may_pass(error):
            return None
        self._failures += 1
        if self._failures == self._backoff.attempts:
            return None
        delay = max(error.retry_after or 0.0, self._backoff.seconds(self._failures))
        remaining = self.remaining()
        return None if remaining is not None and delay >= remaining else delay


def _may_pass(error: MarketcalError) -> bool:
    """Whether the stream may do better when it is opened again.

    A server that is gone is told by a proxy, or by what gRPC makes of a broken connection, with one
    of `LOST`; a server of this platform that ends a call with them says why.
    """
    if isinstance(error, Unavailable | RateLimited | OutOfTime):
        return True
    return error.by_transport and error.code in LOST
