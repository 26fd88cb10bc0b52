"""Batches: what a backend is asked, what it answers, and the arithmetic in between.

Series that ask the same of the same model share a batch; the arithmetic is vectorised over it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from forecast_service.bands import QuantileSource
from forecast_service.postprocess import WidthLimits
from forecast_service.series import Series, stack
from forecast_service.transform import FloatArray, Transform


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked of a model; series with equal queries share a batch.

    Attributes:
        model: name of the model.
        horizon_steps: steps to forecast, ≥ 1.
        levels: quantile levels in (0, 1), strictly increasing.
        transform: working space.
        freq_seconds: length of a step.
        limits: smallest and largest width of a band.
    """

    model: str
    horizon_steps: int
    levels: tuple[float, ...]
    transform: Transform
    freq_seconds: int = 300
    limits: WidthLimits = field(default_factory=WidthLimits)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """One query for many series.

    Attributes:
        query: what is asked.
        values: [B, T] float64 in [0, 1], NaN = missing, oldest first.
        steps_to_event: [B] float64, steps from the last value to the deciding event, NaN = unknown;
            None when it is unknown for all.
    """

    query: Query
    values: FloatArray
    steps_to_event: FloatArray | None = None


@dataclass(frozen=True, slots=True, eq=False)
class BatchAnswer:
    """Finished bands of a batch.

    Attributes:
        quantiles: [B, H, Q] float64 in [0, 1], not decreasing along Q.
        flags: [B] int64, bits of `BaselineFlag`.
        adjusted: [B, 4] int64, how many values each `Adjustment` moved, in its order.
        effective_horizon: last step that the model gives itself.
        source: where the levels come from; of several sources the weakest.
    """

    quantiles: FloatArray
    flags: NDArray[np.int64]
    adjusted: NDArray[np.int64]
    effective_horizon: int
    source: QuantileSource = QuantileSource.NATIVE


@dataclass(frozen=True, slots=True, eq=False)
class Bands:
    """The bands of one series.

    Attributes:
        quantiles: [H, Q] float64 in [0, 1], not decreasing along Q.
        flags: bits of `BaselineFlag`.
        adjusted: [4] int64, how many values each `Adjustment` moved.
        effective_horizon: last step that the model gives itself.
        served_by: which process answered.
        source: where the levels come from; of several sources the weakest.
    """

    quantiles: FloatArray
    flags: int
    adjusted: NDArray[np.int64]
    effective_horizon: int
    served_by: str
    source: QuantileSource = QuantileSource.NATIVE


class InvalidAnswerError(Exception):
    """A backend answered with something that is no set of bands for the batch."""


def gather(query: Query, series: Sequence[Series]) -> Batch:
    """One batch of series, padded with missing values at the left."""
    to_event = np.array([item.steps_to_event for item in series])
    known = not np.isnan(to_event).all()
    return Batch(query, stack(list(series)), to_event if known else None)


def scatter(batch: Batch, given: BatchAnswer, served_by: str) -> list[Bands]:
    """The bands of each series of a batch.

    Raises:
        InvalidAnswerError: the answer has another shape, is not finite, leaves [0, 1] or crosses.
    """
    query = batch.query
    wanted = (batch.values.shape[0], query.horizon_steps, len(query.levels))
    bands = given.quantiles
    if bands.shape != wanted:
        raise InvalidAnswerError(f"{query.model}: bands of shape {bands.shape} instead of {wanted}")
    if not (np.isfinite(bands).all() and bands.min() >= 0.0 and bands.max() <= 1.0):
        raise InvalidAnswerError(f"{query.model}: bands are not finite numbers in [0, 1]")
    if bands.shape[2] > 1 and (bands[:, :, 1:] < bands[:, :, :-1]).any():
        raise InvalidAnswerError(f"{query.model}: quantiles cross")
    flags = given.flags.tolist()
    return [
        Bands(
            bands[row],
            flags[row],
            given.adjusted[row],
            given.effective_horizon,
            served_by,
            given.source,
        )
        for row in range(wanted[0])
    ]
