"""Explanations: five short lines, and no number that the evidence does not hold."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_service.alerts.explain import ADVICE, UNEXPLAINED, explain, numbers_of
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.values import Alert, Direction, Fact
from calibration_service.questions.evidence import facts_of, why_refused

REAL = st.one_of(st.just(math.nan), st.floats(-1e7, 1e7), st.floats(-1, 1))


def raised(tools: Any, policy: AlertPolicy, **changed: Any) -> Alert:
    found: Alert = tools.fold(tools.path([0.5] * 7 + [0.71] * 3, **changed), policy).alerts[0]
    return found


def test_the_lines_say_what_happened(tools: Any, policy: AlertPolicy) -> None:
    lines = raised(
        tools, policy, open_interest_change_60m=-0.225, volume_60m=340.0
    ).explanation_lines
    assert lines == (
        "The price 0.71 is above 0.55, the end of its alert band, for 2 closed bars in a row.",
        "It stands 0.21 away from where the forecast stood; 0.02 is the smallest move that counts.",
        "Open interest changed by -22.5% in an hour; -15% counts. "
        "Volume is 3.4 times the usual; 2 counts.",
        "Ambiguity is 0.1 (at most 0.35) and trust is 80 (at least 60).",
        ADVICE,
    )


@given(change=REAL, volume=REAL, mean=REAL, ambiguity=REAL, trust=REAL, hours=REAL, tick=REAL)
@settings(max_examples=150)
def test_every_number_of_every_line_is_in_the_evidence(
    tools: Any, policy: AlertPolicy, change: float, volume: float, mean: float,
    ambiguity: float, trust: float, hours: float, tick: float,
) -> None:  # fmt: skip
    given_facts = {
        "open_interest_change_60m": change, "volume_60m": volume, "ambiguity": ambiguity,
        "mean_hourly_volume_24h": mean, "trust": trust, "volume_history_hours": hours,
        "tick_size": min(tick, 0.05),
    }  # fmt: skip
    alert = raised(tools, policy, **given_facts)
    known = numbers_of(alert.evidence)
    assert UNEXPLAINED not in alert.explanation_lines
    assert len(alert.explanation_lines) == 5
    assert [why_refused(line, known) for line in alert.explanation_lines] == [None] * 5
    assert all(round(fact.value, 6) == fact.value for fact in alert.evidence)


def test_a_line_that_cannot_stand_is_replaced(tools: Any, policy: AlertPolicy) -> None:
    evidence = raised(tools, policy).evidence
    bent = [replace(fact, value=1e300) if fact.name == "trust" else fact for fact in evidence]
    assert UNEXPLAINED in explain(Direction.UP, (), bent)


def test_names_of_facts_lend_no_numbers() -> None:
    known = numbers_of([Fact("open_interest_change_60m", -0.2, -0.15)])
    assert not known.bear_out(facts_of("60 minutes"))
    assert known.bear_out(facts_of("-20% is below -0.15"))
