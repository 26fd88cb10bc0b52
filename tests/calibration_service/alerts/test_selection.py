"""Which markets are watched."""

from __future__ import annotations

import math
import random

from calibration_service.alerts.policy import SelectionPolicy
from calibration_service.alerts.selection import Candidate, score, select

MARKETS = [
    Candidate("a", trust=80, volume_24h=1e5),
    Candidate("b", trust=80, volume_24h=1e5),
    Candidate("c", trust=95, volume_24h=1e6),
    Candidate("d", trust=99, volume_24h=1e9, resolved=True),
    Candidate("e", trust=math.nan, volume_24h=1e9),
    Candidate("f", trust=99, volume_24h=math.nan),
]


def rules(top_n: int, listed: tuple[str, ...] = (), muted: tuple[str, ...] = ()) -> SelectionPolicy:
    return SelectionPolicy(top_n=top_n, watch_list=listed, muted=muted)


def test_the_best_are_watched_and_ties_go_by_id() -> None:
    assert select(MARKETS, rules(2)) == ("c", "a")
    shuffled = random.Random(1).sample(MARKETS, len(MARKETS))
    assert select(shuffled, rules(4)) == ("c", "a", "b", "e")


def test_the_watch_list_comes_on_top_and_takes_no_place_of_the_best() -> None:
    assert select(MARKETS, rules(1, ("f", "new", "f"))) == ("f", "new", "c")
    assert select(MARKETS, rules(1, ("c",))) == ("c", "a")


def test_muted_and_resolved_markets_are_never_watched() -> None:
    found = select(MARKETS, rules(9, ("d", "a"), ("a", "c")))
    assert set(found) == {"b", "e", "f"}


def test_a_score_without_trust_or_volume_is_nothing() -> None:
    assert score(MARKETS[4]) == score(MARKETS[5]) == 0.0
    assert score(Candidate("x", trust=-1, volume_24h=-1)) == 0.0
