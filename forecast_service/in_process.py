"""Models in the caller's own process."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence

from forecast_service.batch import Batch, BatchAnswer
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.models.catalog import CATALOG, Family, configured
from forecast_service.models.loading import load
from forecast_service.models.port import Model
from forecast_service.replica import result_of
from forecast_service.settings import ForecastSettings
from forecast_service.settings import InProcess as Where

INLINE_NUMBERS = 64 * 512
"""Numbers in and out of baselines up to which handing them to a thread costs more than it frees."""
_NUMBERS_PER_BATCH = 2_000
"""What a batch costs besides its numbers: many small batches are no small work."""


class InProcess:
    """Answers batches in this process: short work of baselines at once, all else in a thread.

    Args:
        models: by name; None for the baselines.
        clock: monotonic seconds.
    """

    served_by = "in-process"

    def __init__(
        self,
        models: Mapping[str, Model] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._models = dict.fromkeys(CATALOG, BASELINE_MODEL) if models is None else models
        self._inline = models is None

    async def answer(
        self, batches: Sequence[Batch], budget: float
    ) -> list[BatchAnswer | Exception]:
        """One result per batch."""
        if self._inline and sum(map(_numbers, batches)) <= INLINE_NUMBERS:
            return self._answer_all(batches, budget)
        return await asyncio.to_thread(self._answer_all, batches, budget)

    def _answer_all(self, batches: Sequence[Batch], budget: float) -> list[BatchAnswer | Exception]:
        """A later batch has what earlier ones left of ``budget``; baselines are quick."""
        until = math.inf if self._inline else self._clock() + budget
        return [result_of(self._models, batch, until - self._clock()) for batch in batches]


def local_backends(settings: ForecastSettings) -> dict[str, InProcess]:
    """The backends in this process besides the baselines: all families where Ray is never asked.

    Raises:
        CatalogError: a configured model may not be used.
        WeightsError: weights are missing or are not those that are expected.
    """
    if settings.in_process is not Where.ALWAYS:
        return {}
    families: set[Family] = {card.family for card in configured(settings).values()}
    return {family.value: InProcess(load(settings, family)) for family in sorted(families)}


def _numbers(batch: Batch) -> int:
    rows = batch.values.shape[0]
    answers = rows * batch.query.horizon_steps * len(batch.query.levels)
    return int(batch.values.size + answers) + _NUMBERS_PER_BATCH
