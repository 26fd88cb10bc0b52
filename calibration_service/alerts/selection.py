"""Which markets are watched: a watch list, then the best of the rest.

The score of a market is ``trust / 100 × log₁₀(1 + volume_24h)``: an alert is worth something where
the price can be trusted and where there is trade. Unknown trust or volume scores 0.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from calibration_service.alerts.policy import SelectionPolicy


@dataclass(frozen=True, slots=True)
class Candidate:
    """A market that could be watched.

    Attributes:
        market_id: the market.
        trust: score in [0, 100]; NaN is unknown.
        volume_24h: USD; NaN is unknown.
        resolved: whether it is over.
    """

    market_id: str
    trust: float
    volume_24h: float
    resolved: bool = False


def score(candidate: Candidate) -> float:
    """How much a market is worth watching; not negative, 0 where trust or volume is unknown.

    >>> score(Candidate("polymarket:1", trust=50.0, volume_24h=999.0))
    1.5
    """
    trust, volume = candidate.trust, candidate.volume_24h
    if not (math.isfinite(trust) and math.isfinite(volume)):
        return 0.0
    return max(0.0, trust) / 100.0 * math.log10(1.0 + max(0.0, volume))


def select(candidates: Iterable[Candidate], policy: SelectionPolicy) -> tuple[str, ...]:
    """Ids of the markets to watch: the watch list in its order, then the best ``top_n`` others.

    Muted and resolved markets are left out, from the watch list too. A market of the watch list
    that is no candidate is watched: nothing is known of it yet. Ties go by id.
    """
    known = {candidate.market_id: candidate for candidate in candidates}
    muted = set(policy.muted) | {name for name, found in known.items() if found.resolved}
    listed = [name for name in dict.fromkeys(policy.watch_list) if name not in muted]
    rest = [found for name, found in known.items() if name not in muted | set(listed)]
    best = sorted(rest, key=lambda found: (-score(found), found.market_id))
    return (*listed, *(found.market_id for found in best[: policy.top_n]))
