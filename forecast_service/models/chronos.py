"""Chronos-Bolt and Chronos-2 from a local folder, through the package ``chronos-forecasting``.

Needs the extra ``[chronos]``. Nothing is fetched: the folder holds ``config.json`` and
``model.safetensors``. The models scale their input by themselves; they get log-odds, so that what
they answer lies between 0 and 1.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from forecast_service.batch import Batch, InvalidAnswerError
from forecast_service.models.catalog import ModelCard
from forecast_service.models.errors import WeightsError
from forecast_service.models.port import RawBands
from forecast_service.models.torch_runtime import CHUNK, contexts, limit_threads
from forecast_service.transform import FloatArray

_PIPELINES = {"ChronosBolt": "ChronosBoltPipeline", "Chronos2": "Chronos2Pipeline"}


class Chronos:
    """A loaded pipeline.

    Args:
        card: what is known of the model; ``upstream`` is the kind of its pipeline.
        folder: its verified weights.
        threads: threads of one run.
        clock: monotonic seconds.

    Raises:
        WeightsError: the folder holds another kind of model, or none.
    """

    def __init__(
        self,
        card: ModelCard,
        folder: Path,
        *,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import chronos

        limit_threads(threads)
        kind = getattr(chronos, _PIPELINES[card.upstream])
        try:
            self._pipeline: Any = kind.from_pretrained(
                str(folder), device_map="cpu", local_files_only=True, dtype="float32"
            )
        except (OSError, ValueError, KeyError, AssertionError) as error:
            raise WeightsError(f"{card.name}: {folder} cannot be loaded: {error}") from error
        self._card = card
        self._clock = clock
        self._levels = [float(level) for level in self._pipeline.quantiles]
        self._horizon = min(int(self._pipeline.model_prediction_length), card.max_horizon)

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Quantiles at the model's own levels, up to its own horizon.

        Raises:
            TimeoutError: ``budget`` seconds are over before the last series had its turn.
            InvalidAnswerError: the model answered with another shape.
        """
        until = self._clock() + budget
        series = contexts(batch, self._card)
        steps = min(batch.query.horizon_steps, self._horizon)
        blocks = []
        for start in range(0, len(series), CHUNK):
            if self._clock() >= until:
                raise TimeoutError(f"{self._card.name}: {start} of {len(series)} series in time")
            blocks.append(self._run(series[start : start + CHUNK], steps))
        quantiles = batch.query.transform.inverse(np.concatenate(blocks))
        return RawBands(quantiles, np.asarray(self._levels))

    def _run(self, series: list[FloatArray], steps: int) -> FloatArray:
        import torch

        inputs = [torch.from_numpy(row.astype(np.float32)) for row in series]
        with torch.inference_mode():
            given, _ = self._pipeline.predict_quantiles(
                inputs, prediction_length=steps, quantile_levels=self._levels
            )
        # Chronos-Bolt gives one tensor [B, n, K]; Chronos-2 a list of [1, n, K].
        found = torch.cat(list(given)) if isinstance(given, list) else given
        if tuple(found.shape) != (len(series), steps, len(self._levels)):
            raise InvalidAnswerError(f"{self._card.name}: quantiles of shape {tuple(found.shape)}")
        return np.asarray(found.numpy(), dtype=np.float64)
