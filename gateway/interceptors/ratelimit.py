"""How much a caller may do: GCRA per identity and scope, with the cost that the contract states."""

from __future__ import annotations

import math
from collections.abc import Awaitable
from typing import Protocol

from gateway.call import Call, Identity
from gateway.gcra import Verdict
from marketcal.errors import RateLimited, TooLarge


class Limits(Protocol):
    """Where the buckets are: in this process, or shared with others."""

    def check(
        self, key: tuple[str, str], cost: int, *, rate_per_minute: float, burst: int
    ) -> Verdict | Awaitable[Verdict]:
        """Takes ``cost`` tokens from the bucket of ``key`` if they are there."""


class RateLimit:
    """Takes the call's cost from its caller's bucket, or refuses and says when to come back.

    Refused or not, a caller that has used up half of its burst hears how much is left, in the
    trailers ``ratelimit`` and ``ratelimit-policy`` (draft-ietf-httpapi-ratelimit-headers); before
    that the trailers would cost each call more than all rules of this gateway.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.allowed = self.refused = 0
        """Verdicts so far."""

    async def __call__(self, call: Call, cost: int) -> None:
        """Refuses when the bucket is empty; a cost above the burst can never pass."""
        identity = call.identity
        if identity is None or identity.unlimited:
            return
        verdict = self._limits.check(
            (identity.name, call.method.scope or ""),
            cost,
            rate_per_minute=identity.rate_per_minute,
            burst=identity.burst,
        )
        if not isinstance(verdict, Verdict):
            verdict = await verdict
        if verdict.allowed:
            self.allowed += 1
        else:
            self.refused += 1
        if verdict.allowed and 2 * verdict.remaining > identity.burst:
            return
        left = f'"default";r={verdict.remaining};t={math.ceil(verdict.reset_after)}'
        policy = f'"default";q={identity.rate_per_minute:g};w=60'
        if not verdict.allowed:
            raise _refusal(identity, cost, verdict, {"ratelimit": left, "ratelimit-policy": policy})
        call.trailers += (("ratelimit", left), ("ratelimit-policy", policy))


def _refusal(
    identity: Identity, cost: int, verdict: Verdict, signal: dict[str, str]
) -> RateLimited | TooLarge:
    if math.isinf(verdict.retry_after):
        return TooLarge(
            f"one call of cost {cost} is above this credential's burst of {identity.burst}",
            metadata={"limit": "burst", "maximum": str(identity.burst)},
        )
    return RateLimited(
        f"rate limit of {identity.rate_per_minute:g} per minute is used up",
        retry_after=verdict.retry_after,
        metadata={"identity": identity.name, **signal},
    )
