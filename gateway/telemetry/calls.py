"""Rate, errors and duration of calls, counted in plain numbers.

The instruments of an SDK take several microseconds for each value; a list that is counted up takes
a fraction of one, and is read only when somebody asks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

import grpc

BOUNDS_MS = (0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 1_000.0, 5_000.0, float("inf"))
"""Inclusive upper bounds of durations, milliseconds."""
_CODES: dict[str, int] = {code.name: code.value[0] for code in grpc.StatusCode}
_UNKNOWN = 2


class Durations:
    """How long the calls of one method took that ended with one code."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * len(BOUNDS_MS)
        self.total = 0.0


class MethodCalls:
    """The calls of one method.

    Attributes:
        service: full name of its service.
        method: its name there.
        active: calls under way.
        ended: durations by the number of the gRPC code.
    """

    __slots__ = ("active", "ended", "method", "service")

    def __init__(self, name: str) -> None:
        self.service, _, self.method = name[1:].partition("/")
        self.active = 0
        self.ended: dict[int, Durations] = {}

    def end(self, code: str, seconds: float) -> None:
        """Counts a call that has ended."""
        self.active -= 1
        number = code_number(code)
        durations = self.ended.get(number)
        if durations is None:
            durations = self.ended[number] = Durations()
        milliseconds = seconds * 1e3
        durations.counts[bisect_left(BOUNDS_MS, milliseconds)] += 1
        durations.total += milliseconds


def code_number(name: str) -> int:
    """Number of the gRPC code with this name.

    >>> code_number("OK"), code_number("UNAVAILABLE")
    (0, 14)
    """
    return _CODES.get(name, _UNKNOWN)


class Calls:
    """The calls of every method that was called.

    Attributes:
        methods: by full name; callers reach methods of the contract alone.
        refusals: by published reason.
    """

    def __init__(self) -> None:
        self.methods: dict[str, MethodCalls] = {}
        self.refusals: Counter[str] = Counter()

    @property
    def active(self) -> int:
        """Calls under way."""
        return sum(method.active for method in self.methods.values())

    def begin(self, name: str) -> MethodCalls:
        """Counts a call of the method with this full name, ``/package.Service/Method``."""
        method = self.methods.get(name)
        if method is None:
            method = self.methods[name] = MethodCalls(name)
        method.active += 1
        return method
