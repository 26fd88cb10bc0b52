"""The validated price series of one request."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from forecast_service.transform import FloatArray

DEFAULT_CONTEXT = 288
"""Points that a method sees when it states no limit of its own: one day of 5-minute steps."""

MIN_POINTS, MAX_POINTS = 2, 20_000
MAX_FREQ_SECONDS = 7 * 86_400

_FREQ = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 7 * 86_400}


class InvalidFieldError(ValueError):
    """A field of a request does not hold what it must.

    Attributes:
        field: path of the field, e.g. ``values[3]``.
        reason: what is wrong with it, a phrase for people.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def parse_freq(text: str) -> int:
    """Seconds of a cadence such as "5m", "1h" or "1d".

    Raises:
        InvalidFieldError: on field ``freq``, for "0m", an unknown unit or more than a week.

    >>> parse_freq("5m"), parse_freq("1d")
    (300, 86400)
    """
    match = _FREQ.fullmatch(text)
    if match is None:
        raise InvalidFieldError("freq", "must be a positive count and a unit s, m, h, d or w")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > MAX_FREQ_SECONDS:
        raise InvalidFieldError("freq", "must not be longer than a week")
    return seconds


@dataclass(frozen=True, slots=True, eq=False)
class Series:
    """The end of a price series, as a method sees it.

    Attributes:
        values: [T] float64 in [0, 1], NaN = missing, oldest first; at least one is finite, and
            the first one is.
        freq_seconds: length of a step.
        input_length: points that came in, before trimming.
        missing_ratio: share of missing points among those that came in, in [0, 1).
        steps_to_event: steps from the last value to the deciding event, NaN when unknown.
    """

    values: FloatArray
    freq_seconds: int
    input_length: int
    missing_ratio: float
    steps_to_event: float = math.nan

    @property
    def finite_count(self) -> int:
        """Observations in ``values``."""
        return int(np.isfinite(self.values).sum())

    @property
    def last_gap_steps(self) -> int:
        """Steps from the last observation to the end; 0 when the last value is there."""
        return int(self.values.size - 1 - np.flatnonzero(np.isfinite(self.values))[-1])

    @property
    def last_value(self) -> float:
        """The last observation."""
        return float(self.values[np.isfinite(self.values)][-1])


def series_of(values: ArrayLike, freq: str, *, context_steps: int = DEFAULT_CONTEXT) -> Series:
    """Validate a request's values and keep their end.

    The last ``context_steps`` points are kept and leading missing ones dropped. Trailing missing
    ones stay: the forecast starts after them.

    Args:
        values: [T] probabilities, NaN = missing, oldest first, 2 to 20,000 of them.
        freq: cadence, see `parse_freq`.
        context_steps: longest context, ≥ 1.

    Raises:
        InvalidFieldError: on ``freq``, ``values`` or ``values[i]``.
    """
    freq_seconds = parse_freq(freq)
    whole = np.asarray(values, dtype=np.float64)
    if whole.ndim != 1 or not MIN_POINTS <= whole.size <= MAX_POINTS:
        raise InvalidFieldError("values", f"must hold {MIN_POINTS} to {MAX_POINTS} numbers")
    if whole.size <= context_steps and whole.min() >= 0.0 and whole.max() <= 1.0:
        return Series(whole, freq_seconds, int(whole.size), 0.0)  # nothing missing: a NaN fails
    missing = np.isnan(whole)
    outside = np.flatnonzero(~missing & ~((whole >= 0.0) & (whole <= 1.0)))
    if outside.size:
        raise InvalidFieldError(f"values[{outside[0]}]", "must lie in [0, 1] or be NaN")
    kept = whole[-context_steps:]
    finite = np.flatnonzero(~np.isnan(kept))
    if not finite.size:
        raise InvalidFieldError("values", f"has no finite value in its last {kept.size} points")
    return Series(
        values=kept[finite[0] :],
        freq_seconds=freq_seconds,
        input_length=int(whole.size),
        missing_ratio=float(missing.mean()),
    )


def on_grid(values: FloatArray, times: FloatArray, *, freq_seconds: int, steps: int) -> FloatArray:
    """Values at uneven times as one value per step, counted back from the last time.

    A step without a value is missing; of several values in a step the last one stays.

    Args:
        values: [N] float64.
        times: [N] float64, seconds, strictly increasing.
        freq_seconds: length of a step.
        steps: longest result, ≥ 1.

    Returns:
        [T] float64, T ≤ steps, oldest first.

    >>> on_grid(np.array([0.1, 0.2, 0.4]), np.array([0.0, 60.0, 180.0]), freq_seconds=60, steps=9)
    array([0.1, 0.2, nan, 0.4])
    """
    back = np.rint((times[-1] - times) / freq_seconds)
    within = back < steps
    places = back[within].astype(np.int64)
    grid = np.full(int(places[0]) + 1, np.nan)
    grid[places[0] - places] = values[within]
    return grid


def stack(series: list[Series]) -> FloatArray:
    """Series of different lengths as one batch, padded with missing values at the left.

    Returns:
        [B, T] float64 with T the longest length.
    """
    longest = max(item.values.size for item in series)
    batch = np.full((len(series), longest), np.nan)
    for row, item in zip(batch, series, strict=True):
        row[longest - item.values.size :] = item.values
    return batch
