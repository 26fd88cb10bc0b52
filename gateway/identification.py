"""What finds out who calls, put together from the settings; the rules in the order they apply."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import ip_network

from gateway.beside import Beside
from gateway.call import Admission
from gateway.certificate_identity import CertificateIdentity
from gateway.gcra import Limiter
from gateway.handover import Handover
from gateway.interceptors.auth import Authentication
from gateway.interceptors.client_address import ClientAddress
from gateway.interceptors.scope import require_scope
from gateway.jwks import Jwks
from gateway.jwt_identity import JwtIdentity
from gateway.keys import KeyRing
from gateway.settings import Settings


@dataclass(frozen=True, slots=True)
class Identification:
    """What finds out who calls.

    Attributes:
        rules: those of the pipeline that need no request, in order.
        jwks: public keys of the identity provider; None where no tokens are taken.
        refresh_seconds: how often those are fetched.
    """

    rules: tuple[Admission, ...]
    jwks: Jwks | None
    refresh_seconds: float

    def beside(self) -> Iterator[Beside]:
        """What goes on beside the calls."""
        if self.jwks is not None:
            yield Beside("fetching public keys", partial(self.jwks.keep, self.refresh_seconds))

    async def close(self) -> None:
        """Lets go of connections."""
        if self.jwks is not None:
            await self.jwks.close()


def identification(
    settings: Settings, ring: KeyRing, clock: Callable[[], float], now: Callable[[], datetime]
) -> Identification:
    """The rules as the settings have them."""
    identity = settings.identity
    secret = settings.upstream.secret if settings.gateway.behind else None
    jwks = Jwks(identity.jwks_url, identity.jwt_algorithms, clock) if identity.jwks_url else None
    failures = Limiter(clock)
    authentication = Authentication(
        ring,
        failures,
        anonymous_role=settings.gateway.anonymous_role,
        tokens=JwtIdentity(identity, jwks, clock, now) if jwks is not None else None,
        certificates=CertificateIdentity(identity.certificate_roles),
    )
    rules: tuple[Admission, ...] = (
        Handover(secret.get_secret_value() if secret else None, failures),
        ClientAddress([ip_network(text) for text in identity.trusted_proxies]),
        authentication,
        require_scope,
    )
    return Identification(rules, jwks, identity.jwks_refresh_seconds)
