"""Answers as arrays and tables, for programs that have NumPy, polars or pandas.

None of them is a dependency: each is imported by the function that makes its kind, which raises
ImportError with the command that installs it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from marketcal.v1.forecast_pb2 import ForecastResponse

if TYPE_CHECKING:
    import numpy
    import pandas  # type: ignore[import-untyped]  # its stubs are not a dependency
    import polars

Band = Literal["raw", "conformal"]
_PATHS = {"raw": "quantile_paths", "conformal": "conformal_paths"}


class Bands(NamedTuple):
    """Quantile bands of one forecast.

    Attributes:
        levels: [Q] float64, quantile levels in (0, 1), increasing.
        paths: [Q, H] float64, price in [0, 1] at each level and horizon step.
    """

    levels: numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]
    paths: numpy.ndarray[tuple[int, int], numpy.dtype[numpy.float64]]


def to_numpy(response: ForecastResponse, band: Band = "raw") -> Bands:
    """Bands of a forecast as arrays.

    Args:
        response: answer of ``forecast``, or ``result.forecast`` of a batch.
        band: "raw" as the model gives them, "conformal" as corrected.

    Raises:
        ValueError: the answer has no such band, or there is no such kind.
        ImportError: NumPy is not installed.
    """
    np = _library("numpy")
    if band not in _PATHS:
        raise ValueError(f"band: must be one of {', '.join(_PATHS)}, not {band!r}")
    paths = getattr(response, _PATHS[band])
    if not paths:
        raise ValueError(f"band: the forecast of {response.market_id} has no {band} band")
    return Bands(
        np.array([path.level for path in paths]), np.array([path.values for path in paths])
    )


def to_polars(messages: Iterable[Message]) -> polars.DataFrame:
    """A polars frame with a row per message, or per band, level and step of forecasts.

    Columns are those of `rows`. ``to_polars(client.list_scores())`` takes all pages.

    Raises:
        ImportError: polars is not installed.
    """
    library = _library("polars")
    frame: polars.DataFrame = library.DataFrame(list(rows(messages)), infer_schema_length=None)
    return frame


def to_pandas(messages: Iterable[Message]) -> pandas.DataFrame:
    """A pandas frame with the rows of `to_polars`.

    Raises:
        ImportError: pandas is not installed.
    """
    library = _library("pandas")
    frame: pandas.DataFrame = library.DataFrame(list(rows(messages)))
    return frame


def rows(messages: Iterable[Message]) -> Iterator[dict[str, Any]]:
    """Rows of a table: one per message, or per band, level and step of a forecast.

    A field is a column, a field of a part is ``part.field``. Enum values are their names, instants
    aware datetimes (UTC), durations seconds; what is absent is None; lists stay lists.
    """
    for message in messages:
        if isinstance(message, ForecastResponse):
            yield from _forecast_rows(message)
        else:
            yield dict(_columns(message, message.DESCRIPTOR.fields))


def _forecast_rows(response: ForecastResponse) -> Iterator[dict[str, Any]]:
    as_of = _plain(response.as_of_time) if response.HasField("as_of_time") else None
    for band, name in _PATHS.items():
        for path in getattr(response, name):
            for step, value in enumerate(path.values, start=1):
                yield {
                    "market_id": response.market_id,
                    "as_of_time": as_of,
                    "freq": response.freq,
                    "band": band,
                    "level": path.level,
                    "horizon_step": step,
                    "value": value,
                }


def _columns(message: Any, fields: Iterable[Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Columns of a message; those of an absent part (message None) are None."""
    for field in fields:
        name = f"{prefix}{field.name}"
        part = field.message_type
        absent = message is None or (field.has_presence and not message.HasField(field.name))
        value = None if absent else getattr(message, field.name)
        if _is_repeated(field):
            yield name, None if value is None else [_plain(item) for item in value]
        elif part is not None and part.full_name not in _SCALAR_LIKE:
            yield from _columns(value, part.fields, f"{name}.")
        elif field.enum_type is not None and value is not None:
            yield name, field.enum_type.values_by_number[value].name
        else:
            yield name, _plain(value)


def _is_repeated(field: Any) -> bool:
    if hasattr(field, "is_repeated"):  # protobuf 6.31 and newer, which warn of ``label``
        return bool(field.is_repeated)
    return bool(field.label == field.LABEL_REPEATED)


_SCALAR_LIKE = (Timestamp.DESCRIPTOR.full_name, Duration.DESCRIPTOR.full_name)


def _plain(value: Any) -> Any:
    """A value as Python has it; a message of a list is a dictionary of its columns."""
    if isinstance(value, Timestamp):
        return datetime.fromtimestamp(0, UTC) + _since_epoch(value)
    if isinstance(value, Duration):
        return value.ToTimedelta().total_seconds()
    if isinstance(value, Message):
        return dict(_columns(value, value.DESCRIPTOR.fields))
    return value


def _since_epoch(stamp: Timestamp) -> Any:
    return Duration(seconds=stamp.seconds, nanos=stamp.nanos).ToTimedelta()


def _library(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise ImportError(f"{name} is not installed; `pip install {name}` brings it") from None
