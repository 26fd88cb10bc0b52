"""What each model has done since the process started: counts and histograms of fixed size."""

from __future__ import annotations

import math
from bisect import bisect_left
from dataclasses import dataclass, field

BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, math.inf)
"""Inclusive upper bounds, series per batch."""
LATENCY_BOUNDS_MS = (
    0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 2_000.0, math.inf,
)  # fmt: skip
"""Inclusive upper bounds, milliseconds per batch."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a histogram: ``count`` observations up to ``upper_bound``."""

    upper_bound: float
    count: int


class Histogram:
    """Counts by fixed bounds.

    Args:
        bounds: inclusive upper bounds, increasing, the last one infinite.

    Attributes:
        total: sum of all observations.
    """

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self._counts = [0] * len(bounds)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Counts one observation."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def bars(self) -> list[Bar]:
        """All bars, empty ones included."""
        return [Bar(*pair) for pair in zip(self._bounds, self._counts, strict=True)]


@dataclass(slots=True)
class ModelStatistics:
    """What one model has done.

    Attributes:
        requests: series that were sent to it.
        failures: those of them that came back without an answer.
        batch_sizes: series per batch.
        latencies_ms: milliseconds per batch.
    """

    requests: int = 0
    failures: int = 0
    batch_sizes: Histogram = field(default_factory=lambda: Histogram(BATCH_BOUNDS))
    latencies_ms: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS_MS))


class Statistics:
    """The statistics of all models; as many entries as there are models in the catalogue."""

    def __init__(self) -> None:
        self._models: dict[str, ModelStatistics] = {}

    def all(self) -> dict[str, ModelStatistics]:
        """The statistics of every model that has done something, by name."""
        return dict(self._models)

    def of(self, model: str) -> ModelStatistics:
        """The statistics of one model; empty when it has done nothing yet."""
        return self._models.get(model) or ModelStatistics()

    def record(self, model: str, *, series: int, failures: int, seconds: float) -> None:
        """Notes a batch of one model."""
        entry = self._models.setdefault(model, ModelStatistics())
        entry.requests += series
        entry.failures += failures
        entry.batch_sizes.observe(series)
        entry.latencies_ms.observe(seconds * 1e3)
