"""What tests of alerts share: bars, and a fold of the engine over them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from calibration_service.alerts import store
from calibration_service.alerts.engine import Diagnostics, step
from calibration_service.alerts.policy import AlertPolicy, load_policy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import (
    RULE,
    Alert,
    Band,
    Direction,
    Fact,
    Observation,
    Reason,
    Severity,
    derived_id,
)
from market_data.control_store import prepare, write_ahead

MINUTE = 60_000
START = 1_790_000_100_000 // (5 * MINUTE) * (5 * MINUTE)
"""End of a 5-minute bar."""
MARKET = "polymarket:1"


def band_at(issued: int, centre: float, width: float = 0.05, *, is_corrected: bool = True) -> Band:
    """A flat band of twelve steps around a price; the inner band is half as wide."""
    return Band(
        issued_ms=issued, step_ms=5 * MINUTE,
        low=(centre - width,) * 12, high=(centre + width,) * 12,
        inner_low=(centre - width / 2,) * 12, inner_high=(centre + width / 2,) * 12,
        model="test", is_corrected=is_corrected,
    )  # fmt: skip


def bar(minute: int, price: float, band: Band | None, **changed: Any) -> Observation:
    """A bar that ends ``minute`` minutes after START; quiet in everything but the price."""
    given: dict[str, Any] = {
        "market_id": MARKET, "at_ms": START + minute * MINUTE, "price": price, "high": price,
        "low": price, "band": band, "volume_60m": 100.0, "mean_hourly_volume_24h": 100.0,
        "volume_history_hours": 24.0, "open_interest_change_60m": 0.0, "ambiguity": 0.1,
        "trust": 80.0, "tick_size": 0.01,
    }  # fmt: skip
    return Observation(**given | changed)


def path_of(
    prices: Iterable[float], *, width: float = 0.05, is_corrected: bool = True, **changed: Any
) -> list[Observation]:
    """Bars of a price path; every fifth bar issues a band around its own price."""
    found: list[Observation] = []
    band = None
    for minute, price in enumerate(prices):
        if minute % 5 == 0 and math.isfinite(price):
            band = band_at(START + minute * MINUTE, price, width, is_corrected=is_corrected)
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


def alert_at(minute: int, severity: Severity = Severity.MED, market: str = MARKET) -> Alert:
    """An alert of its own episode."""
    at_ms = START + minute * MINUTE
    return Alert(
        alert_id=derived_id(at_ms, market, RULE, at_ms, int(severity)), market_id=market,
        at_ms=at_ms, severity=severity, rule=RULE, direction=Direction.UP,
        episode_id=derived_id(at_ms, market), reason_codes=(Reason.BAND_LEFT,),
        evidence=(Fact("price", 0.7, 0.55), Fact("tick_size", 0.01)),
        explanation_lines=("The price 0.7 is above 0.55.",), policy_version="alerts-1+00000000",
    )  # fmt: skip


class Tools:
    """The functions above, for the test modules."""

    START = START
    MINUTE = MINUTE
    MARKET = MARKET
    band = staticmethod(band_at)
    bar = staticmethod(bar)
    path = staticmethod(path_of)
    fold = staticmethod(fold)
    alert = staticmethod(alert_at)


@pytest.fixture(scope="session")
def tools() -> type[Tools]:
    return Tools


@pytest.fixture(scope="session")
def policy() -> AlertPolicy:
    return load_policy()


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty store with the tables of alerts."""
    if request.param == "sqlite":
        made = write_ahead(sa.create_engine(f"sqlite:///{tmp_path}/control.db"))
    else:
        server = str(request.getfixturevalue("postgresql"))
        admin = sa.create_engine(server, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
        with admin.connect() as connection:
            connection.execute(sa.text("DROP DATABASE IF EXISTS control WITH (FORCE)"))
            connection.execute(sa.text("CREATE DATABASE control"))
        made = sa.create_engine(server.replace("/postgres?", "/control?"), pool_size=12)
    prepare(made, store.METADATA)
    yield made
    made.dispose()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[sa.Engine]:
    """An empty store in a file."""
    made = write_ahead(sa.create_engine(f"sqlite:///{tmp_path}/control.db"))
    prepare(made, store.METADATA)
    yield made
    made.dispose()


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW
