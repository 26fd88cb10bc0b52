"""Callers with a client certificate whose name has a role.

The transport has verified the certificate (``gateway.tls_client_ca``). Its names are looked up in
this order: URIs (SPIFFE), DNS names, and the common name where it has neither (RFC 9525, 2). The
first that has a role counts; a certificate without one is no credential.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from gateway.call import Identity
from gateway.roles import ROLES


class CertificateIdentity:
    """Finds the role of a certificate.

    Args:
        roles: role by name of a certificate.
    """

    def __init__(self, roles: Mapping[str, str]) -> None:
        self._identities = {name: _identity(name, role) for name, role in roles.items()}

    def of(self, context: Any) -> Identity | None:
        """Who shows the certificate of this connection; None where it has no role."""
        if not self._identities:
            return None
        properties = context.auth_context()
        if properties.get("transport_security_type") != [b"ssl"]:
            return None
        for name in _names(properties):
            if name in self._identities:
                return self._identities[name]
        return None


def _names(properties: Mapping[str, Any]) -> Iterator[str]:
    alternative = [*properties.get("peer_uri", ()), *properties.get("peer_dns", ())]
    for name in alternative or properties.get("x509_common_name", ()):
        yield name.decode(errors="replace")


def _identity(name: str, role: str) -> Identity:
    own = ROLES[role]
    return Identity(f"cert:{name}", role, own.scopes, own.rate_per_minute, own.burst)
