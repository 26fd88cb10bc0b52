"""The requests of a load: every caller sends series that no other one sends."""

from __future__ import annotations

import numpy as np

from marketcal.v1 import forecast_pb2 as pb

POINTS = 288
HORIZON_STEPS = 12
DISTINCT = 512
"""Distinct series of one load; our gateway has no cache that they could hit."""


def forecast_request(number: int) -> pb.ForecastRequest:
    """A logit random walk of 288 points, a function of its number."""
    rng = np.random.default_rng([7, number])
    prices = 1.0 / (1.0 + np.exp(-np.cumsum(rng.normal(0.0, 0.05, POINTS))))
    return pb.ForecastRequest(
        market_id=f"benchmark:{number}", values=prices, horizon_steps=HORIZON_STEPS
    )
