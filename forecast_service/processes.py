"""Simulated price processes in logit space, with known truth, to measure bands against.

Every generator returns ``[N, length]`` float64 log-odds and draws from the Generator it is given.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy import signal

from forecast_service.transform import FloatArray, expit, logit

SCALE = 0.03
"""Standard deviation of a one-step logit innovation, near that of a 5-minute step."""


class Process(Protocol):
    """A simulated process."""

    def __call__(self, rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
        """``[series, length]`` float64 log-odds."""
        ...


def random_walk(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """Gaussian random walk."""
    return np.cumsum(rng.normal(0.0, SCALE, (series, length)), axis=1)


def noisy_walk(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """Random walk seen through noise of twice its step (a bid-ask bounce): Q / R = 1 / 4."""
    return random_walk(rng, series=series, length=length) + rng.normal(
        0.0, 2.0 * SCALE, (series, length)
    )


def mean_reverting(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """Stationary AR(1) with coefficient 0.9."""
    phi, burn = 0.9, 100
    shocks = rng.normal(0.0, SCALE, (series, burn + length))
    return np.asarray(signal.lfilter([1.0], [1.0, -phi], shocks)[:, burn:])


def jump_diffusion(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """Random walk with jumps: 2 % of steps add a normal jump of eight times the scale."""
    jumps = (rng.random((series, length)) < 0.02) * rng.normal(0.0, 8.0 * SCALE, (series, length))
    return np.cumsum(rng.normal(0.0, SCALE, (series, length)) + jumps, axis=1)


def integrated_average(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """ARIMA(0,1,1) with smoothing weight α = 0.3: the process of exponential smoothing."""
    alpha = 0.3
    shocks = rng.normal(0.0, SCALE, (series, length))
    steps = shocks.copy()
    steps[:, 1:] -= (1.0 - alpha) * shocks[:, :-1]
    return np.cumsum(steps, axis=1)


def ticking_walk(rng: np.random.Generator, *, series: int, length: int) -> FloatArray:
    """Random walk of small steps rounded to cent prices: most steps are unchanged."""
    price = expit(np.cumsum(rng.normal(0.0, 0.01, (series, length)), axis=1))
    return logit(np.clip(np.round(price, 2), 0.01, 0.99))


PROCESSES: dict[str, Process] = {
    "random_walk": random_walk,
    "noisy_walk": noisy_walk,
    "mean_reverting": mean_reverting,
    "jump_diffusion": jump_diffusion,
    "integrated_average": integrated_average,
    "ticking_walk": ticking_walk,
}
"""All processes by name."""
