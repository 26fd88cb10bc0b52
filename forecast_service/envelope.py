"""What travels between the gateway and a replica: batches there, answers or failures back.

Plain tuples travel faster than nested classes. Each batch of a call has its own result, so that
one that fails does not fail the others.
"""

from __future__ import annotations

from typing import Any

from forecast_service.batch import Batch, BatchAnswer, InvalidAnswerError, Query
from forecast_service.models.errors import (
    ModelAway,
    ModelBroke,
    ModelError,
    ModelLate,
    ModelRefused,
)

Packed = tuple[Any, ...]
"""A batch or a result as a tuple."""

ANSWER = "answer"
"""Kind of a result that is an answer."""
_FAILURES: dict[str, type[Exception]] = {
    "late": ModelLate,
    "invalid": InvalidAnswerError,
    "away": ModelAway,
    "broke": ModelBroke,
    "refused": ModelRefused,
    "failed": ModelError,
}
"""Kinds of failure, the particular ones first."""


def pack(batch: Batch) -> Packed:
    """A batch as a tuple."""
    query = batch.query
    asked = (query.model, query.horizon_steps, query.levels, query.transform)
    return (*asked, query.freq_seconds, query.limits), batch.values, batch.steps_to_event


def unpack(packed: Packed) -> Batch:
    """The batch that `pack` made a tuple of."""
    asked, values, steps_to_event = packed
    return Batch(Query(*asked), values, steps_to_event)


def pack_answer(given: BatchAnswer) -> Packed:
    """An answer as a tuple."""
    told = (given.effective_horizon, given.source)
    return ANSWER, (given.quantiles, given.flags, given.adjusted, *told)


def pack_failure(error: Exception) -> Packed:
    """A failure as a tuple; its class survives as the nearest kind that the caller knows."""
    if isinstance(error, TimeoutError):
        return "late", str(error)
    for kind, known in _FAILURES.items():
        if isinstance(error, known):
            return kind, str(error)
    return "failed", repr(error)


def unpack_result(packed: Packed) -> BatchAnswer | Exception:
    """The answer to a batch, or why there is none."""
    kind, told = packed
    return BatchAnswer(*told) if kind == ANSWER else _FAILURES[kind](told)
