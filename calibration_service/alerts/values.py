"""What alerts are made of: bands, observations, facts, reasons and the alert itself."""

from __future__ import annotations

import hashlib
import math
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from calibration_service.alerts.errors import BadObservation

RULE = "BAND_BREACH"
"""The rule of `calibration_service.alerts.engine`."""
MISSING = math.nan


class Severity(IntEnum):
    """How strong the evidence of an alert is; the numbers are those of the contract."""

    FYI = 1
    MED = 2
    HIGH = 3


class Direction(StrEnum):
    """On which side of its band a price stands."""

    UP = "UP"
    DOWN = "DOWN"


class Reason(StrEnum):
    """Why something was raised, was held back, or was not judged; each has one meaning."""

    BAND_LEFT = "BAND_LEFT"  # outside the alert band for enough closed bars and far enough
    FALLBACK_BAND = "FALLBACK_BAND"  # the asked model did not answer; a baseline's band was left
    OPEN_INTEREST_DROP = "OPEN_INTEREST_DROP"  # structure: open interest fell enough in an hour
    VOLUME_BURST = "VOLUME_BURST"  # structure: the last hour's volume is a multiple of the usual
    OPEN_INTEREST_UNKNOWN = "OPEN_INTEREST_UNKNOWN"  # its change is missing
    VOLUME_UNKNOWN = "VOLUME_UNKNOWN"  # volume, mean or history is missing, or nothing was traded
    VOLUME_HISTORY_SHORT = "VOLUME_HISTORY_SHORT"  # too few hours for a ratio
    AMBIGUITY_UNKNOWN = "AMBIGUITY_UNKNOWN"  # nobody has judged the question: FYI at most
    AMBIGUOUS = "AMBIGUOUS"  # the question is too ambiguous: FYI at most
    TRUST_UNKNOWN = "TRUST_UNKNOWN"  # the market has no trust score: FYI at most
    TRUST_LOW = "TRUST_LOW"  # the trust score is below the floor: FYI at most
    TICK_UNKNOWN = "TICK_UNKNOWN"  # the move cannot be counted in ticks: FYI at most
    LOW_CONFIDENCE = (
        "LOW_CONFIDENCE"  # no measured outcomes behind the band that was left: one less
    )
    PRICE_UNKNOWN = "PRICE_UNKNOWN"  # not judged: the bar has no price
    BAND_UNKNOWN = "BAND_UNKNOWN"  # not judged: no usable forecast from before the bar
    TOO_FEW_BARS = "TOO_FEW_BARS"  # outside, and not yet for enough bars in a row
    MOVE_TOO_SMALL = "MOVE_TOO_SMALL"  # outside, and the move is below the smallest that counts
    SUPPRESSED = "SUPPRESSED"  # the feed is not to be trusted now: nothing opens or escalates
    ALREADY_RAISED = "ALREADY_RAISED"  # the episode has an alert of this severity or a higher one
    COOLDOWN = "COOLDOWN"  # too soon after the last alert for one that is not worse
    LATE_BAR = "LATE_BAR"  # the bar is not after the last one: ignored
    BACK_INSIDE = "BACK_INSIDE"  # the episode ended: the price is back
    EXPIRED = "EXPIRED"  # the episode ended: the band that was left is too old, the level accepted
    REVERSED = "REVERSED"  # the episode ended: the price left the band on the other side


_CODES = frozenset(Reason)


def reason_of(code: str) -> str:
    """A stored code as a `Reason`; one that a later version has added stays the text it is.

    >>> reason_of("BAND_LEFT") is Reason.BAND_LEFT, reason_of("ADDED_LATER")
    (True, 'ADDED_LATER')
    """
    return Reason(code) if code in _CODES else code


