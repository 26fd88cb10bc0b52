"""What could not be read of a stream."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rejected:
    """A message, or a frame, that cannot be read.

    Attributes:
        reason: NOT_JSON, FIELDS_UNREADABLE, PRICE_OUT_OF_RANGE, SIZE_UNREADABLE, TIME_UNREADABLE
            or MARKET_MISSING.
        detail: what exactly was wrong.
        raw: the bytes as they came.
    """

    reason: str
    detail: str
    raw: bytes
