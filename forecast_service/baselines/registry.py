"""The table of baseline methods and the one function that runs them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecast_service.baselines.context import Band, Context, context_of
from forecast_service.baselines.exponential import ewma
from forecast_service.baselines.local_level import local_level
from forecast_service.baselines.random_walk import last_value, random_walk
from forecast_service.baselines.rolling_quantile import rolling_quantile
from forecast_service.baselines.select import auto
from forecast_service.transform import LOGIT, FloatArray, Transform


class Method(Protocol):
    """A band method: working-space context in, working-space quantiles out."""

    def __call__(self, context: Context, *, horizon_steps: int, levels: FloatArray) -> Band:
        """Quantiles of every step for every row."""
        ...


@dataclass(frozen=True, slots=True)
class Baseline:
    """One row of the table of methods.

    Attributes:
        name: what a request calls it.
        summary: one line for people.
        method: the kernel.
    """

    name: str
    summary: str
    method: Method


BASELINES: Mapping[str, Baseline] = MappingProxyType(
    {
        entry.name: entry
        for entry in (
            Baseline("last_value", "the last price, as a point", last_value),
            Baseline("random_walk", "EWMA variance of increments, growing by √h", random_walk),
            Baseline("ewma", "exponential smoothing with its own variance", ewma),
            Baseline("local_level", "Kalman filter of a random walk in noise", local_level),
            Baseline("rolling_quantile", "empirical quantiles of increments", rolling_quantile),
            Baseline("auto", "the best of three by one-step likelihood", auto),
        )
    }
)
"""All methods by name."""

DEFAULT_BASELINE = "ewma"
"""Quick, and a random walk where the data are one (smoothing weight 1 is on its grid)."""


@dataclass(frozen=True, slots=True)
class BandResult:
    """Bands of a batch.

    Attributes:
        quantiles: [B, H, Q] float64 in [0, 1], not decreasing along Q.
        flags: [B] int64, bits of `BaselineFlag`.
        effective_horizon: last step that the method gives by itself; baselines give all.
    """

    quantiles: FloatArray
    flags: NDArray[np.int64]
    effective_horizon: int


def forecast(
    name: str,
    values: FloatArray,
    *,
    horizon_steps: int,
    levels: FloatArray,
    transform: Transform = LOGIT,
) -> BandResult:
    """Quantile bands of a batch of price series by a named baseline.

    Args:
        name: key of ``BASELINES``.
        values: [B, T] float64 in [0, 1], NaN = missing, oldest first; T ≥ 1 and at least one
            finite value in each row.
        horizon_steps: H ≥ 1.
        levels: [Q] float64 in (0, 1), strictly increasing.
        transform: working space.

    Raises:
        KeyError: no method of this name.
        ValueError: a row without a finite value.

    >>> band = forecast("random_walk", np.array([[0.5, 0.52, 0.51]]), horizon_steps=2,
    ...                 levels=np.array([0.1, 0.5, 0.9]))
    >>> band.quantiles.shape, float(band.quantiles[0, 0, 1].round(4))
    ((1, 2, 3), 0.51)
    """
    method = BASELINES[name].method
    context = context_of(transform.forward(values))
    band = method(context, horizon_steps=horizon_steps, levels=levels)
    return BandResult(transform.inverse(band.quantiles), band.flags, horizon_steps)
