"""Episodes and severities: when an alert is raised, and when it is not."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from calibration_service.alerts.engine import step
from calibration_service.alerts.errors import BadObservation
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import Direction, Reason, Severity

BOTH = {"open_interest_change_60m": -0.3, "volume_60m": 900.0}
JUMP = [0.5] * 7 + [0.7] * 20
"""The first bar outside is the seventh; the band of the tenth minute holds the jump."""


def test_a_jump_with_both_structures_is_one_high_alert(tools: Any, policy: AlertPolicy) -> None:
    folded = tools.fold(tools.path(JUMP, **BOTH), policy)

    assert folded.severities == [Severity.HIGH]
    alert = folded.alerts[0]
    assert alert.at_ms == tools.START + 8 * tools.MINUTE
    assert alert.direction is Direction.UP
    assert alert.reason_codes == (
        Reason.BAND_LEFT, Reason.OPEN_INTEREST_DROP, Reason.VOLUME_BURST
    )  # fmt: skip
    assert alert.policy_version == policy.stamp


@pytest.mark.parametrize(
    ("changed", "severity"),
    [
        (BOTH, Severity.HIGH),
        ({"open_interest_change_60m": -0.15}, Severity.MED),
        ({"open_interest_change_60m": -0.1499}, Severity.FYI),
        ({"volume_60m": 200.0}, Severity.MED),
        ({"volume_60m": 199.0}, Severity.FYI),
        ({"volume_60m": 900.0, "volume_history_hours": 5.9}, Severity.FYI),
        ({"volume_60m": 900.0, "volume_history_hours": 6.0}, Severity.MED),
        ({"volume_60m": 900.0, "mean_hourly_volume_24h": 1e-9}, Severity.FYI),
        ({"volume_60m": 900.0, "mean_hourly_volume_24h": 0.0}, Severity.FYI),
        (BOTH | {"ambiguity": 0.35, "trust": 60.0}, Severity.HIGH),
        (BOTH | {"ambiguity": 0.36}, Severity.FYI),
        (BOTH | {"ambiguity": math.nan}, Severity.FYI),
        (BOTH | {"trust": 59.9}, Severity.FYI),
        (BOTH | {"trust": math.nan}, Severity.FYI),
        (BOTH | {"tick_size": math.nan}, Severity.FYI),
        (BOTH | {"is_corrected": False}, Severity.MED),
        ({"volume_60m": 900.0, "is_corrected": False}, Severity.FYI),
        ({"is_corrected": False}, Severity.FYI),
        (BOTH | {"volume_60m": math.nan}, Severity.MED),
        (BOTH | {"open_interest_change_60m": math.nan}, Severity.MED),
    ],
)
def test_severity_follows_from_structures_caps_and_confidence(
    tools: Any, policy: AlertPolicy, changed: dict[str, Any], severity: Severity
) -> None:
    assert tools.fold(tools.path(JUMP, **changed), policy).severities == [severity]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"ambiguity": math.nan}, Reason.AMBIGUITY_UNKNOWN),
        ({"ambiguity": 0.9}, Reason.AMBIGUOUS),
        ({"trust": math.nan}, Reason.TRUST_UNKNOWN),
        ({"trust": 0.0}, Reason.TRUST_LOW),
        ({"tick_size": math.nan}, Reason.TICK_UNKNOWN),
        ({"is_corrected": False}, Reason.LOW_CONFIDENCE),
        ({"volume_60m": math.nan}, Reason.VOLUME_UNKNOWN),
        ({"volume_history_hours": math.nan}, Reason.VOLUME_UNKNOWN),
        ({"volume_history_hours": 1.0}, Reason.VOLUME_HISTORY_SHORT),
        ({"open_interest_change_60m": math.inf}, Reason.OPEN_INTEREST_UNKNOWN),
    ],
)
def test_what_held_an_alert_back_is_said(
    tools: Any, policy: AlertPolicy, changed: dict[str, Any], code: Reason
) -> None:
    assert code in tools.fold(tools.path(JUMP, **changed), policy).alerts[0].reason_codes


def test_confidence_is_that_of_the_band_that_was_left(tools: Any, policy: AlertPolicy) -> None:
    for was, becomes in ((True, False), (False, True)):
        bars = tools.path([0.5] * 9, **BOTH, is_corrected=was)
        later = tools.band(tools.START + 10 * tools.MINUTE, 0.7, is_corrected=becomes)
        bars += [tools.bar(9, 0.7, bars[-1].band, **BOTH), tools.bar(10, 0.7, later, **BOTH)]
        folded = tools.fold([*bars, tools.bar(11, 0.7, later, **BOTH)], policy)
        assert folded.severities == [Severity.HIGH if was else Severity.MED]
        assert (Reason.LOW_CONFIDENCE in folded.alerts[0].reason_codes) is not was


def test_one_bar_outside_is_not_enough(tools: Any, policy: AlertPolicy) -> None:
    folded = tools.fold(tools.path([0.5] * 7 + [0.7] + [0.5] * 8, **BOTH), policy)
    assert folded.alerts == []
    assert Reason.TOO_FEW_BARS in folded.codes()


def test_a_jump_into_the_bar_that_issues_a_band_is_held_against_the_band_before(
    tools: Any, policy: AlertPolicy
) -> None:
    folded = tools.fold(tools.path([0.5] * 10 + [0.7] * 10, **BOTH), policy)
    assert [alert.at_ms for alert in folded.alerts] == [tools.START + 11 * tools.MINUTE]


def test_later_bars_are_held_against_later_steps_of_the_band_that_was_left(
    tools: Any, policy: AlertPolicy
) -> None:
    wide = tools.band(tools.START, 0.5)
    wide = replace(wide, high=(0.55, *(0.9,) * 11))
    bars = [tools.bar(0, 0.5, wide)]
    bars += [tools.bar(minute, 0.7, wide, **BOTH) for minute in range(5, 20)]
    assert tools.fold(bars, policy).alerts == []  # the second bar outside falls into step two


def test_a_price_at_the_end_of_its_band_is_inside(tools: Any, policy: AlertPolicy) -> None:
    band = tools.band(tools.START, 0.5)
    at_end = [tools.bar(minute, band.high[0], band, **BOTH) for minute in range(1, 5)]
    assert tools.fold(at_end, policy).alerts == []
    beyond = [tools.bar(minute, band.high[0] + 1e-6, band, **BOTH) for minute in range(1, 5)]
    assert len(tools.fold(beyond, policy).alerts) == 1


@pytest.mark.parametrize(
    ("price", "tick", "count"), [(0.519, 0.001, 0), (0.52, 0.001, 1), (0.53, 0.02, 0)]
)
def test_a_move_below_the_smallest_raises_nothing(
    tools: Any, policy: AlertPolicy, price: float, tick: float, count: int
) -> None:
    bars = tools.path([0.5] * 6 + [price] * 3, width=0.001, tick_size=tick)
    folded = tools.fold(bars, policy)
    assert len(folded.alerts) == count
    assert count or Reason.MOVE_TOO_SMALL in folded.codes()


def test_a_badly_centred_band_alone_raises_nothing(tools: Any, policy: AlertPolicy) -> None:
    band = tools.band(tools.START, 0.3)
    bars = [tools.bar(minute, 0.5, band, **BOTH) for minute in range(15)]
    assert tools.fold(bars, policy).alerts == []


def test_an_episode_escalates_and_never_repeats_a_severity(tools: Any, policy: AlertPolicy) -> None:
    bars = tools.path(JUMP)
    bars[10:14] = [replace(one, volume_60m=900.0) for one in bars[10:14]]
    bars[14:] = [replace(one, **BOTH) for one in bars[14:]]
    folded = tools.fold(bars, policy)
    assert folded.severities == [Severity.FYI, Severity.MED, Severity.HIGH]
    assert len({alert.episode_id for alert in folded.alerts}) == 1
    assert len({alert.alert_id for alert in folded.alerts}) == 3


def test_an_episode_that_was_back_inside_needs_its_bars_again_to_escalate(
    tools: Any, policy: AlertPolicy
) -> None:
    bars = tools.path([0.5] * 7 + [0.7] * 3 + [0.5] + [0.7] * 3)
    bars[10:] = [replace(one, **BOTH) for one in bars[10:]]
    folded = tools.fold(bars, policy)
    minutes = [(alert.at_ms - tools.START) // tools.MINUTE for alert in folded.alerts]
    assert (minutes, folded.severities) == ([8, 12], [Severity.FYI, Severity.HIGH])


def test_an_episode_ends_when_the_price_stays_back_inside(tools: Any, policy: AlertPolicy) -> None:
    prices = [0.5] * 7 + [0.7] * 3 + [0.5] * 9 + [0.7] + [0.5] * 10
    folded = tools.fold(tools.path(prices), policy)
    ended = [one.at_ms for one in folded.said if Reason.BACK_INSIDE in one.codes]
    assert ended == [tools.START + 29 * tools.MINUTE]  # nine bars inside did not end it


def test_the_level_is_accepted_when_the_band_that_was_left_is_too_old(
    tools: Any, policy: AlertPolicy
) -> None:
    folded = tools.fold(tools.path([0.5] * 7 + [0.7] * 120), policy)
    ended = [one.at_ms for one in folded.said if Reason.EXPIRED in one.codes]
    assert ended == [tools.START + 66 * tools.MINUTE]  # the band is of minute 5
    assert folded.states[-1].breach is None
    assert len(folded.alerts) == 1


def test_the_other_side_begins_an_episode_of_its_own(tools: Any, policy: AlertPolicy) -> None:
    folded = tools.fold(tools.path([0.5] * 7 + [0.7] * 4 + [0.3] * 4 + [0.3] * 30), policy)
    assert Reason.REVERSED in folded.codes()
    assert [alert.direction for alert in folded.alerts] == [Direction.UP, Direction.DOWN]
    waited = folded.alerts[1].at_ms - folded.alerts[0].at_ms
    assert waited == policy.cooldown_seconds * 1000


def test_within_the_cooldown_only_a_worse_alert_is_raised(tools: Any, policy: AlertPolicy) -> None:
    prices = [0.5] * 7 + [0.7] * 2 + [0.5] * 10 + [0.7] * 3
    quiet = tools.path(prices)
    assert len(tools.fold(quiet, policy).alerts) == 1
    worse = [*quiet[:19], *(replace(one, **BOTH) for one in quiet[19:])]
    folded = tools.fold(worse, policy)
    assert folded.severities == [Severity.FYI, Severity.HIGH]
    assert len({alert.episode_id for alert in folded.alerts}) == 2


def test_bars_too_far_apart_do_not_follow_one_another(tools: Any, policy: AlertPolicy) -> None:
    band = tools.band(tools.START, 0.5)
    start = [tools.bar(minute, 0.5, band) for minute in (1, 2)]
    near = [*start, tools.bar(3, 0.7, band), tools.bar(5, 0.7, band)]
    far = [*start, tools.bar(3, 0.7, band), tools.bar(6, 0.7, band)]
    assert len(tools.fold(near, policy).alerts) == 1
    assert tools.fold(far, policy).alerts == []
    assert len(tools.fold([*far, tools.bar(7, 0.7, band)], policy).alerts) == 1


def test_a_missing_price_neither_ends_nor_advances_a_breach(
    tools: Any, policy: AlertPolicy
) -> None:
    prices = [0.5] * 7 + [0.7, math.nan, 0.7]
    folded = tools.fold(tools.path(prices), policy)
    assert [alert.at_ms for alert in folded.alerts] == [tools.START + 9 * tools.MINUTE]
    assert Reason.PRICE_UNKNOWN in folded.said[8].codes


def test_while_suppressed_nothing_is_raised_and_the_state_says_why(
    tools: Any, policy: AlertPolicy
) -> None:
    bars = tools.path(JUMP, **BOTH)
    bars[7:12] = [replace(one, suppressed="LAGGING") for one in bars[7:12]]
    folded = tools.fold(bars, policy)
    assert [alert.at_ms for alert in folded.alerts] == [tools.START + 12 * tools.MINUTE]
    assert {state.suppressed for state in folded.states[7:12]} == {"LAGGING"}
    assert folded.states[12].suppressed == ""
    assert Reason.SUPPRESSED in folded.said[8].codes
    assert not folded.states[11].breach.is_open


def test_an_open_episode_does_not_escalate_while_suppressed(
    tools: Any, policy: AlertPolicy
) -> None:
    bars = tools.path(JUMP)
    bars[9:] = [replace(one, **BOTH, suppressed="STALE_FEED") for one in bars[9:]]
    assert tools.fold(bars, policy).severities == [Severity.FYI]


def test_a_band_with_a_hole_is_no_band(tools: Any, policy: AlertPolicy) -> None:
    band = replace(tools.band(tools.START, 0.5), high=(math.nan, *(0.55,) * 11))
    folded = tools.fold([tools.bar(minute, 0.9, band) for minute in range(1, 5)], policy)
    assert folded.alerts == []
    assert folded.codes() == {Reason.BAND_UNKNOWN}


def test_a_baseline_in_place_of_the_model_is_said(tools: Any, policy: AlertPolicy) -> None:
    band = replace(tools.band(tools.START, 0.5), fallback_reason="TIMEOUT")
    folded = tools.fold([tools.bar(minute, 0.9, band) for minute in range(1, 5)], policy)
    assert Reason.FALLBACK_BAND in folded.alerts[0].reason_codes


def test_a_late_bar_changes_nothing(tools: Any, policy: AlertPolicy) -> None:
    bars = tools.path(JUMP)
    folded = tools.fold(bars[:9], policy)
    for again in (bars[8], bars[3]):
        outcome = step(folded.states[-1], again, policy)
        assert outcome.state is folded.states[-1]
        assert outcome.alerts == ()
        assert outcome.diagnostics.codes == (Reason.LATE_BAR,)


def test_refuses_a_bar_of_another_market_and_a_band_from_the_future(
    tools: Any, policy: AlertPolicy
) -> None:
    with pytest.raises(BadObservation, match="market_id"):
        step(MarketState("other"), tools.bar(1, 0.5, None), policy)
    with pytest.raises(BadObservation, match=r"band\.issued_ms"):
        tools.bar(1, 0.5, tools.band(tools.START + 5 * tools.MINUTE, 0.5))
    with pytest.raises(BadObservation, match="same steps"):
        replace(tools.band(tools.START, 0.5), low=(0.4,))


def test_a_policy_with_other_thresholds_is_obeyed(tools: Any, policy: AlertPolicy) -> None:
    strict = policy.model_copy(update={"consecutive_bars": 4, "trust_at_least": 90.0})
    folded = tools.fold(tools.path(JUMP, **BOTH), strict)
    assert [alert.at_ms for alert in folded.alerts] == [tools.START + 10 * tools.MINUTE]
    assert folded.severities == [Severity.FYI]
