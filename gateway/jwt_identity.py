"""Callers with a token of an identity provider (JSON web token, RFC 7519; RFC 8725 for the checks).

A token says who calls (``sub``), as what (a claim with one of our roles) and until when (``exp``);
``scope`` may narrow what the role allows and never widens it. A token without a role of ours is
of somebody whom the provider knows and we do not: it is taken, and may do nothing.

What was checked is remembered for a minute at most, and no longer than the token or the keys last:
a token cannot be revoked sooner than that, other than by withdrawing its key.
"""

from __future__ import annotations

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import jwt

from gateway.call import Identity
from gateway.identity_settings import IdentitySettings
from gateway.jwks import Jwks
from gateway.roles import ROLES
from marketcal.errors import CredentialExpired, CredentialInvalid, NotReady

LONGEST_TOKEN = 8192
"""Characters; longer ones are refused before anything is read."""
LEEWAY_SECONDS = 30
REMEMBERED_SECONDS = 60.0
REMEMBERED = 4096
RETRY_AFTER = 5.0
MOST_WAITING = 256
"""Callers that wait for the keys at once."""
_LATEST = 1 << 53
"""Seconds since 1970; a token that lasts longer is remembered as one that lasts so long."""
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_SUBJECT = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class _Checked:
    """An identity that was checked, and until when it stands."""

    identity: Identity
    until: float
    generation: int


def is_token(credential: str) -> bool:
    """Whether a credential looks like a token, as no API key does."""
    return credential.count(".") == 2


class JwtIdentity:
    """Checks tokens.

    Args:
        settings: what a token must be.
        keys: the provider's public keys.
        clock: monotonic seconds.
        now: the wall clock.
        capacity: checked tokens that are remembered; the oldest leave first.
    """

    def __init__(
        self,
        settings: IdentitySettings,
        keys: Jwks,
        clock: Callable[[], float],
        now: Callable[[], datetime],
        *,
        capacity: int = REMEMBERED,
    ) -> None:
        self._capacity = capacity
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._now = now
        self._checked: OrderedDict[bytes, _Checked] = OrderedDict()
        self._waiting = 0

    def remembered(self, token: str) -> Identity | None:
        """Who calls with a token that was checked less than a minute ago.

        Raises:
            CredentialInvalid: it is too long to be looked at.
        """
        if len(token) > LONGEST_TOKEN:
            raise CredentialInvalid(f"the token is longer than {LONGEST_TOKEN} characters")
        found = self._checked.get(_digest(token))
        if found is None or found.until <= self._clock():
            return None
        return found.identity if found.generation == self._keys.generation else None

    async def authenticate(self, token: str) -> Identity:
        """Who calls with this token.

        Raises:
            CredentialInvalid: it is malformed, not for us, not from the provider, or not yet valid.
            CredentialExpired: its time is over.
            NotReady: the provider's keys were never fetched.
        """
        key = await self._key(*_header(token))
        claims = self._claims(token, key)
        identity = _identity(claims, self._settings.jwt_role_claim)
        self._remember(token, identity, min(int(claims["exp"]), _LATEST))
        return identity

    async def _key(self, key_id: str, algorithm: str) -> jwt.PyJWK:
        if algorithm not in self._settings.jwt_algorithms:
            raise CredentialInvalid("the token is signed with an algorithm that is not taken here")
        key = self._keys.known(key_id)
        if key is None and self._waiting < MOST_WAITING:
            self._waiting += 1
            try:
                await self._keys.look_again()
            finally:
                self._waiting -= 1
            key = self._keys.known(key_id)
        if key is not None:
            return key
        if not self._keys.count:
            raise NotReady("tokens cannot be checked yet", retry_after=RETRY_AFTER)
        raise CredentialInvalid("the token is signed with a key that is not known")

    def _claims(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        settings = self._settings
        try:
            claims: dict[str, Any] = jwt.decode(
                token, key, algorithms=[key.algorithm_name], issuer=settings.jwt_issuer,
                audience=settings.jwt_audience, leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.ExpiredSignatureError:
            raise CredentialExpired("the token has expired") from None
        except (jwt.PyJWTError, RecursionError) as error:
            raise CredentialInvalid(f"the token is not valid: {_why(error)}") from None
        return claims

    def _remember(self, token: str, identity: Identity, expires_at: int) -> None:
        left = min(REMEMBERED_SECONDS, expires_at - self._now().timestamp())
        if left <= 0:
            return  # within the leeway
        digest = _digest(token)
        self._checked[digest] = _Checked(identity, self._clock() + left, self._keys.generation)
        self._checked.move_to_end(digest)
        if len(self._checked) > self._capacity:
            self._checked.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _header(token: str) -> tuple[str, str]:
    """(key id, algorithm) that a token says it is signed with; nothing of it is believed yet."""
    if not _FORM.fullmatch(token):
        raise CredentialInvalid("the token is malformed")
    try:
        header = jwt.get_unverified_header(token)
    except (jwt.PyJWTError, RecursionError):
        raise CredentialInvalid("the token is malformed") from None
    key_id, algorithm = header.get("kid"), header.get("alg")
    if not isinstance(key_id, str) or not isinstance(algorithm, str):
        raise CredentialInvalid("the token does not say which key it is signed with (kid)")
    return key_id, algorithm


_REASONS: dict[type[BaseException], str] = {
    jwt.InvalidSignatureError: "its signature is wrong",
    jwt.InvalidAudienceError: "it is for another audience",
    jwt.InvalidIssuerError: "it is of another issuer",
    jwt.ImmatureSignatureError: "its time has not come",
    jwt.MissingRequiredClaimError: "it lacks one of exp, iss, aud, sub",
    jwt.InvalidAlgorithmError: "its algorithm is not that of its key",
}


def _why(error: BaseException) -> str:
    return _REASONS.get(type(error), "it cannot be read")


def _identity(claims: Mapping[str, Any], role_claim: str) -> Identity:
    subject, role, scope = claims["sub"], claims.get(role_claim), claims.get("scope")
    if not _SUBJECT.fullmatch(subject):
        raise CredentialInvalid("the token's sub is no printable text of 1 to 128 characters")
    if scope is not None and not isinstance(scope, str):
        raise CredentialInvalid("the token's scope is no text")
    if not isinstance(role, str) or role not in ROLES:
        return Identity(f"jwt:{subject}", "none", frozenset(), 0.0, 0)
    own = ROLES[role]
    scopes = own.scopes if scope is None else own.scopes & frozenset(scope.split())
    return Identity(f"jwt:{subject}", role, scopes, own.rate_per_minute, own.burst)
