"""Alert quality by its definitions: rate, follow-through, false alerts, unknown outcomes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from calibration_service.alerts.quality import Aftermath, Closes, aftermath, nominal_rate, quality
from calibration_service.alerts.values import Alert, Direction, Fact, Severity

EVIDENCE = (Fact("price", 0.7), Fact("inner_low", 0.45), Fact("inner_high", 0.55))


def raised(tools: Any, minute: int = 0, **changed: Any) -> Alert:
    alert: Alert = tools.alert(minute, changed.pop("severity", Severity.MED),
                               changed.pop("market", tools.MARKET))  # fmt: skip
    return replace(alert, evidence=EVIDENCE, **changed)


def closes(tools: Any, prices: Sequence[float]) -> Closes:
    """Bars that end 1, 2, … minutes after START."""
    ends = tools.START + tools.MINUTE * np.arange(1, len(prices) + 1)
    return Closes(ends, np.array(prices, dtype=float))


@pytest.mark.parametrize(
    ("prices", "followed", "returned"),
    [
        ([0.7] * 60, False, False),
        ([0.7] * 59 + [0.75], True, False),
        ([0.7] * 59 + [0.7499], False, False),
        ([0.7] * 60 + [0.9], False, False),  # a minute too late
        ([0.7] * 59 + [0.55], False, True),  # the end of the band is inside
        ([0.7] * 59 + [0.551], False, False),
        ([0.8, 0.5] + [0.7] * 58, True, True),
        ([0.3] * 60, False, False),  # through the band and out below
        ([math.nan] * 59 + [0.8], True, False),
        ([0.8] + [0.7] * 58, None, None),  # the hour is not over, whatever it holds so far
        ([math.nan] * 60, False, False),  # trades alone: the price stands where it stood
        ([0.76] + [math.nan] * 59, True, False),
        ([], None, None),
    ],
)
def test_the_hour_after_an_alert_is_judged_by_its_definitions(
    tools: Any, prices: list[float], followed: bool | None, returned: bool | None
) -> None:
    assert aftermath(raised(tools), closes(tools, prices)) == Aftermath(followed, returned)


def minutes(tools: Any, *ends: int) -> Any:
    return tools.START + tools.MINUTE * np.array(ends)


def test_a_market_that_falls_silent_stands_where_it_stood_while_the_stream_is_followed(
    tools: Any,
) -> None:
    silent = closes(tools, [0.72] * 5)
    alert = raised(tools)
    assert aftermath(alert, silent) == Aftermath(None, None)
    assert aftermath(alert, silent, minutes(tools, *range(1, 61))) == Aftermath(False, False)
    assert aftermath(alert, silent, minutes(tools, *range(1, 20), *range(28, 70))).followed is False
    gap = minutes(tools, *range(1, 20), *range(31, 70))
    assert aftermath(alert, silent, gap) == Aftermath(None, None)


@pytest.mark.parametrize(
    ("over", "outcome", "followed", "returned"),
    [
        (30, 1.0, True, False), (30, 0.0, False, False), (30, 0.5, False, True),
        (60, 1.0, True, False), (30, math.nan, None, None), (61, 1.0, False, False),
    ],
)  # fmt: skip
def test_a_market_that_is_resolved_within_the_hour_ends_it_with_its_outcome(
    tools: Any, over: int, outcome: float, followed: bool | None, returned: bool | None
) -> None:
    ended = replace(
        closes(tools, [0.7] * 20), over_ms=tools.START + over * tools.MINUTE, outcome=outcome
    )
    stream = minutes(tools, *range(1, 80))
    assert aftermath(raised(tools), ended, stream) == Aftermath(followed, returned)


@pytest.mark.parametrize("markets", [1, 2, 9, 40])
@pytest.mark.parametrize("price", [0.8, 0.7])
def test_few_or_equal_outcomes_have_limits_that_are_numbers_and_say_little(
    tools: Any, markets: int, price: float
) -> None:
    names = [f"m{number}" for number in range(markets)]
    bars = {name: closes(tools, [price] * 60) for name in names}
    found = quality(
        [raised(tools, market=name) for name in names], bars, event_of={},
        market_days=dict.fromkeys(names, 1.0), rng=np.random.default_rng(1),
    )[Severity.MED]  # fmt: skip
    assert found.follow_through is not None
    assert found.false_share is not None
    for one in (found.rate, found.follow_through, found.false_share):
        assert 0.0 <= one.lo <= one.estimate <= one.hi < math.inf
        assert one.hi - one.lo > 1.5 / (markets + 4)
    lowest, highest = {1: (0.0253, 5.572), 2: (0.1211, 3.612), 9: (0.4573, 1.8983)}.get(
        markets, (0.7144, 1.3617)
    )  # of tables of exact Poisson limits, a day each
    assert (found.rate.lo, found.rate.hi) == pytest.approx((lowest, highest), abs=1e-3)
    if price == 0.8 and markets == 9:
        assert found.follow_through.lo == pytest.approx(1 / (1 + 1.959964**2 / 9), abs=1e-6)


def test_a_share_of_few_events_has_the_limits_of_wilson(tools: Any) -> None:
    bars = {"up": closes(tools, [0.8] * 60), "flat": closes(tools, [0.7] * 60)}
    alerts = [raised(tools, market=name) for name in bars]
    found = quality(
        alerts, bars, event_of={}, market_days=dict.fromkeys(bars, 1.0),
        rng=np.random.default_rng(1),
    )[Severity.MED].follow_through  # fmt: skip
    assert found is not None
    assert (found.estimate, found.lo, found.hi) == pytest.approx((0.5, 0.0945, 0.9055), abs=1e-4)


def test_alerts_of_one_event_are_one_observation_of_a_rate(tools: Any) -> None:
    alerts = [raised(tools, minute=number) for number in range(8)]
    days = {tools.MARKET: 2.0, "other": 2.0}
    rate = quality(alerts, {}, event_of={}, market_days=days, rng=np.random.default_rng(1))[
        Severity.MED
    ].rate
    assert rate.estimate == 2.0
    assert rate.hi == pytest.approx(8 * 5.572 / 4.0, abs=1e-2)


def test_a_fall_goes_on_downwards(tools: Any) -> None:
    down = raised(tools, direction=Direction.DOWN)
    assert aftermath(down, closes(tools, [0.65] * 60)).followed
    assert not aftermath(down, closes(tools, [0.75] * 60)).followed


def test_quality_counts_by_severity_and_leaves_unknown_outcomes_out(tools: Any) -> None:
    good, bad = closes(tools, [0.7] * 30 + [0.8] * 30), closes(tools, [0.5] * 60)
    alerts = [raised(tools, market="good"), raised(tools, market="bad"),
              raised(tools, minute=10, market="good"),
              raised(tools, market="gone", severity=Severity.HIGH)]  # fmt: skip
    days = {"good": 2.0, "bad": 1.0, "gone": 1.0, "quiet": 4.0}
    found = quality(
        alerts, {"good": good, "bad": bad}, event_of={}, market_days=days,
        rng=np.random.default_rng(1),
    )  # fmt: skip
    med, high = found[Severity.MED], found[Severity.HIGH]
    assert (med.count, med.unknown, med.rate.estimate) == (3, 1, 3 / 8)
    assert med.follow_through is not None
    assert med.false_share is not None
    assert (med.follow_through.estimate, med.false_share.estimate) == (0.5, 0.5)
    assert (high.count, high.unknown, high.follow_through) == (1, 1, None)
    assert found[Severity.FYI].count == 0


def test_nothing_seen_is_not_nothing_known(tools: Any) -> None:
    found = quality([], {}, event_of={}, market_days={"a": 100.0}, rng=np.random.default_rng(1))
    rate = found[Severity.HIGH].rate
    assert (rate.estimate, rate.lo) == (0.0, 0.0)
    assert rate.hi == pytest.approx(0.0369, abs=1e-4)


def test_markets_of_one_event_are_one_sample(tools: Any) -> None:
    rng = np.random.default_rng(2)
    markets = [f"m{number}" for number in range(400)]
    bars = {m: closes(tools, [0.8 if number < 200 else 0.7] * 60)
            for number, m in enumerate(markets)}  # fmt: skip
    alerts = [raised(tools, market=market) for market in markets]
    days = dict.fromkeys(markets, 1.0)
    alone = quality(alerts, bars, event_of={}, market_days=days, rng=rng)
    events = {market: f"e{number // 20}" for number, market in enumerate(markets)}
    together = quality(alerts, bars, event_of=events, market_days=days, rng=rng)
    a, b = (one[Severity.MED].follow_through for one in (alone, together))
    assert a is not None
    assert b is not None
    assert a.estimate == b.estimate == 0.5
    assert b.hi - b.lo > 3 * (a.hi - a.lo)


def test_the_interval_of_a_rate_covers_it_as_often_as_it_says(tools: Any) -> None:
    rng, held = np.random.default_rng(3), 0
    for _ in range(200):
        events = rng.poisson(0.5, 120)
        alerts = [
            raised(tools, minute=number, market=f"m{event}")
            for event, count in enumerate(events)
            for number in range(count)
        ]
        days = {f"m{event}": 1.0 for event in range(120)}
        rate = quality(alerts, {}, event_of={}, market_days=days, rng=rng)[Severity.MED].rate
        held += rate.lo <= 0.5 <= rate.hi
    assert held / 200 >= 0.95 - 4 * 0.0154  # four standard errors of 200 draws


def test_refuses_alerts_of_markets_that_nobody_watched(tools: Any) -> None:
    rng = np.random.default_rng(1)
    with pytest.raises(ValueError, match="market_days: other"):
        quality([raised(tools, market="other")], {}, event_of={}, market_days={"a": 1.0}, rng=rng)
    with pytest.raises(ValueError, match="market_days"):
        quality([], {}, event_of={}, market_days={"a": 0.0}, rng=rng)


def test_the_nominal_rate_is_that_of_the_levels() -> None:
    assert nominal_rate(0.005, 0.995) == pytest.approx(2.88)
