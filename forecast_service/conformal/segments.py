"""With whom a market is counted: its segment, and the coarser ones when that has too few windows.

The chain is: category × liquidity × time to event → liquidity × time to event → time to event →
all markets. Time to event stays longest because the scale of moves changes with it in every
category; category goes first because there are most of them.
"""

from __future__ import annotations

from functools import lru_cache

ALL = "category=*|liquidity=*|tte=*"
"""The segment of all markets, written like those of the scoreboard."""


@lru_cache(maxsize=8_192)
def chain(segment: str) -> tuple[str, str, str, str]:
    """The segments that speak for one, the finest first.

    Args:
        segment: its key, ``category=…|liquidity=…|tte=…``.

    >>> chain("category=sports|liquidity=LOW|tte=LE_6H")[1:3]
    ('category=*|liquidity=LOW|tte=LE_6H', 'category=*|liquidity=*|tte=LE_6H')
    """
    _, liquidity, tte = segment.split("|")
    return segment, f"category=*|{liquidity}|{tte}", f"category=*|liquidity=*|{tte}", ALL
