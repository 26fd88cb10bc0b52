"""How much a caller may do: GCRA per identity and scope, with the cost that the contract states."""

from __future__ import annotations

import math

from google.protobuf.message import Message

from gateway.call import Call
from gateway.gcra import Limiter
from marketcal.errors import RateLimited, TooLarge


class RateLimit:
    """Takes the call's cost from its caller's bucket, or refuses and says when to come back."""

    def __init__(self, limiter: Limiter) -> None:
        self._limiter = limiter

    def __call__(self, call: Call, request: Message) -> None:
        """Refuses when the bucket is empty; a cost above the burst can never pass."""
        identity = call.identity
        if identity is None:
            return
        cost = call.method.cost(request)
        verdict = self._limiter.check(
            (identity.name, call.method.scope),
            cost,
            rate_per_minute=identity.rate_per_minute,
            burst=identity.burst,
        )
        if verdict.allowed:
            return
        if math.isinf(verdict.retry_after):
            raise TooLarge(
                f"one call of cost {cost} is above this credential's burst of {identity.burst}",
                metadata={"limit": "burst", "maximum": str(identity.burst)},
            )
        raise RateLimited(
            f"rate limit of {identity.rate_per_minute:g} per minute is used up",
            retry_after=verdict.retry_after,
            metadata={
                "identity": identity.name,
                "ratelimit": f'"default";r={verdict.remaining};t={math.ceil(verdict.reset_after)}',
                "ratelimit-policy": f'"default";q={identity.rate_per_minute:g};w=60',
            },
        )
