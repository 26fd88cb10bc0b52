"""TimesFM 2.5 from a local folder, through the package ``timesfm``.

Needs the extra ``[timesfm]``. Nothing is fetched: the folder holds ``model.safetensors``. The
model gets log-odds, so that what it answers lies between 0 and 1.
"""

from __future__ import annotations

import threading
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

PATCH = 128
"""Steps that one decoding gives; whole ones are always computed."""


class TimesFM:
    """A loaded TimesFM 2.5.

    Args:
        card: what is known of the model; ``upstream`` is its class in the package.
        folder: its verified weights.
        threads: threads of one run.
        clock: monotonic seconds.

    Raises:
        WeightsError: the folder does not hold this model.
    """

    def __init__(
        self,
        card: ModelCard,
        folder: Path,
        *,
        threads: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        import timesfm
        from safetensors import SafetensorError

        limit_threads(threads)
        self._config: Any = timesfm.ForecastConfig
        self._model: Any = getattr(timesfm, card.upstream)(torch_compile=False)
        try:
            self._model.load_checkpoint(str(folder))
        except (OSError, RuntimeError, SafetensorError) as error:
            raise WeightsError(f"{card.name}: {folder} cannot be loaded: {error}") from error
        self._card = card
        self._clock = clock
        self._levels = np.asarray(card.levels)
        self._one_at_a_time = threading.Lock()

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Deciles, up to the model's own horizon.

        Raises:
            TimeoutError: ``budget`` seconds are over before the last series had its turn.
            InvalidAnswerError: the model answered with another shape.
        """
        until = self._clock() + budget
        series = contexts(batch, self._card)
        steps = min(batch.query.horizon_steps, self._card.max_horizon)
        blocks = []
        for start in range(0, len(series), CHUNK):
            if self._clock() >= until:
                raise TimeoutError(f"{self._card.name}: {start} of {len(series)} series in time")
            blocks.append(self._run(series[start : start + CHUNK], steps))
        return RawBands(batch.query.transform.inverse(np.concatenate(blocks)), self._levels)

    def _run(self, series: list[FloatArray], steps: int) -> FloatArray:
        # To compile is to choose sizes; it compiles nothing here, but it changes the model.
        config = self._config(
            max_context=max(row.size for row in series),
            max_horizon=-(-steps // PATCH) * PATCH,
            per_core_batch_size=len(series),
            normalize_inputs=True,
            use_continuous_quantile_head=True,
            infer_is_positive=False,
            fix_quantile_crossing=True,
        )
        with self._one_at_a_time:
            self._model.compile(config)
            _, given = self._model.forecast(steps, list(series))
        found = np.asarray(given, dtype=np.float64)
        if found.shape != (len(series), steps, 1 + self._levels.size):
            raise InvalidAnswerError(f"{self._card.name}: quantiles of shape {found.shape}")
        return found[:, :, 1:]  # the first is the mean
