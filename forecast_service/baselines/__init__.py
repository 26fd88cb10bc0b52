"""Classical band methods, vectorised over a batch of series with missing values.

``forecast(name, values, …)`` runs one of ``BASELINES``; ``DEFAULT_BASELINE`` is what a request
without a model gets when no model can answer.
"""

from forecast_service.baselines.context import BaselineFlag
from forecast_service.baselines.registry import (
    BASELINES,
    DEFAULT_BASELINE,
    BandResult,
    Baseline,
    forecast,
)

__all__ = ["BASELINES", "DEFAULT_BASELINE", "BandResult", "Baseline", "BaselineFlag", "forecast"]
