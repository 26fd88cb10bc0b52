"""Who is calling: an API key, or the anonymous role where the operator opened one."""

from __future__ import annotations

from dataclasses import replace

from gateway.call import Call, Identity
from gateway.gcra import Limiter
from gateway.keys import KeyRing
from gateway.roles import ROLES
from marketcal.errors import CredentialInvalid, CredentialMissing, TooManyFailedCredentials

FAILURES_PER_MINUTE = 30.0
FAILURE_BURST = 60


class Authentication:
    """Sets ``call.identity``, or refuses.

    Failed credentials are limited per client address. A good key passes whatever others behind
    the same address have tried, since its secret cannot be guessed at such a rate.
    """

    def __init__(self, ring: KeyRing, failures: Limiter, *, anonymous_role: str | None) -> None:
        self._ring = ring
        self._failures = failures
        self._anonymous = _anonymous(anonymous_role)

    def __call__(self, call: Call) -> None:
        """Authenticates by ``authorization: Bearer …`` or ``x-api-key``."""
        if call.method.scope is None or call.identity is not None:
            return
        credential = _credential(call.metadata)
        if credential is None:
            if self._anonymous is None:
                raise CredentialMissing("send an API key as 'authorization: Bearer <key>'")
            name = f"{self._anonymous.name} {call.address}"  # a limit of its own per address
            call.identity = replace(self._anonymous, name=name)
            return
        try:
            call.identity = self._ring.authenticate(credential)
        except CredentialInvalid:
            self._count_failure(call.address)
            raise

    def _count_failure(self, address: str) -> None:
        verdict = self._failures.check(
            address, 1, rate_per_minute=FAILURES_PER_MINUTE, burst=FAILURE_BURST
        )
        if not verdict.allowed:
            raise TooManyFailedCredentials(
                "too many failed credentials from this address", retry_after=verdict.retry_after
            )


def _credential(metadata: dict[str, str | bytes]) -> str | None:
    bearer = metadata.get("authorization")
    if isinstance(bearer, str) and bearer[:7].lower() == "bearer ":
        return bearer[7:].strip()
    if bearer is not None:
        raise CredentialInvalid("the authorization header must read 'Bearer <key>'")
    key = metadata.get("x-api-key")
    return key if isinstance(key, str) else None


def _anonymous(role: str | None) -> Identity | None:
    if role is None:
        return None
    limits = ROLES[role]
    return Identity("anonymous", role, limits.scopes, limits.rate_per_minute, limits.burst)
