"""Who is calling: an API key, a token, a certificate, or the anonymous role where one is open.

What a caller sends counts before what its connection shows: a credential in the metadata that is
wrong is refused, whatever certificate came with it.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import replace

from gateway.call import Call, Identity
from gateway.certificate_identity import CertificateIdentity
from gateway.gcra import Limiter
from gateway.jwt_identity import JwtIdentity, is_token
from gateway.keys import KeyRing
from gateway.roles import ROLES
from marketcal.errors import CredentialInvalid, CredentialMissing, TooManyFailedCredentials

FAILURES_PER_MINUTE = 30.0
FAILURE_BURST = 60
_NO_CERTIFICATES = CertificateIdentity({})


class Authentication:
    """Sets ``call.identity``, or refuses.

    Failed credentials are limited per client address. A good one passes whatever others behind
    the same address have tried, since neither a key nor a signature can be guessed at such a rate.

    Args:
        ring: the API keys.
        failures: limits failed credentials.
        anonymous_role: role of callers without a credential; None refuses them.
        tokens: checks tokens; None where none are taken.
        certificates: roles of client certificates.
    """

    def __init__(
        self,
        ring: KeyRing,
        failures: Limiter,
        *,
        anonymous_role: str | None,
        tokens: JwtIdentity | None = None,
        certificates: CertificateIdentity = _NO_CERTIFICATES,
    ) -> None:
        self._ring = ring
        self._failures = failures
        self._anonymous = _anonymous(anonymous_role)
        self._tokens = tokens
        self._certificates = certificates

    def __call__(self, call: Call) -> Awaitable[None] | None:
        """Authenticates by ``authorization: Bearer …`` or ``x-api-key``, else by certificate."""
        if call.method.scope is None or call.identity is not None:
            return None
        try:
            credential = _credential(call.metadata)
            if credential is None:
                call.identity = self._certificates.of(call.context) or self._stranger(call)
            elif self._tokens is not None and is_token(credential):
                call.identity = self._tokens.remembered(credential)
                if call.identity is None:
                    return self._check_token(self._tokens, credential, call)
            else:
                call.identity = self._ring.authenticate(credential)
        except CredentialInvalid:
            count_failure(self._failures, call.network)
            raise
        return None

    async def _check_token(self, tokens: JwtIdentity, credential: str, call: Call) -> None:
        try:
            call.identity = await tokens.authenticate(credential)
        except CredentialInvalid:
            count_failure(self._failures, call.network)
            raise

    def _stranger(self, call: Call) -> Identity:
        if self._anonymous is None:
            raise CredentialMissing("send an API key as 'authorization: Bearer <key>'")
        name = f"{self._anonymous.name} {call.network}"  # a limit of its own per address
        return replace(self._anonymous, name=name)


def count_failure(failures: Limiter, network: str) -> None:
    """Counts a credential that failed.

    Raises:
        TooManyFailedCredentials: ``network`` has sent too many.
    """
    verdict = failures.check(network, 1, rate_per_minute=FAILURES_PER_MINUTE, burst=FAILURE_BURST)
    if not verdict.allowed:
        raise TooManyFailedCredentials(
            "too many failed credentials from this address", retry_after=verdict.retry_after
        )


def _credential(metadata: dict[str, str | bytes]) -> str | None:
    """What a caller sends to be known by; None where it sends nothing.

    Raises:
        CredentialInvalid: it has another form, or there are two that differ.
    """
    bearer, key = metadata.get("authorization"), metadata.get("x-api-key")
    if bearer is None:
        return _text(key)
    text = _text(bearer)
    if text is None or text[:7].lower() != "bearer ":
        raise CredentialInvalid("the authorization header must read 'Bearer <key>'")
    credential = text[7:].strip()
    if key is not None and _text(key) != credential:
        raise CredentialInvalid("authorization and x-api-key hold different credentials; send one")
    return credential


def _text(value: str | bytes | None) -> str | None:
    """A header as text.

    Raises:
        CredentialInvalid: it is none.
    """
    if isinstance(value, bytes):
        raise CredentialInvalid("a credential is printable ASCII")
    return value


def _anonymous(role: str | None) -> Identity | None:
    if role is None:
        return None
    limits = ROLES[role]
    return Identity("anonymous", role, limits.scopes, limits.rate_per_minute, limits.burst)