@dataclass(frozen=True, slots=True)
class Band:
    """A forecast issued at a closed 5-minute bar.

    Attributes:
        issued_ms: end of the bar at which it was issued, UTC milliseconds.
        step_ms: length of a step, milliseconds > 0.
        low, high: ends of the alert band for steps 1 … H, probabilities.
        inner_low, inner_high: ends of the 10-90 % band.
        model: which model answered.
        fallback_reason: why a baseline stood in; "" when the asked model answered.
        is_corrected: whether measured outcomes stand behind its levels.

    Raises:
        BadObservation: the sides differ in length, are empty, or a step has no length.
    """

    issued_ms: int
    step_ms: int
    low: tuple[float, ...]
    high: tuple[float, ...]
    inner_low: tuple[float, ...]
    inner_high: tuple[float, ...]
    model: str
    fallback_reason: str = ""
    is_corrected: bool = False

    def __post_init__(self) -> None:
        sides = (self.low, self.high, self.inner_low, self.inner_high)
        if len({len(side) for side in sides}) != 1 or not self.low:
            raise BadObservation("band: low, high, inner_low and inner_high need the same steps")
        if self.step_ms <= 0:
            raise BadObservation("band.step_ms: must be above 0")

    @property
    def is_usable(self) -> bool:
        """Whether all of it is known: a band with a hole is missing."""
        sides = (self.low, self.high, self.inner_low, self.inner_high)
        return all(math.isfinite(value) for side in sides for value in side)

    def step_at(self, at_ms: int) -> int | None:
        """Index of the step that ``at_ms`` falls into; None before the first and after the last."""
        step = -((self.issued_ms - at_ms) // self.step_ms)
        return step - 1 if 1 <= step <= len(self.low) else None


def band_of(found: Mapping[str, Any]) -> Band:
    """A band from its fields as JSON or a frame holds them: lists, and null for missing.

    Raises:
        BadObservation: see `Band`.
        KeyError: a field is missing.
    """
    sides = {
        side: tuple(MISSING if one is None else float(one) for one in found[side])
        for side in ("low", "high", "inner_low", "inner_high")
    }
    return Band(
        issued_ms=found["issued_ms"],
        step_ms=found["step_ms"],
        model=found["model"],
        fallback_reason=found["fallback_reason"],
        is_corrected=found["is_corrected"],
        **sides,
    )


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a market at the end of a closed 1-minute bar; NaN is missing.

    Attributes:
        market_id: the market.
        at_ms: end of the bar, UTC milliseconds.
        price: mid at the close, probability.
        high, low: of the bar's mids.
        band: forecast of the last closed 5-minute bar at or before ``at_ms``; None without one.
        volume_60m: volume of the last hour, contracts.
        mean_hourly_volume_24h: mean hourly volume of the 24 hours before that hour, contracts.
        volume_history_hours: hours of volume that the mean rests on.
        open_interest_change_60m: over the last hour, ratio; -0.2 is -20 %.
        ambiguity: of the question, in [0, 1].
        trust: score in [0, 100].
        tick_size: of the price.
        suppressed: why nothing may open or escalate now, such as STALE_FEED; "" when it may.

    Raises:
        BadObservation: the band is from after the bar.
    """

    market_id: str
    at_ms: int
    price: float
    high: float
    low: float
    band: Band | None
    volume_60m: float
    mean_hourly_volume_24h: float
    volume_history_hours: float
    open_interest_change_60m: float
    ambiguity: float
    trust: float
    tick_size: float
    suppressed: str = ""

    def __post_init__(self) -> None:
        if self.band is not None and self.band.issued_ms > self.at_ms:
            raise BadObservation("band.issued_ms: is after at_ms, which would be look-ahead")


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact that an alert rests on, finite and rounded to six decimals.

    Attributes:
        name: for example ``open_interest_change_60m``.
        value: what was measured.
        threshold: what it was held against; None where there is none.
    """

    name: str
    value: float
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert.

    Attributes:
        alert_id: from market, rule, episode and severity, and nothing else; its shape is that of a
            UUID version 7 of the episode's start.
        market_id: the market.
        at_ms: end of the bar that raised it, UTC milliseconds.
        severity: how strong the evidence is.
        rule: which rule raised it.
        direction: on which side the band was left.
        episode_id: from market, rule and the first bar outside.
        reason_codes: why it was raised, and what held it back: each a `Reason`, or what a later
            version of it has stored.
        evidence: the facts, in a fixed order.
        explanation_lines: at most five lines, made from the evidence alone.
        policy_version: stamp of the thresholds.
    """

    alert_id: str
    market_id: str
    at_ms: int
    severity: Severity
    rule: str
    direction: Direction
    episode_id: str
    reason_codes: tuple[str, ...]
    evidence: tuple[Fact, ...]
    explanation_lines: tuple[str, ...]
    policy_version: str


def derived_id(at_ms: int, *parts: object) -> str:
    """An id in the shape of a UUID version 7: the same time and parts always give the same one.

    >>> derived_id(0, "market", "rule") == derived_id(0, "market", "rule")
    True
    >>> uuid.UUID(derived_id(1_790_000_000_000, "a")).version
    7
    """
    text = "\0".join(map(str, parts))
    drawn = int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:10])
    low = drawn & ((1 << 62) - 1)
    middle = drawn >> 68
    number = (at_ms & ((1 << 48) - 1)) << 80 | 0x7 << 76 | middle << 64 | 0b10 << 62 | low
    return str(uuid.UUID(int=number))


def rounded(value: float) -> float:
    """Six decimals, and no negative zero."""
    return round(value, 6) + 0.0
