"""The segment of a market: its liquidity, the time to its deciding event, and its category.

Routing chooses by it, and whoever corrects bands afterwards groups by it. Its key reads like those
of the scoreboard, so that a forecast can be held against the scores of its kind of market.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

HOUR = 3_600.0


class Liquidity(StrEnum):
    """Liquidity buckets, in the order of the contract."""

    UNSPECIFIED = "UNSPECIFIED"
    LOW = "LOW"
    MID = "MID"
    HIGH = "HIGH"


class Tte(StrEnum):
    """Buckets of the time to the deciding event, in the order of the contract."""

    UNSPECIFIED = "UNSPECIFIED"
    LE_6H = "LE_6H"
    LE_24H = "LE_24H"
    LE_72H = "LE_72H"
    GT_72H = "GT_72H"


_BOUNDS = (6 * HOUR, 24 * HOUR, 72 * HOUR)
_KNOWN = (Tte.LE_6H, Tte.LE_24H, Tte.LE_72H, Tte.GT_72H)
_LIQUIDITY = tuple(Liquidity)


@dataclass(frozen=True, slots=True)
class Segment:
    """A kind of market.

    Attributes:
        liquidity: its liquidity, UNSPECIFIED where nobody knows it.
        tte: time to its event, UNSPECIFIED where nobody knows it.
        category: canonical category, or UNSPECIFIED.
        key: all of it as text.
    """

    liquidity: Liquidity
    tte: Tte
    category: str
    key: str


def tte_bucket(tte_seconds: float | None) -> Tte:
    """The bucket of a time to the event in seconds; None is unknown.

    >>> tte_bucket(6 * HOUR), tte_bucket(6 * HOUR + 1), tte_bucket(None)
    (<Tte.LE_6H: 'LE_6H'>, <Tte.LE_24H: 'LE_24H'>, <Tte.UNSPECIFIED: 'UNSPECIFIED'>)
    """
    return Tte.UNSPECIFIED if tte_seconds is None else _KNOWN[bisect_left(_BOUNDS, tte_seconds)]


@lru_cache(maxsize=4_096)
def segment_of(liquidity: int, tte: Tte, category: str) -> Segment:
    """The segment of the contract's liquidity number, a bucket and a category, "" for unknown.

    >>> segment_of(3, Tte.LE_24H, "sports").key
    'category=sports|liquidity=HIGH|tte=LE_24H'
    """
    known = _LIQUIDITY[liquidity]
    kind = category.replace("|", "_") or "UNSPECIFIED"
    return Segment(known, tte, kind, f"category={kind}|liquidity={known}|tte={tte}")


UNSPECIFIED_SEGMENT = segment_of(0, Tte.UNSPECIFIED, "")
"""The segment of a market of which nothing is known."""
