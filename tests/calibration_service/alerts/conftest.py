"""What tests of alerts share: bars, and a fold of the engine over them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest

from calibration_service.alerts.engine import Diagnostics, step
from calibration_service.alerts.policy import AlertPolicy, load_policy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import Alert, Band, Observation, Severity

MINUTE = 60_000
START = 1_790_000_100_000 // (5 * MINUTE) * (5 * MINUTE)
"""End of a 5-minute bar."""
MARKET = "polymarket:1"


def band_at(issued: int, centre: float, width: float = 0.05) -> Band:
    """A flat band of twelve steps around a price; the inner band is half as wide."""
    return Band(
        issued_ms=issued, step_ms=5 * MINUTE,
        low=(centre - width,) * 12, high=(centre + width,) * 12,
        inner_low=(centre - width / 2,) * 12, inner_high=(centre + width / 2,) * 12,
        model="test",
    )  # fmt: skip


def bar(minute: int, price: float, band: Band | None, **changed: Any) -> Observation:
    """A bar that ends ``minute`` minutes after START; quiet in everything but the price."""
    given: dict[str, Any] = {
        "market_id": MARKET, "at_ms": START + minute * MINUTE, "price": price, "high": price,
        "low": price, "band": band, "volume_60m": 100.0, "mean_hourly_volume_24h": 100.0,
        "volume_history_hours": 24.0, "open_interest_change_60m": 0.0, "ambiguity": 0.1,
        "trust": 80.0, "low_confidence": False, "tick_size": 0.01,
    }  # fmt: skip
    return Observation(**given | changed)


def path_of(prices: Iterable[float], *, width: float = 0.05, **changed: Any) -> list[Observation]:
    """Bars of a price path; every fifth bar issues a band around its own price."""
    found: list[Observation] = []
    band = None
    for minute, price in enumerate(prices):
        if minute % 5 == 0 and math.isfinite(price):
            band = band_at(START + minute * MINUTE, price, width)
        found.append(bar(minute, price, band, **changed))
    return found


@dataclass
class Folded:
    """What the engine made of bars."""

    alerts: list[Alert] = field(default_factory=list)
    said: list[Diagnostics] = field(default_factory=list)
    states: list[MarketState] = field(default_factory=list)

    @property
    def severities(self) -> list[Severity]:
        return [alert.severity for alert in self.alerts]

    def codes(self) -> set[str]:
        return {code for one in self.said for code in one.codes}


def fold(bars: Iterable[Observation], policy: AlertPolicy) -> Folded:
    """The engine over bars of one market."""
    folded, state = Folded(), MarketState(MARKET)
    for observation in bars:
        outcome = step(state, observation, policy)
        state = outcome.state
        folded.alerts += outcome.alerts
        folded.said.append(outcome.diagnostics)
        folded.states.append(state)
    return folded


class Tools:
    """The functions above, for the test modules."""

    START = START
    MINUTE = MINUTE
    MARKET = MARKET
    band = staticmethod(band_at)
    bar = staticmethod(bar)
    path = staticmethod(path_of)
    fold = staticmethod(fold)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture(scope="session")
def policy() -> AlertPolicy:
    return load_policy()
