"""The baselines as a model."""

from __future__ import annotations

import numpy as np

from forecast_service.baselines.registry import forecast
from forecast_service.batch import Batch, BatchAnswer
from forecast_service.models import port
from forecast_service.models.port import RawBands


class Baselines:
    """Every baseline; the query says which. They have no weights and need no other process."""

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Quantiles at every level and step that is asked for."""
        del budget  # arithmetic of some milliseconds
        query = batch.query
        levels = np.asarray(query.levels)
        raw = forecast(
            query.model,
            batch.values,
            horizon_steps=query.horizon_steps,
            levels=levels,
            transform=query.transform,
        )
        return RawBands(raw.quantiles, levels, raw.flags, raw.effective_horizon)


BASELINE_MODEL = Baselines()


def answer(batch: Batch) -> BatchAnswer:
    """The finished answer of the batch's baseline."""
    return port.answer(BASELINE_MODEL, batch, 0.0)
