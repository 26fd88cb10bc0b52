"""The three gates: whether a breach counts, what stands behind it, what holds it back.

- *Gate 1*: outside the alert band for `consecutive_bars` closed bars in a row, and the move is at
  least `minimum_move_ticks` ticks and `minimum_move`. The move is the distance of the price from
  where it stood when the reference was issued, or from the centre of the reference's inner band at
  the first bar outside, whichever is nearer: neither a slow drift nor a badly centred forecast
  makes a move.
- *Gate 2*: open interest fell by enough in an hour; the volume of an hour is a multiple of the mean
  hourly volume of the day before, which needs some hours of history.
- *Gate 3*: the question is not too ambiguous.

HIGH has both structures of gate 2, MED one, FYI none. Ambiguity or trust that is unknown or not
enough, or an unknown tick, makes FYI of anything; a band that was left and has no measured outcomes
behind it takes one severity away. A missing input counts as no structure and leaves its code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import Breach
from calibration_service.alerts.values import Fact, Observation, Reason, Severity, rounded

_ROUNDING = 1e-9
"""Slack of a move: prices are ticks in binary."""
SMALLEST_MEAN_CONTRACTS = 0.01
"""Mean contracts an hour below which there is no usual volume to be a multiple of."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gates say of a bar outside its band.

    Attributes:
        severity: None where gate 1 does not hold.
        codes: what held and what did not.
    """

    severity: Severity | None
    codes: tuple[Reason, ...]


def judge(breach: Breach, observation: Observation, policy: AlertPolicy) -> Verdict:
    """The verdict on a bar at which the price stands outside the band of a breach."""
    if breach.outside < policy.consecutive_bars:
        return Verdict(None, (Reason.TOO_FEW_BARS,))
    if move_of(breach, observation.price) < smallest_move(observation, policy) - _ROUNDING:
        return Verdict(None, (Reason.MOVE_TOO_SMALL,))
    structures = _structures(observation, policy)
    caps = _caps(observation, policy)
    found = sum(code in (Reason.OPEN_INTEREST_DROP, Reason.VOLUME_BURST) for code in structures)
    severity = Severity.FYI if caps else Severity(1 + found)
    dampened = () if breach.reference.band.is_corrected else (Reason.LOW_CONFIDENCE,)
    if dampened:
        severity = Severity(max(Severity.FYI, severity - 1))
    left: tuple[Reason, ...] = (Reason.BAND_LEFT,)
    if breach.reference.band.fallback_reason:
        left += (Reason.FALLBACK_BAND,)
    return Verdict(severity, left + structures + caps + dampened)


def move_of(breach: Breach, price: float) -> float:
    """Distance of a price from where the forecast stood, see gate 1."""
    band = breach.reference.band
    step = band.step_at(breach.start_ms) or 0
    away = abs(price - 0.5 * (band.inner_low[step] + band.inner_high[step]))
    before = breach.reference.price
    return away if before is None else min(away, abs(price - before))


def smallest_move(observation: Observation, policy: AlertPolicy) -> float:
    """The smallest move that counts; of an unknown tick only the probability is asked for."""
    ticks = policy.minimum_move_ticks * observation.tick_size if _has_tick(observation) else 0.0
    return max(policy.minimum_move, ticks)


def volume_ratio(observation: Observation) -> float:
    """Volume of the last hour over the mean hour of the day before; NaN where unknown."""
    volume, mean = observation.volume_60m, observation.mean_hourly_volume_24h
    known = math.isfinite(volume) and math.isfinite(mean) and mean >= SMALLEST_MEAN_CONTRACTS
    ratio = volume / mean if known else math.nan
    return ratio if math.isfinite(ratio) else math.nan


def facts(breach: Breach, observation: Observation, policy: AlertPolicy) -> tuple[Fact, ...]:
    """The evidence of an alert in a fixed order, without what is missing."""
    band = breach.reference.band
    step = band.step_at(observation.at_ms) or 0
    end = band.high[step] if breach.direction == "UP" else band.low[step]
    known: tuple[tuple[str, float | None, float | None], ...] = (
        ("price", observation.price, end),
        ("band_low", band.low[step], None),
        ("band_high", band.high[step], None),
        ("inner_low", band.inner_low[step], None),
        ("inner_high", band.inner_high[step], None),
        ("price_at_forecast", breach.reference.price, None),
        ("move", move_of(breach, observation.price), smallest_move(observation, policy)),
        ("bars_outside", breach.outside, policy.consecutive_bars),
        ("bar_high", observation.high, None),
        ("bar_low", observation.low, None),
        ("tick_size", observation.tick_size, None),
        ("open_interest_change_60m", observation.open_interest_change_60m,
         policy.open_interest_change_at_most),
        ("volume_60m", observation.volume_60m, None),
        ("mean_hourly_volume_24h", observation.mean_hourly_volume_24h, None),
        ("volume_history_hours", observation.volume_history_hours, policy.volume_history_hours),
        ("volume_ratio_60m", volume_ratio(observation), policy.volume_ratio_at_least),
        ("ambiguity", observation.ambiguity, policy.ambiguity_at_most),
        ("trust", observation.trust, policy.trust_at_least),
    )  # fmt: skip
    return tuple(
        Fact(name, rounded(value), None if threshold is None else rounded(threshold))
        for name, value, threshold in known
        if value is not None and math.isfinite(value)
    )


def _structures(observation: Observation, policy: AlertPolicy) -> tuple[Reason, ...]:
    return (*_open_interest(observation, policy), *_volume(observation, policy))


def _open_interest(observation: Observation, policy: AlertPolicy) -> tuple[Reason, ...]:
    change = observation.open_interest_change_60m
    if not math.isfinite(change):
        return (Reason.OPEN_INTEREST_UNKNOWN,)
    dropped = change <= policy.open_interest_change_at_most
    return (Reason.OPEN_INTEREST_DROP,) if dropped else ()


def _volume(observation: Observation, policy: AlertPolicy) -> tuple[Reason, ...]:
    ratio, hours = volume_ratio(observation), observation.volume_history_hours
    if math.isnan(ratio) or not math.isfinite(hours):
        return (Reason.VOLUME_UNKNOWN,)
    if hours < policy.volume_history_hours:
        return (Reason.VOLUME_HISTORY_SHORT,)
    return (Reason.VOLUME_BURST,) if ratio >= policy.volume_ratio_at_least else ()


def _caps(observation: Observation, policy: AlertPolicy) -> tuple[Reason, ...]:
    """Why the alert is FYI at most; nothing where it is not."""
    ambiguity, trust = observation.ambiguity, observation.trust
    found = (
        (Reason.AMBIGUITY_UNKNOWN, not math.isfinite(ambiguity)),
        (Reason.AMBIGUOUS, ambiguity > policy.ambiguity_at_most),
        (Reason.TRUST_UNKNOWN, not math.isfinite(trust)),
        (Reason.TRUST_LOW, trust < policy.trust_at_least),
        (Reason.TICK_UNKNOWN, not _has_tick(observation)),
    )
    return tuple(code for code, holds in found if holds)


def _has_tick(observation: Observation) -> bool:
    return math.isfinite(observation.tick_size) and observation.tick_size > 0.0
