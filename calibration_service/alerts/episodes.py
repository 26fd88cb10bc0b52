"""How a breach begins, goes on and ends.

======================  =======================  ==============================================
the market stands       the bar closes           then
======================  =======================  ==============================================
inside                  outside the band         a breach begins, and keeps the band it left
in a breach             inside again             it is forgotten
in a breach or episode  on the same side         one more bar outside, if it follows the last one
in a breach or episode  beyond the other side    it ends (REVERSED), and another one begins
in an episode           inside, for the nth bar  it ends (BACK_INSIDE)
in a breach or episode  band left is too old     it ends (EXPIRED): the new level is accepted
any                     without a price          nothing changes, but that bands grow old
======================  =======================  ==============================================

The forecast that follows a jump holds the jump already, so all bars of a breach are held against
the later steps of the forecast that was left. A price at the end of its band is inside.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from calibration_service.alerts.policy import BAR_MS, AlertPolicy
from calibration_service.alerts.state import Breach, Issued, MarketState
from calibration_service.alerts.values import Band, Direction, Observation, Reason


@dataclass(frozen=True, slots=True)
class Followed:
    """Where the market stands after a bar.

    Attributes:
        breach: under way; None inside the band.
        codes: what ended, or why the bar could not be judged.
    """

    breach: Breach | None
    codes: tuple[Reason, ...] = ()


def forecasts(state: MarketState, observation: Observation) -> tuple[Issued | None, Issued | None]:
    """The newest usable forecast, and the newest that was issued before the bar's end.

    The two differ where a 5-minute bar ends with this one: its forecast has seen the price.
    """
    band, known = observation.band, state.latest
    newer = known is None or (band is not None and band.issued_ms > known.band.issued_ms)
    if band is None or not newer or not band.is_usable:
        return known, known
    at_issue = observation.price if band.issued_ms == observation.at_ms else state.last_price
    price = at_issue if at_issue is not None and math.isfinite(at_issue) else state.last_price
    newest = Issued(band, price)
    return newest, known if band.issued_ms == observation.at_ms else newest


def follow(
    breach: Breach | None, before: Issued | None, observation: Observation, policy: AlertPolicy
) -> Followed:
    """The breach after a bar.

    Args:
        breach: the one under way.
        before: newest forecast issued before the end of the bar.
        observation: the bar.
        policy: the thresholds.
    """
    if breach is None:
        return _look(before, observation, policy)
    step = step_of(breach.reference.band, observation.at_ms, policy)
    if step is None:
        return Followed(None, (Reason.EXPIRED,) if breach.is_open else ())
    if not math.isfinite(observation.price):
        return Followed(breach, (Reason.PRICE_UNKNOWN,))
    side = _side(breach.reference.band, step, observation.price)
    if side is None:
        return _inside(breach, policy)
    if side is not breach.direction:
        other = _begin(side, breach.reference, observation.at_ms)
        return Followed(other, (Reason.REVERSED,) if breach.is_open else ())
    follows = observation.at_ms - breach.last_outside_ms <= policy.max_bar_gap * BAR_MS
    count = breach.outside + 1 if follows else 1
    return Followed(replace(breach, outside=count, last_outside_ms=observation.at_ms, inside=0))


def step_of(band: Band, at_ms: int, policy: AlertPolicy) -> int | None:
    """Index of the step of a band that a bar is held against; None where the band is too old."""
    if at_ms - band.issued_ms > policy.reference_minutes * 60_000:
        return None
    return band.step_at(at_ms)


def _look(before: Issued | None, observation: Observation, policy: AlertPolicy) -> Followed:
    if not math.isfinite(observation.price):
        return Followed(None, (Reason.PRICE_UNKNOWN,))
    step = None if before is None else step_of(before.band, observation.at_ms, policy)
    if before is None or step is None:
        return Followed(None, (Reason.BAND_UNKNOWN,))
    side = _side(before.band, step, observation.price)
    return Followed(None if side is None else _begin(side, before, observation.at_ms))


def _inside(breach: Breach, policy: AlertPolicy) -> Followed:
    if not breach.is_open:
        return Followed(None)
    if breach.inside + 1 >= policy.close_after_bars:
        return Followed(None, (Reason.BACK_INSIDE,))
    return Followed(replace(breach, outside=0, inside=breach.inside + 1))


def _begin(side: Direction, reference: Issued, at_ms: int) -> Breach:
    return Breach(side, at_ms, reference, outside=1, last_outside_ms=at_ms)


def _side(band: Band, step: int, price: float) -> Direction | None:
    if price > band.high[step]:
        return Direction.UP
    return Direction.DOWN if price < band.low[step] else None
