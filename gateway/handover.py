"""Who calls, told from the gateway in front to the process behind it, signed for a minute.

The process in front has checked the credential and taken the cost from the caller's limit. It says
so in one metadata entry, a JSON web token (RFC 7519, HS256) signed with a secret that both know;
what a caller sends under that name by itself is never passed on, and without the secret never read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime, timedelta

import jwt

from gateway.call import Call, Identity
from gateway.gcra import Limiter
from gateway.interceptors.auth import count_failure
from marketcal.errors import CredentialInvalid

HEADER = "x-marketcal-caller"
_ISSUER, _AUDIENCE = "marketcal-gateway", "marketcal-upstream"
_LIFETIME = timedelta(seconds=60)
_REUSED = timedelta(seconds=20)
_SKEW = timedelta(seconds=30)
"""How far the clocks of the two machines may be apart."""
_REMEMBERED = 4096


class Signer:
    """Makes tokens; the token of a caller is used again for twenty seconds."""

    def __init__(self, secret: str, now: Callable[[], datetime]) -> None:
        self._secret = secret
        self._now = now
        self._made: OrderedDict[Identity, tuple[datetime, str]] = OrderedDict()

    def token(self, identity: Identity) -> str:
        """The token that says that ``identity`` calls."""
        now = self._now()
        made = self._made.get(identity)
        if made is not None and now - made[0] < _REUSED:
            return made[1]
        claims = {
            "iss": _ISSUER, "aud": _AUDIENCE, "iat": now, "exp": now + _LIFETIME,
            "sub": identity.name, "role": identity.role, "scopes": sorted(identity.scopes),
        }  # fmt: skip
        token = jwt.encode(claims, self._secret, algorithm="HS256")
        self._made[identity] = (now, token)
        self._made.move_to_end(identity)
        if len(self._made) > _REMEMBERED:
            self._made.popitem(last=False)
        return token


class Handover:
    """Takes the caller from the process in front; a rule that stands before authentication.

    Args:
        secret: shared with the process in front; None where nobody stands in front.
        failures: limits failed credentials, handovers among them.
    """

    def __init__(self, secret: str | None, failures: Limiter) -> None:
        self._secret = secret
        self._failures = failures

    def __call__(self, call: Call) -> None:
        """Sets ``call.identity`` where a token says who calls.

        Raises:
            CredentialInvalid: the token was not made by a gateway that knows the secret, or is old.
            TooManyFailedCredentials: that happened too often from this address.
        """
        token = call.metadata.get(HEADER)
        if token is None or self._secret is None:
            return
        try:
            claims = jwt.decode(
                token, self._secret, algorithms=["HS256"], audience=_AUDIENCE, issuer=_ISSUER,
                leeway=_SKEW, options={"require": ["exp", "sub", "role", "scopes"]},
            )  # fmt: skip
        except jwt.PyJWTError:
            count_failure(self._failures, call.network)
            raise CredentialInvalid("the handover from another gateway is not valid") from None
        call.identity = Identity(
            name=str(claims["sub"]),
            role=str(claims["role"]),
            scopes=frozenset(map(str, claims["scopes"])),
            rate_per_minute=float("inf"),
            burst=0,
            unlimited=True,
        )
