"""What Chronos and TimesFM share: PyTorch within bounds, and series as they want them."""

from __future__ import annotations

import numpy as np

from forecast_service.batch import Batch
from forecast_service.models.catalog import ModelCard
from forecast_service.transform import FloatArray

CHUNK = 32
"""Series per run; between two runs the deadline is looked at."""


def limit_threads(threads: int) -> None:
    """Keeps PyTorch from taking every core of the machine."""
    import torch

    torch.set_num_threads(threads)


def contexts(batch: Batch, card: ModelCard) -> list[FloatArray]:
    """The series of a batch in the working space, each from its first value on; gaps are NaN."""
    values = batch.query.transform.forward(batch.values[:, -card.max_context :])
    return [row[int(np.argmax(np.isfinite(row))) :] for row in values]
