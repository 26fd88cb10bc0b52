"""Which markets the live path follows, and by which tokens."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import polars as pl

from calibration_service.alerts.policy import SelectionPolicy
from calibration_service.alerts.selection import Candidate, select
from market_data.lake import Lake

PLATFORM = "polymarket"


@dataclass(frozen=True, slots=True)
class Followed:
    """A market that is followed.

    Attributes:
        condition_id: what the venue's polls are asked by.
        token_ids: the first outcome's first.
    """

    market_id: str
    condition_id: str
    token_ids: tuple[str, ...]


def chosen(lake: Lake, policy: SelectionPolicy, resolved: Collection[str] = ()) -> list[Followed]:
    """The markets to follow, best first, of those that the registry knows with their tokens.

    Args:
        lake: holds registry and trust.
        policy: what is worth to be followed.
        resolved: markets that are over, whatever the registry still says of them.
    """
    rows = lake.read(
        "market_registry",
        (pl.col("platform") == PLATFORM) & (pl.col("token_ids").list.len() >= 2),
        columns=("market_id", "condition_id", "token_ids", "status", "volume_24h"),
    )
    newest = lake.scan("trust_score").sort("ts").group_by("market_id").last().collect()
    trust = dict(newest.select("market_id", "score").iter_rows())
    known = {
        market_id: (Followed(market_id, condition or "", tuple(tokens)), status, volume)
        for market_id, condition, tokens, status, volume in rows.iter_rows()
    }
    candidates = [
        Candidate(
            name,
            _number(trust.get(name)),
            _number(volume),
            resolved=status != "ACTIVE" or name in resolved,
        )
        for name, (_, status, volume) in known.items()
    ]
    return [known[name][0] for name in select(candidates, policy) if name in known]


def of_tokens(conditions: dict[str, Sequence[str]]) -> list[Followed]:
    """Markets of a recording, which the registry need not know: ids are made of conditions."""
    return [
        Followed(f"{PLATFORM}:{condition}", condition, tuple(tokens))
        for condition, tokens in sorted(conditions.items())
    ]


def _number(value: float | None) -> float:
    return math.nan if value is None else value
