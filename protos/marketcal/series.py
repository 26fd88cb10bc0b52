"""Numbers into messages: NumPy arrays, lists and other iterables, without a need for NumPy."""

from __future__ import annotations

import contextlib
import math
from array import array
from collections.abc import Iterable
from typing import Any

from google.protobuf.message import Message

Values = Iterable[float | None]
"""Numbers in order; None and NaN are missing. A NumPy array, a column of a frame, a list, …"""
_LENGTH_DELIMITED = 2


def put(message: Message, name: str, values: Values) -> None:
    """Appends numbers to a ``repeated double`` field.

    A float64 array goes in as the bytes that it is; anything else number by number.

    Raises:
        TypeError: something is no number.
        ValueError: the values have more than one dimension.
    """
    data = _float64(name, values)
    if data:
        number = message.DESCRIPTOR.fields_by_name[name].number
        head = _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(data))
        message.MergeFromString(head + data)


def _float64(name: str, values: Any) -> bytes:
    """The numbers as little-endian float64, one after another."""
    dimensions = getattr(values, "ndim", 1)
    if dimensions != 1:
        raise ValueError(f"{name}: must have one dimension, not {dimensions}")
    if hasattr(values, "filled"):  # a masked array: what its mask hides is missing
        values = values.astype(float).filled(math.nan)
    view = _view(values)
    if view is not None:
        return view.tobytes()
    return _little_endian(_each(name, values))


def _each(name: str, values: Any) -> array[float]:
    """The numbers one by one."""
    if isinstance(values, list | tuple):
        with contextlib.suppress(TypeError):  # None is told from a mistake below
            return array("d", values)
    try:
        return array("d", (math.nan if value is None else value for value in values))
    except TypeError as error:
        raise TypeError(f"{name}: holds something that is no number: {error}") from None


def _view(values: Any) -> memoryview | None:
    """The memory of a little-endian float64 array; None for anything else."""
    try:
        view = memoryview(values)
    except (TypeError, ValueError, BufferError):  # no array, or one of dates, objects, …
        return None
    return view if view.format in _FORMATS else None


def _little_endian(numbers: array[float]) -> bytes:
    if not _NATIVE_IS_LITTLE:
        numbers.byteswap()
    return numbers.tobytes()


_NATIVE_IS_LITTLE = array("H", [1]).tobytes()[0] == 1
_FORMATS = ("d", "<d") if _NATIVE_IS_LITTLE else ("<d",)


def _varint(number: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*groups, number])
