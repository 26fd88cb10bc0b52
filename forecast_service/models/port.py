"""What a model is to the rest of the service, and how its raw quantiles become an answer.

A model answers in the process that loaded it, blocking, on whole batches. It gives quantiles on
the levels and for the steps that are its own; `complete` brings them to what was asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecast_service.bands import QuantileSource, at_levels, extend_horizon
from forecast_service.batch import Batch, BatchAnswer, InvalidAnswerError
from forecast_service.postprocess import Adjustment, finish
from forecast_service.transform import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class RawBands:
    """Quantiles as a model gives them.

    Attributes:
        quantiles: [B, n, K] float64 in probability, n ≥ 1 steps; more than were asked are dropped,
            fewer are extended. Crossing and leaving [0, 1] is mended; a series whose numbers are
            not all finite counts as refused.
        levels: [K] float64 in (0, 1), strictly increasing.
        flags: [B] int64, bits of `BaselineFlag`; None for none.
        effective_horizon: last step that the model gives itself; None means n.
        refused: [B] bool, series that the model would not answer, whose numbers mean nothing; None
            for none.
    """

    quantiles: FloatArray
    levels: FloatArray
    flags: NDArray[np.int64] | None = None
    effective_horizon: int | None = None
    refused: NDArray[np.bool_] | None = None


class Model(Protocol):
    """A loaded model."""

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Raw quantiles of a batch; raises when it cannot give them within ``budget`` seconds."""
        ...


def answer(model: Model, batch: Batch, budget: float) -> BatchAnswer:
    """The finished answer of ``model`` to ``batch``.

    Raises:
        InvalidAnswerError: the model's quantiles have the wrong shape, or are finite for no series.
    """
    return complete(batch, model.forecast(batch, budget))


def complete(batch: Batch, raw: RawBands) -> BatchAnswer:
    """Raw quantiles brought to the levels and steps of the query, and finished.

    The quantiles of a series that the model refused, or gave no finite numbers for, are NaN.

    Raises:
        InvalidAnswerError: wrong shape, or not finite for any series.
    """
    query = batch.query
    rows, native_steps, _ = _checked_shape(batch, raw)
    refused, source = _refused(batch, raw), QuantileSource.NATIVE
    quantiles = raw.quantiles
    if refused is not None:  # harmless numbers in the rows that mean nothing
        quantiles = np.where(refused[:, None, None], 0.5, quantiles)
    wanted = np.asarray(query.levels)
    own = raw.levels.shape == wanted.shape and bool(np.abs(raw.levels - wanted).max() < 1e-9)
    if not own:
        ordered = np.sort(np.clip(quantiles, 0.0, 1.0), axis=2)
        levelled = at_levels(ordered, raw.levels, levels=wanted, transform=query.transform)
        quantiles, source = levelled.quantiles, QuantileSource(int(levelled.sources.max()))
    if native_steps < query.horizon_steps:
        source = QuantileSource.EXTRAPOLATED
    quantiles = extend_horizon(
        quantiles, wanted, horizon_steps=query.horizon_steps, transform=query.transform
    )
    final = finish(quantiles, wanted, limits=query.limits)
    if refused is not None:
        final.quantiles[refused] = np.nan
    return BatchAnswer(
        quantiles=final.quantiles,
        flags=np.zeros(rows, dtype=np.int64) if raw.flags is None else raw.flags,
        adjusted=np.stack([final.counts[kind] for kind in Adjustment], axis=1),
        effective_horizon=min(raw.effective_horizon or native_steps, query.horizon_steps),
        source=source,
    )


def _checked_shape(batch: Batch, raw: RawBands) -> tuple[int, int, int]:
    shape, name = raw.quantiles.shape, batch.query.model
    if len(shape) != 3 or shape[0] != batch.values.shape[0] or shape[2] != raw.levels.size:
        raise InvalidAnswerError(f"{name}: quantiles of shape {shape}")
    if not (shape[1] and shape[2]):
        raise InvalidAnswerError(f"{name}: quantiles are empty")
    return shape


def _refused(batch: Batch, raw: RawBands) -> NDArray[np.bool_] | None:
    """[B] the series that get no answer; None where all get one."""
    finite = np.isfinite(raw.quantiles)
    if finite.all():
        return raw.refused
    known = np.zeros(finite.shape[0], dtype=np.bool_) if raw.refused is None else raw.refused
    refused: NDArray[np.bool_] = np.logical_or(~finite.all(axis=(1, 2)), known)
    if refused.all() and not known.all():
        raise InvalidAnswerError(f"{batch.query.model}: quantiles are not finite")
    return refused
