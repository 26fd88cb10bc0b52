"""Settings of who callers are: tokens of an identity provider, certificates, proxies."""

from __future__ import annotations

import ipaddress
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.server_settings import is_loopback

RoleName = Literal["viewer", "forecaster", "operator", "admin"]
Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
                    "ES256", "ES384", "ES512", "EdDSA"]  # fmt: skip
"""What a token may be signed with: never a secret that both sides share, never nothing."""
ALGORITHMS: tuple[Algorithm, ...] = ("RS256", "ES256", "EdDSA")


class IdentitySettings(BaseModel):
    """Section ``identity``: who callers are, beside API keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jwks_url: str = Field(
        "", description="Public keys (JWKS) of the identity provider; empty: no tokens are taken."
    )
    jwt_issuer: str = Field("", description="The `iss` that a token must have.")
    jwt_audience: str = Field("", description="The `aud` that a token must have.")
    jwt_role_claim: str = Field("role", min_length=1, description="Claim that holds the role.")
    jwt_algorithms: tuple[Algorithm, ...] = Field(
        ALGORITHMS, min_length=1, description="Signatures that are taken."
    )
    jwks_refresh_seconds: float = Field(
        300.0, ge=1, le=86_400, description="How often the public keys are fetched anew."
    )
    certificate_roles: dict[str, RoleName] = Field(
        {}, description="Role by URI, DNS name or common name of a client certificate."
    )
    trusted_proxies: tuple[str, ...] = Field(
        (), description="Addresses or networks whose `x-forwarded-for` is believed."
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for text in given:
            try:
                network = ipaddress.ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is no address and no network: {error}") from None
            if network.prefixlen == 0:
                raise ValueError(f"{text} is everybody: nobody's address could be believed")
        return given

    @field_validator("jwks_url")
    @classmethod
    def _encrypted(cls, url: str) -> str:
        """Whoever could change the keys on their way could be anybody."""
        if not url:
            return url
        parts = urlsplit(url)
        if not parts.hostname or parts.scheme not in ("http", "https"):
            raise ValueError("this is no https URL")
        if parts.scheme == "http" and not is_loopback(parts.hostname):
            raise ValueError(f"keys from {parts.hostname} must be fetched with https")
        return url

    @model_validator(mode="after")
    def _whole(self) -> Self:
        """A token for anybody, or from anybody, would be one for us too."""
        given = (self.jwks_url, self.jwt_issuer, self.jwt_audience)
        if any(given) and not all(given):
            raise ValueError("jwks_url, jwt_issuer and jwt_audience go together")
        return self
