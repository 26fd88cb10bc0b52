"""A resolved market as a post-mortem looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from calibration_service.postmortem.price_path import Move

SCORED = ("RESOLVED_TRUE", "RESOLVED_FALSE")
WITHOUT_SCORE = {
    "VOID": "The market was void: no outcome is true, so no price is scored.",
    "MULTI_OUTCOME": "The market has more than two outcomes: the price of one of them is not "
    "scored as YES or NO.",
}
"""Labels of closed markets that get a short post-mortem, and why it holds no score."""

DAY_BEFORE, HOUR_BEFORE = "T-24h", "T-1h"


@dataclass(frozen=True, slots=True)
class Cutoff:
    """A price at a fixed time before the end.

    Attributes:
        name: "T-24h" or "T-1h".
        time: instant of the price, aware UTC.
        p_yes: in [0, 1].
        brier: (p_yes - outcome)².
        right: whether the price favoured what happened; None at exactly 1/2.
        calibrated: what the recalibration in force then made of it; None without one.
        age_seconds: how old the price was at the cutoff; None where unknown.
        liquidity: bucket then; "" where unknown.
        spread: of bid and ask then, in [0, 1]; None where unknown.
    """

    name: str
    time: datetime
    p_yes: float
    brier: float
    right: bool | None
    calibrated: float | None
    age_seconds: float | None
    liquidity: str
    spread: float | None


@dataclass(frozen=True, slots=True)
class Risk:
    """What could be argued about in the question; see ``question_quality``."""

    ambiguity: float
    resolution_risk: float
    scored_by: str
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that was raised about the market; ``time`` is aware UTC."""

    alert_id: str
    time: datetime
    severity: str


@dataclass(frozen=True, slots=True)
class Case:
    """What is known of a resolved market.

    Attributes:
        market_id: whose.
        label: as in ``label_status``.
        winner: outcome that won; "" where none did.
        reason: why it has this label; "" where nobody said.
        resolved_at: aware UTC.
        prices: how many prices were recorded before.
        cutoffs: T-24h before T-1h; none for a market without a score.
        moves: the largest first.
        risk: None where nobody has read the question.
        alerts: raised before the resolution, oldest first.
    """

    market_id: str
    label: str
    winner: str
    reason: str
    resolved_at: datetime
    prices: int
    cutoffs: tuple[Cutoff, ...]
    moves: tuple[Move, ...]
    risk: Risk | None
    alerts: tuple[Alert, ...]

    @property
    def is_scored(self) -> bool:
        """Whether the outcome is YES or NO."""
        return self.label in SCORED

    def cutoff(self, name: str) -> Cutoff | None:
        """The price at a cutoff; None where there was none."""
        return next((one for one in self.cutoffs if one.name == name), None)
