"""The call under way, for whatever is logged or refused on its behalf."""

from __future__ import annotations

from contextvars import ContextVar

from opentelemetry.trace import Span

from gateway.call import Call


class UnderWay:
    """A call from its arrival to its end.

    Attributes:
        call: the call.
        span: its span; None where spans are not made.
        reason: published reason of its refusal; "" before one.
    """

    __slots__ = ("call", "reason", "span")

    def __init__(self, call: Call, span: Span | None) -> None:
        self.call = call
        self.span = span
        self.reason = ""


UNDER_WAY: ContextVar[UnderWay | None] = ContextVar("under_way", default=None)
"""Set at the edge. gRPC runs every call in a task of its own, so nobody takes it back."""
