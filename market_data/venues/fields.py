"""Fields of untrusted JSON: ids, numbers, times and lists in the forms that venues send.

Pure: no I/O, no clock. What cannot be read is a ``RecordRejected`` with a reason.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import orjson

from market_data.errors import RecordRejected

EARLIEST_SECONDS = 946_684_800
"""2000-01-01, before any prediction market of today."""

LATEST_SECONDS = 4_102_444_800
"""2100-01-01, after the end of all that are open."""

_EPOCH_LIMIT_SECONDS = 100_000_000_000  # beyond it a number of seconds would be the year 5138


def parse_time(value: Any, name: str = "time") -> datetime | None:
    """Aware UTC time of ISO text, seconds, milliseconds or microseconds; None when absent.

    >>> parse_time("2021-02-08 03:15:35+00").isoformat()
    '2021-02-08T03:15:35+00:00'
    >>> parse_time(1770394157000) == parse_time(1770394157)
    True

    Raises:
        RecordRejected: ``TIME_UNREADABLE``.
    """
    if value is None or value == "":
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    try:
        if math.isfinite(number):
            return datetime.fromtimestamp(to_seconds(number), tz=UTC)
        at = datetime.fromisoformat(str(value).strip())
    except (ValueError, OverflowError, OSError):
        raise RecordRejected("TIME_UNREADABLE", f"{name}={value!r}") from None
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


def to_seconds(number: float) -> float:
    """A time in seconds, milliseconds or microseconds as seconds; whole numbers stay exact."""
    for _ in range(2):
        if abs(number) < _EPOCH_LIMIT_SECONDS:
            break
        number = number // 1000 if isinstance(number, int) else number / 1000.0
    return number


def text_or_none(value: Any) -> str | None:
    """Text of an id or a name; None for absent or blank values and for containers."""
    if value is None or isinstance(value, (dict, list, bool)):
        return None
    return str(value).strip() or None


def number_or_none(value: Any) -> float | None:
    """A finite number, also from text; None for everything else."""
    if value is None or isinstance(value, (bool, dict, list)):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def positive_or_none(value: Any) -> float | None:
    """A finite number above zero, else None."""
    number = number_or_none(value)
    return number if number is not None and number > 0 else None


def listed(value: Any, reason: str) -> list[Any] | None:
    """A list that may be written as JSON text; None when absent.

    Raises:
        RecordRejected: ``reason``.
    """
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            value = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise RecordRejected(reason, value[:200]) from None
    if value is None:
        return None
    if not isinstance(value, list):
        raise RecordRejected(reason, repr(value)[:200])
    return value


def flag_or_none(value: Any) -> bool | None:
    """A boolean, else None: words and numbers are not taken for one."""
    return value if isinstance(value, bool) else None


def first_number(record: dict[str, Any], *names: str) -> float | None:
    """The first of these fields that holds a finite number."""
    for name in names:
        number = number_or_none(record.get(name))
        if number is not None:
            return number
    return None
