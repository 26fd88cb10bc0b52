"""Roles, what each may do, and how much of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.call import Method

_READS = frozenset({"scoreboard.read", "alert.read"})
_FORECASTS = _READS | {"forecast.read"}
_OPERATES = _FORECASTS | {"alert.write", "execution.read", "execution.write"}


@dataclass(frozen=True, slots=True)
class Role:
    """What a role may do: its scopes and its default rate limit."""

    scopes: frozenset[str]
    rate_per_minute: float
    burst: int


ROLES: dict[str, Role] = {
    "viewer": Role(_READS, 600, 200),
    "forecaster": Role(_FORECASTS, 60_000, 4_000),
    "operator": Role(_OPERATES, 6_000, 1_000),
    "admin": Role(_OPERATES | {"admin"}, 60_000, 4_000),
}
"""Roles by name."""


def smallest_burst(role: str, methods: Iterable[Method]) -> int:
    """The largest cost of a single call that ``role`` may make: no burst below it makes sense."""
    scopes = ROLES[role].scopes
    return max((m.largest_cost for m in methods if m.scope in scopes), default=1)
