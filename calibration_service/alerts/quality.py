"""How good alerts are: how many there are, how often the price went on, how often it came back.

- *rate*: alerts per market-day;
- *follow-through*: share of alerts after which the price moves a further ≥ 0.05 in the direction of
  the breach within 60 minutes;
- *false*: share after which the price is back inside the pre-alert 80 % band within 60 minutes.

Both shares are of the alerts whose hour is over and was followed; the others are counted as unknown
and nothing else. An alert can be both, or neither. Intervals are by bootstrap over events; where
fewer than ten events have something to say, or all say the same, by Wilson's limits of a share
(doi:10.1080/01621459.1927.10502953) and the exact ones of a Poisson mean
(doi:10.1093/biomet/28.3-4.437), of which an event is one observation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainccinv, gammaincinv

from calibration_service.alerts.values import Alert, Direction, Severity
from calibration_service.bootstrap import Interval, event_codes, ratio_interval

FURTHER = 0.05
"""Move beyond the price of the alert that counts as follow-through."""
WITHIN_MS = 60 * 60_000
STEPS_PER_DAY = 288
"""Five-minute forecasts of a market-day."""
LONGEST_GAP_MS = 10 * 60_000
"""An hour in which no market had a bar for longer than this was not followed."""
FEW_EVENTS = 10
"""Below so many the bootstrap has too little to draw from."""
_ROUNDING = 1e-9
_TAIL = 0.025
_Z = 1.959963984540054
"""Of the normal distribution above which lies a share of ``_TAIL``."""

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Closes:
    """Closed 1-minute bars of a market.

    Attributes:
        at_ms: [N] int64, ends of the bars, ascending, UTC milliseconds.
        price: [N] float64, closes; NaN is missing.
        over_ms: when the market was resolved; None before.
        outcome: its value then, in [0, 1]; NaN where it is not known.
    """

    at_ms: IntArray
    price: FloatArray
    over_ms: int | None = None
    outcome: float = math.nan


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
        unknown: those whose hour is not over, or was not followed, or ended in an unknown outcome.
        rate: per market-day.
        follow_through: of the known ones; None without one.
        false_share: of the known ones; None without one.
    """

    count: int
    unknown: int
    rate: Interval
    follow_through: Interval | None
    false_share: Interval | None


def aftermath(alert: Alert, closes: Closes, followed: IntArray | None = None) -> Aftermath:
    """What the 60 minutes after an alert brought.

    The price of the alert and the ends of the pre-alert 80 % band are those in its evidence. A
    market that says nothing stands where it stood, as long as the stream was followed. One that is
    resolved within the hour ends it with its outcome.

    Args:
        alert: the alert.
        closes: bars of its market.
        followed: [M] int64, ends of the minutes in which any market had a bar, ascending; None
            for those of this market.
    """
    minutes = closes.at_ms if followed is None else followed
    end, is_over = alert.at_ms + WITHIN_MS, False
    if closes.over_ms is not None and alert.at_ms < closes.over_ms <= end:
        end, is_over = closes.over_ms, True
    is_known = not is_over or math.isfinite(closes.outcome)
    if (
        closes.at_ms.size == 0
        or not is_known
        or not _is_followed(minutes, alert.at_ms, end, is_over)
    ):
        return Aftermath(None, None)
    facts = {fact.name: fact.value for fact in alert.evidence}
    prices = closes.price[(closes.at_ms > alert.at_ms) & (closes.at_ms <= end)]
    prices = np.append(prices[np.isfinite(prices)], closes.outcome if is_over else facts["price"])
    sign = 1.0 if alert.direction is Direction.UP else -1.0
    further = sign * (prices - facts["price"])
    inside = (prices >= facts["inner_low"]) & (prices <= facts["inner_high"])
    return Aftermath(bool(further.max() >= FURTHER - _ROUNDING), bool(inside.any()))


def _is_followed(minutes: IntArray, begin: int, end: int, is_over: bool) -> bool:
    """Whether the stream was followed from ``begin`` to ``end``, and on where it must be seen."""
    if not is_over and (minutes.size == 0 or int(minutes[-1]) < end):
        return False
    within = minutes[(minutes > begin) & (minutes < end)]
    edges = np.concatenate(([begin], within, [end]))
    return bool(np.diff(edges).max() <= LONGEST_GAP_MS)


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
        closes: bars by market, of all markets that were followed; a market without any has unknown
            outcomes.
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
    ends = [one.at_ms for one in closes.values()]
    followed = np.unique(np.concatenate([nothing.at_ms, *ends]))
    after = [aftermath(one, closes.get(one.market_id, nothing), followed) for one in ordered]
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
    place = {event: index for index, event in enumerate(order)}
    where = np.array([place[event] for event in events], np.int64)
    count = np.bincount(where, minlength=len(order)).astype(np.float64)
    if np.count_nonzero(count) < FEW_EVENTS or _are_equal(count / size):
        return _poisson(count, float(size.sum()))
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
    if size.size < FEW_EVENTS or _are_equal(held / size):
        return _wilson(float(held.sum() / size.sum()), size.size)
    found = ratio_interval(held, size, rng=rng)
    return Interval(found.estimate, float(np.clip(found.lo, 0, 1)), float(np.clip(found.hi, 0, 1)))


def _are_equal(values: FloatArray) -> bool:
    return bool(np.ptp(values) <= _ROUNDING)


def _poisson(count: FloatArray, days: float) -> Interval:
    """Exact limits of the number of events that have alerts, times the alerts of such an event."""
    alerts, hit = float(count.sum()), int(np.count_nonzero(count))
    each = alerts / hit if hit else 1.0
    low = float(gammaincinv(hit, _TAIL)) if hit else 0.0
    high = float(gammainccinv(hit + 1, _TAIL))
    return Interval(alerts / days, low * each / days, high * each / days)


def _wilson(share: float, events: int) -> Interval:
    """Limits of a share of so many independent observations."""
    square = _Z * _Z / events
    centre = (share + square / 2) / (1 + square)
    away = _Z / (1 + square) * math.sqrt(share * (1 - share) / events + square / (4 * events))
    return Interval(share, max(0.0, min(share, centre - away)), min(1.0, max(share, centre + away)))
