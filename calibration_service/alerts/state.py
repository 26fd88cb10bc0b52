"""What the engine remembers of a market between two bars, and its exact JSON."""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from calibration_service.alerts.errors import BadState
from calibration_service.alerts.values import Band, Direction

VERSION = 2
"""Of the JSON that is written."""
_READ = (1, VERSION)
"""Versions that are read: 1 does not say whether a band is corrected, which counts as no."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A usable forecast and the price at which it was issued.

    Attributes:
        band: the forecast; every number in it is finite.
        price: last close when it was issued; None where none was known.
    """

    band: Band
    price: float | None


@dataclass(frozen=True, slots=True)
class Breach:
    """A price that stands outside its band: first for a bar or so, then as an episode.

    Attributes:
        direction: on which side.
        start_ms: end of the first bar outside.
        reference: the forecast that was left; later bars are held against its later steps.
        outside: bars in a row outside, up to the last one; 0 while the price is back inside.
        last_outside_ms: end of the last bar outside.
        inside: bars in a row back inside.
        is_open: whether gate 1 has held once, and an episode is open.
        raised: highest severity that the episode has raised; 0 for none.
    """

    direction: Direction
    start_ms: int
    reference: Issued
    outside: int
    last_outside_ms: int
    inside: int = 0
    is_open: bool = False
    raised: int = 0


@dataclass(frozen=True, slots=True)
class MarketState:
    """All that the engine knows of a market.

    Attributes:
        market_id: the market.
        at_ms: end of the last bar that was taken; -1 before the first.
        last_price: last close that was not missing.
        latest: newest usable forecast.
        breach: the breach under way.
        alerted_ms: market time of the last alert.
        alerted_severity: its severity; 0 before the first.
        suppressed: why nothing may open or escalate now; "" when it may.
    """

    market_id: str
    at_ms: int = -1
    last_price: float | None = None
    latest: Issued | None = None
    breach: Breach | None = None
    alerted_ms: int | None = None
    alerted_severity: int = 0
    suppressed: str = ""


@dataclass(frozen=True, slots=True)
class _Checkpoint:
    version: int
    state: MarketState


def write_state(state: MarketState) -> str:
    """The state as JSON; `read_state` gives back an equal one."""
    return msgspec.json.encode(_Checkpoint(VERSION, state)).decode()


def read_state(text: str) -> MarketState:
    """The state from its JSON.

    Raises:
        BadState: it is none, or of another version; the message says where and what is wrong.
    """
    try:
        found = msgspec.json.decode(text, type=_Checkpoint)
    except msgspec.DecodeError as error:
        raise BadState(f"the state of a market cannot be read: {error}") from None
    if found.version not in _READ:
        raise BadState(f"version: is {found.version}, and one of {_READ} was expected")
    return found.state
