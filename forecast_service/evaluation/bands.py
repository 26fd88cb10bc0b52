"""Bands of models for windows, as they would be served but for the limits of width.

The limits are left out because they would hide how models differ where prices hardly move.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from forecast_service.batch import Batch, Query
from forecast_service.evaluation.windows import BoolArray, Windows
from forecast_service.models import port
from forecast_service.models.port import Model
from forecast_service.postprocess import WidthLimits
from forecast_service.transform import FloatArray, Space, Transform

LEVELS = np.array([0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975])
"""The 80 % and the 95 % band, the middle half and the median."""
CLIP = 0.0005
"""Prices are clipped to [CLIP, 1 - CLIP], in contexts as in targets."""
_ANY_WIDTH = WidthLimits(0.0, 1.0)
_AT_ONCE = 512


@dataclass(frozen=True, slots=True, eq=False)
class ModelBands:
    """The bands of one model.

    Attributes:
        quantiles: [N, H, Q] at `LEVELS`; NaN where the model refused to answer.
        refused: [N] bool.
    """

    quantiles: FloatArray
    refused: BoolArray


def clipped(windows: Windows) -> Windows:
    """The windows with prices within [CLIP, 1 - CLIP]."""
    return Windows(
        windows.family, windows.market, windows.event, windows.origin, windows.step,
        np.clip(windows.context, CLIP, 1.0 - CLIP), np.clip(windows.target, CLIP, 1.0 - CLIP),
        windows.steps_to_event,
    )  # fmt: skip


def bands_of(model: Model, name: str, windows: Windows, *, budget: float) -> ModelBands:
    """The bands of a model for all windows.

    Args:
        model: answers in this process.
        name: what it is asked as.
        budget: seconds for one batch.

    Raises:
        InvalidAnswerError: its answer is malformed.
        TimeoutError: it takes too long.
    """
    horizon = windows.target.shape[1]
    found = np.full((len(windows), horizon, LEVELS.size), np.nan)
    for step in np.unique(windows.step).tolist():
        query = Query(
            name, horizon, tuple(LEVELS.tolist()), Transform(Space.LOGIT, CLIP), int(step),
            _ANY_WIDTH,
        )  # fmt: skip
        places = np.flatnonzero(windows.step == step)
        for start in range(0, places.size, _AT_ONCE):
            rows = places[start : start + _AT_ONCE]
            batch = Batch(query, windows.context[rows], windows.steps_to_event[rows])
            found[rows] = port.answer(model, batch, budget).quantiles
    return ModelBands(found, np.isnan(found).any(axis=(1, 2)))
