"""One budget per request: what the model may take of it, and what is kept for a baseline."""

from __future__ import annotations

from dataclasses import dataclass

BASELINE_SECONDS = 0.05
"""Kept of every budget for a baseline, in this process or, where it may not compute, on Ray."""
HASTE_SECONDS = 0.25
"""A call with less time that ends without an answer says nothing about its backend."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """When a request must be answered, in seconds of the process's clock."""

    at: float

    def for_model(self, now: float, most: float) -> float:
        """Seconds that a model may take, at most ``most``; 0 or less when none are left.

        >>> Deadline(10.0).for_model(9.0, most=5.0), Deadline(10.0).for_model(9.0, most=0.3)
        (0.95, 0.3)
        """
        return min(most, self.at - now - BASELINE_SECONDS)

    def for_baseline(self, now: float) -> float:
        """Seconds that a baseline may take: always enough for it."""
        return max(self.at - now, BASELINE_SECONDS)
