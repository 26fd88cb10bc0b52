"""How good alerts are: how many there are, how often the price went on, how often it came back.

- *rate*: alerts per market-day;
- *follow-through*: share of alerts after which the price moves a further ≥ 0.05 in the direction of
  the breach within 60 minutes;
- *false*: share after which the price is back inside the pre-alert 80 % band within 60 minutes.

Both shares are of the alerts whose hour is over; the others are counted as unknown and nothing
else. An alert can be both, or neither. Intervals are by bootstrap over events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from calibration_service.alerts.values import Alert, Direction, Severity
from calibration_service.bootstrap import Interval, event_codes, ratio_interval

FURTHER = 0.05
"""Move beyond the price of the alert that counts as follow-through."""
WITHIN_MS = 60 * 60_000
STEPS_PER_DAY = 288
"""Five-minute forecasts of a market-day."""
_ROUNDING = 1e-9
_NONE_SEEN = -math.log(0.025)
"""Upper end of the 95 % interval of a Poisson mean of which nothing was seen."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Closes:
    """Closed 1-minute bars of a market.

    Attributes:
        at_ms: [N] int64, ends of the bars, ascending, UTC milliseconds.
        price: [N] float64, closes; NaN is missing.
    """

    at_ms: IntArray
    price: FloatArray


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What the hour after an alert brought; both None while it is not known.

    Attributes:
        followed: the price moved further.
        returned: the price came back inside the 80 % band.
    """

    followed: bool | None
    returned: bool | None


@dataclass(frozen=True, slots=True)
class Quality:
    """Quality of the alerts of one severity.

    Attributes:
        count: alerts.
        unknown: those whose hour is not over, or has no prices.
        rate: per market-day.
        follow_through: of the known ones; None without one.
        false_share: of the known ones; None without one.
    """

    count: int
    unknown: int
    rate: Interval
    follow_through: Interval | None
    false_share: Interval | None


def aftermath(alert: Alert, closes: Closes) -> Aftermath:
    """What the 60 minutes after an alert brought.

    The price of the alert and the ends of the pre-alert 80 % band are those in its evidence. The
    hour is known when a bar stands at its end or later, and at least one bar within has a price.
    """
    facts = {fact.name: fact.value for fact in alert.evidence}
    end = alert.at_ms + WITHIN_MS
    hour = (closes.at_ms > alert.at_ms) & (closes.at_ms <= end)
    prices = closes.price[hour]
    prices = prices[np.isfinite(prices)]
    over = closes.at_ms.size > 0 and int(closes.at_ms[-1]) >= end
    if not over or prices.size == 0:
        return Aftermath(None, None)
    sign = 1.0 if alert.direction is Direction.UP else -1.0
    further = sign * (prices - facts["price"])
    inside = (prices >= facts["inner_low"]) & (prices <= facts["inner_high"])
    return Aftermath(bool(further.max() >= FURTHER - _ROUNDING), bool(inside.any()))


def quality(
    alerts: Sequence[Alert],
    closes: Mapping[str, Closes],
    *,
    event_of: Mapping[str, str],
    market_days: Mapping[str, float],
    rng: np.random.Generator,
) -> dict[Severity, Quality]:
    """Quality by severity.

    Args:
        alerts: of the period, in any order.
        closes: bars by market; a market without any has unknown outcomes.
        event_of: event by market; one that is not there is its own event.
        market_days: watched days > 0 by market, those without an alert included.
        rng: source of the bootstrap.

    Raises:
        ValueError: nothing was watched, or an alert is of a market that was not.
    """
    if not market_days or not all(days > 0 for days in market_days.values()):
        raise ValueError("market_days: needs markets with days above 0")
    strange = sorted({alert.market_id for alert in alerts} - market_days.keys())
    if strange:
        raise ValueError(f"market_days: {strange[0]} has alerts and no days")
    nothing = Closes(np.empty(0, np.int64), np.empty(0))
    ordered = sorted(alerts, key=lambda alert: alert.alert_id)
    after = [aftermath(alert, closes.get(alert.market_id, nothing)) for alert in ordered]
    days: dict[str, float] = {}
    for market, watched in market_days.items():
        event = event_of.get(market, market)
        days[event] = days.get(event, 0.0) + watched
    found = {}
    for severity in Severity:
        mine = [
            (event_of.get(alert.market_id, alert.market_id), outcome)
            for alert, outcome in zip(ordered, after, strict=True)
            if alert.severity is severity
        ]
        found[severity] = _quality(mine, days, rng)
    return found


def nominal_rate(low_level: float, high_level: float) -> float:
    """Times a day that a calibrated band is left at its first step: what chance alone would give.

    Alerts of FYI stay below it: they need bars in a row and a smallest move, and an episode is one.

    >>> round(nominal_rate(0.005, 0.995), 2)
    2.88
    """
    return STEPS_PER_DAY * (1.0 - (high_level - low_level))


def _quality(
    alerts: Sequence[tuple[str, Aftermath]], days: Mapping[str, float], rng: np.random.Generator
) -> Quality:
    known = [(event, outcome) for event, outcome in alerts if outcome.followed is not None]
    return Quality(
        count=len(alerts),
        unknown=len(alerts) - len(known),
        rate=_rate([event for event, _ in alerts], days, rng),
        follow_through=_share([(event, outcome.followed) for event, outcome in known], rng),
        false_share=_share([(event, outcome.returned) for event, outcome in known], rng),
    )


def _rate(events: Sequence[str], days: Mapping[str, float], rng: np.random.Generator) -> Interval:
    order = sorted(days)
    size = np.array([days[event] for event in order])
    if not events:
        return Interval(0.0, 0.0, float(_NONE_SEEN / size.sum()))
    place = {event: index for index, event in enumerate(order)}
    count = np.bincount([place[event] for event in events], minlength=len(order)).astype(np.float64)
    found = ratio_interval(count, size, rng=rng)
    return Interval(found.estimate, max(0.0, found.lo), found.hi)


def _share(
    outcomes: Sequence[tuple[str, bool | None]], rng: np.random.Generator
) -> Interval | None:
    if not outcomes:
        return None
    codes = event_codes([event for event, _ in outcomes])
    held = np.bincount(codes, [float(bool(one)) for _, one in outcomes]).astype(np.float64)
    size = np.bincount(codes).astype(np.float64)
    found = ratio_interval(held, size, rng=rng)
    return Interval(found.estimate, float(np.clip(found.lo, 0, 1)), float(np.clip(found.hi, 0, 1)))
