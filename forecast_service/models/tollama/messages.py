"""What is said to a tollama server, and what is believed of its reply. No input or output here.

The server checks little: it takes duplicate ids, answers NaN with ``null``, rounds the names of
levels and leaves out levels that a model does not give. So a series counts only when everything
about it is as asked; levels alone may be missing, and those that are there are used. One that does
not count takes no other with it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

import numpy as np
import orjson

from forecast_service.batch import InvalidAnswerError
from forecast_service.transform import FloatArray

_ORIGIN = datetime(1970, 1, 1, tzinfo=UTC)
"""When the first value is dated: only the spacing matters to a model."""
_LEVEL_DIGITS = 4
"""The server names levels with six significant digits; finer ones would collide."""
_SAME_LEVEL = 1e-6
_FEWEST_LEVELS = 3
_Paths = dict[float, list[float]]
_UNITS = ((86_400, "D"), (3_600, "h"), (60, "min"), (1, "s"))


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of the server.

    Attributes:
        model: its name there.
        horizon: steps.
        levels: [K] increasing, at most four decimals, the median among them.
        freq_seconds: length of a step.
    """

    model: str
    horizon: int
    levels: tuple[float, ...]
    freq_seconds: int


@dataclass(frozen=True, slots=True, eq=False)
class Reply:
    """What the server answered.

    Attributes:
        quantiles: [B, horizon, K] float64 in the space of the question; NaN for a series that came
            back wrong, finite for the others.
        levels: [K] float64, those of the levels asked for that came for all others.
    """

    quantiles: FloatArray
    levels: FloatArray


def askable_levels(levels: Sequence[float]) -> tuple[float, ...]:
    """Levels as they can be asked for, with the median, by which a reply is judged.

    >>> askable_levels([0.1, 0.90000001])
    (0.1, 0.5, 0.9)
    """
    least = 10.0**-_LEVEL_DIGITS
    rounded = {round(min(max(level, least), 1.0 - least), _LEVEL_DIGITS) for level in levels}
    return tuple(sorted(rounded | {0.5}))


def freq_alias(seconds: int) -> str:
    """A cadence in the words of pandas 2, where "5m" would mean five months.

    >>> freq_alias(300), freq_alias(3_600), freq_alias(86_400), freq_alias(90)
    ('5min', '1h', 'D', '90s')
    """
    unit, name = next((unit, name) for unit, name in _UNITS if seconds % unit == 0)
    count = seconds // unit
    return name if name == "D" and count == 1 else f"{count}{name}"


@lru_cache(maxsize=64)
def timestamps(freq_seconds: int, length: int) -> tuple[str, ...]:
    """RFC 3339 times of ``length`` values."""
    step = timedelta(seconds=freq_seconds)
    return tuple((_ORIGIN + i * step).isoformat().replace("+00:00", "Z") for i in range(length))


def series_message(values: FloatArray, number: int, freq_seconds: int) -> bytes:
    """One series of a request: from its first value on, gaps filled with the value before.

    Args:
        values: [T] float64, NaN = missing; one at least is finite.
        number: its place in the request, which is its id.
        freq_seconds: length of a step.
    """
    filled = forward_filled(values)
    return orjson.dumps(
        {
            "id": f"s{number}",
            "freq": freq_alias(freq_seconds),
            "timestamps": timestamps(freq_seconds, filled.size),
            "target": np.round(filled, 6).tolist(),
        }
    )


def forward_filled(values: FloatArray) -> FloatArray:
    """[T'] the values from the first finite one on, each gap filled with the value before it.

    >>> forward_filled(np.array([np.nan, 1.0, np.nan, 3.0])).tolist()
    [1.0, 1.0, 3.0]
    """
    known = np.isfinite(values)
    latest = np.maximum.accumulate(np.where(known, np.arange(values.size), -1))
    return values[latest[latest >= 0]]


def request_body(question: Question, series: Sequence[bytes], timeout: float) -> bytes:
    """The body of ``POST /v1/forecast``; ``timeout`` is that of one of the server's attempts."""
    head = orjson.dumps(
        {
            "model": question.model,
            "horizon": question.horizon,
            "quantiles": question.levels,
            "timeout": round(timeout, 3),
        }
    )
    return head[:-1] + b',"series":[' + b",".join(series) + b"]}"


def read_reply(body: bytes, question: Question, count: int) -> Reply:
    """The reply to a request of ``count`` series.

    Raises:
        InvalidAnswerError: it is not what was asked for, in no series.
    """
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _invalid(question, f"the reply is no JSON ({error.msg})") from None
    if not isinstance(said, dict) or said.get("model") != question.model:
        raise _invalid(question, "the reply is not of the model that was asked")
    forecasts = said.get("forecasts")
    if not isinstance(forecasts, list) or len(forecasts) != count:
        raise _invalid(question, f"the reply does not hold {count} series")
    found = [_result(item, i, question) for i, item in enumerate(forecasts)]
    good = [one for one in found if isinstance(one, dict)]
    if not good:
        raise next(one for one in found if isinstance(one, InvalidAnswerError))
    levels = [level for level in question.levels if all(level in one for one in good)]
    _check_levels(levels, "every series", question)
    none = dict.fromkeys(levels, [math.nan] * question.horizon)
    numbers = [one if isinstance(one, dict) else none for one in found]
    bands = np.array([[one[level] for level in levels] for one in numbers])
    return Reply(np.ascontiguousarray(bands.transpose(0, 2, 1)), np.asarray(levels))


def _result(item: Any, number: int, question: Question) -> _Paths | InvalidAnswerError:
    """What came for one series: its paths, or what is wrong with them."""
    if not isinstance(item, dict) or item.get("id") != f"s{number}":
        raise _invalid(question, f"series {number} is not where it was asked")
    try:
        paths = _quantiles(item, number, question)
        _check_levels(list(paths), f"series {number}", question)
    except InvalidAnswerError as error:
        return error
    return paths


def _check_levels(levels: Sequence[float], of: str, question: Question) -> None:
    if len(levels) < min(_FEWEST_LEVELS, len(question.levels)) or 0.5 not in levels:
        raise _invalid(question, f"only the levels {levels} came for {of}")


def _quantiles(item: dict[str, Any], number: int, question: Question) -> _Paths:
    """The quantile paths of one series by the level that was asked for."""
    _path(item.get("mean"), f"the mean of series {number}", question)
    given = item.get("quantiles") or {}
    if not isinstance(given, dict):
        raise _invalid(question, f"series {number} has no quantiles")
    paths: _Paths = {}
    for key, path in given.items():
        level = _asked_level(key, question)
        if level is not None and path is not None:
            paths[level] = _path(path, f"level {key} of series {number}", question)
    return paths


def _asked_level(key: str, question: Question) -> float | None:
    try:
        said = float(key)
    except ValueError:
        raise _invalid(question, "a level is no number") from None
    return next((level for level in question.levels if abs(level - said) < _SAME_LEVEL), None)


def _path(path: Any, what: str, question: Question) -> list[float]:
    if not isinstance(path, list) or len(path) != question.horizon:
        raise _invalid(question, f"{what} does not have {question.horizon} steps")
    for value in path:
        number = isinstance(value, float | int) and not isinstance(value, bool)
        if not number or not math.isfinite(value):
            raise _invalid(question, f"{what} is not finite")
    return path


def _invalid(question: Question, why: str) -> InvalidAnswerError:
    return InvalidAnswerError(f"{question.model}: {why}")
