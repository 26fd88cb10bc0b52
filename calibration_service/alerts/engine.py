"""The alert engine: what one closed bar makes of what is known of a market.

`step` is a pure function of state, bar and policy. The stream worker calls it for each closed bar,
and `batch` folds it over recorded rows, so a replay raises the same alerts.

An episode raises an alert when gate 1 holds, and another one only when the severity rises. Within
``cooldown_seconds`` of market time after the last alert of a market only a higher severity than
that alert's is raised; an episode that was held back so raises its alert when the time is over and
the price still stands outside. While a bar is suppressed nothing opens or escalates; the band that
was left stays the reference, so what began meanwhile is raised at the first good bar.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from calibration_service.alerts.episodes import follow, forecasts
from calibration_service.alerts.errors import BadObservation
from calibration_service.alerts.explain import explain
from calibration_service.alerts.gates import Verdict, facts, judge
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import Breach, MarketState
from calibration_service.alerts.values import (
    RULE,
    Alert,
    Observation,
    Reason,
    Severity,
    derived_id,
)


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Why a bar did or did not raise something.

    Attributes:
        at_ms: end of the bar, UTC milliseconds.
        phase: INSIDE, BREACH or EPISODE, after the bar.
        severity: what the gates said; None where gate 1 did not hold.
        codes: reasons, of what was raised as well as of what was not.
        suppressed: why nothing could open or escalate; "" when it could.
    """

    at_ms: int
    phase: str
    severity: Severity | None
    codes: tuple[Reason, ...]
    suppressed: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a bar has made.

    Attributes:
        state: what is known after it.
        alerts: none or one.
        diagnostics: why.
    """

    state: MarketState
    alerts: tuple[Alert, ...]
    diagnostics: Diagnostics


def step(state: MarketState, observation: Observation, policy: AlertPolicy) -> Outcome:
    """What a closed bar makes of a market's state.

    A bar that is not after the last one changes nothing and says LATE_BAR.

    Raises:
        BadObservation: the bar is of another market.
    """
    if observation.market_id != state.market_id:
        raise BadObservation("market_id: is not the one of the state")
    if observation.at_ms <= state.at_ms:
        return Outcome(state, (), _said(state, observation, None, (Reason.LATE_BAR,)))
    latest, before = forecasts(state, observation)
    followed = follow(state.breach, before, observation, policy)
    known = MarketState(
        state.market_id,
        observation.at_ms,
        observation.price if math.isfinite(observation.price) else state.last_price,
        latest,
        followed.breach,
        state.alerted_ms,
        state.alerted_severity,
        observation.suppressed,
    )
    breach = followed.breach
    if breach is None or breach.last_outside_ms != observation.at_ms:
        return Outcome(known, (), _said(known, observation, None, followed.codes))
    verdict = judge(breach, observation, policy)
    return _decide(known, verdict, observation, policy, followed.codes)


def _decide(
    state: MarketState,
    verdict: Verdict,
    observation: Observation,
    policy: AlertPolicy,
    codes: tuple[Reason, ...],
) -> Outcome:
    """Raises the alert of a bar outside its band, or says why not."""
    breach, severity = state.breach, verdict.severity
    assert breach is not None
    codes += verdict.codes
    if observation.suppressed:
        codes += (Reason.SUPPRESSED,)
        return Outcome(state, (), _said(state, observation, severity, codes))
    if severity is None:
        return Outcome(state, (), _said(state, observation, None, codes))
    opened = replace(state, breach=replace(breach, is_open=True))
    held = _held_back(opened, breach, severity, observation, policy)
    if held is not None:
        return Outcome(opened, (), _said(opened, observation, severity, (*codes, held)))
    alert = _alert(breach, verdict.codes, severity, observation, policy)
    raised = replace(
        state,
        breach=replace(breach, is_open=True, raised=int(severity)),
        alerted_ms=observation.at_ms,
        alerted_severity=int(severity),
    )
    return Outcome(raised, (alert,), _said(raised, observation, severity, codes))


def _held_back(
    state: MarketState,
    breach: Breach,
    severity: Severity,
    observation: Observation,
    policy: AlertPolicy,
) -> Reason | None:
    if severity <= breach.raised:
        return Reason.ALREADY_RAISED
    if state.alerted_ms is None or severity > state.alerted_severity:
        return None
    soon = observation.at_ms - state.alerted_ms < policy.cooldown_seconds * 1000
    return Reason.COOLDOWN if soon else None


def _alert(
    breach: Breach,
    codes: tuple[Reason, ...],
    severity: Severity,
    observation: Observation,
    policy: AlertPolicy,
) -> Alert:
    market, start = observation.market_id, breach.start_ms
    evidence = facts(breach, observation, policy)
    return Alert(
        alert_id=derived_id(start, market, RULE, start, int(severity)),
        market_id=market,
        at_ms=observation.at_ms,
        severity=severity,
        rule=RULE,
        direction=breach.direction,
        episode_id=derived_id(start, market, RULE, start),
        reason_codes=codes,
        evidence=evidence,
        explanation_lines=explain(breach.direction, codes, evidence),
        policy_version=policy.stamp,
    )


def _said(
    state: MarketState,
    observation: Observation,
    severity: Severity | None,
    codes: tuple[Reason, ...],
) -> Diagnostics:
    breach = state.breach
    phase = "INSIDE" if breach is None else "EPISODE" if breach.is_open else "BREACH"
    return Diagnostics(observation.at_ms, phase, severity, codes, observation.suppressed)
