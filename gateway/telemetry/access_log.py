"""A line in the log for calls that have ended: those that failed by our fault, or all."""

from __future__ import annotations

import logging
from collections.abc import Callable

from gateway.telemetry.call_context import UnderWay

_LOG = logging.getLogger("gateway.access")
FAULTS = frozenset(
    {"INTERNAL", "UNAVAILABLE", "DEADLINE_EXCEEDED", "UNKNOWN", "UNIMPLEMENTED", "DATA_LOSS"}
)
"""Codes that the conventions of OpenTelemetry call an error of the server."""
MOST_FAULTS = 20
"""Lines about faults in one second: a flood of refusals must not become one of lines."""


class AccessLog:
    """Writes the lines.

    Args:
        clock: monotonic seconds.
        everything: whether calls that went well leave a line too; then nothing is left out.

    Attributes:
        left_out: lines about faults for which there was no room.
    """

    def __init__(self, clock: Callable[[], float], *, everything: bool) -> None:
        self._clock = clock
        self._everything = everything
        self._second, self._lines = 0.0, 0
        self.left_out = 0

    def ended(self, under_way: UnderWay, seconds: float) -> None:
        """Takes note of a call that took ``seconds``."""
        call = under_way.call
        fault = call.code in FAULTS
        if not self._everything and not (fault and self._has_room()):
            return
        facts = {"code": call.code, "reason": under_way.reason, "caller": call.caller,
                 "milliseconds": round(seconds * 1e3, 3)}  # fmt: skip
        _LOG.log(
            logging.WARNING if fault else logging.INFO,
            "%s %s %s in %.1f ms",
            call.method.name, call.code, under_way.reason or "-", seconds * 1e3,
            extra={"facts": facts},
        )  # fmt: skip

    def _has_room(self) -> bool:
        now = self._clock()
        if now - self._second >= 1.0:
            self._second, self._lines = now, 0
        self._lines += 1
        self.left_out += self._lines > MOST_FAULTS
        return self._lines <= MOST_FAULTS
