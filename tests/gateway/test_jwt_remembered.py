"""A token that was checked is remembered: for a minute, no longer than it lasts, and not many."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519

from gateway.identity_settings import ALGORITHMS, IdentitySettings
from gateway.jwks import Jwks
from gateway.jwt_identity import JwtIdentity

KEY = ed25519.Ed25519PrivateKey.generate()
SETTINGS = IdentitySettings(
    jwks_url="https://login.example/keys", jwt_issuer="issuer", jwt_audience="us"
)


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Given(Jwks):
    """The keys of a provider that answered once."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(SETTINGS.jwks_url, ALGORITHMS, clock)
        data = jwt.algorithms.OKPAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
        self._key = jwt.PyJWK(dict(data) | {"kid": "k"})

    @property
    def count(self) -> int:
        return 1

    def known(self, key_id: str) -> jwt.PyJWK | None:
        return self._key if key_id == "k" else None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def tokens(clock: Clock) -> AsyncIterator[JwtIdentity]:
    keys = Given(clock)
    yield JwtIdentity(SETTINGS, keys, clock, lambda: datetime.now(UTC))
    await keys.close()


def token(seconds: float = 600, **more: Any) -> str:
    claims = {"iss": "issuer", "aud": "us", "sub": "ada", "role": "viewer",
              "exp": int(time.time() + seconds)}  # fmt: skip
    return jwt.encode(claims | more, KEY, algorithm="EdDSA", headers={"kid": "k"})


async def test_for_a_minute_and_no_longer(tokens: JwtIdentity, clock: Clock) -> None:
    text = token()
    assert tokens.remembered(text) is None
    identity = await tokens.authenticate(text)
    clock.now = 59.9
    assert tokens.remembered(text) is identity
    clock.now = 60.0
    assert tokens.remembered(text) is None


async def test_no_longer_than_the_token_lasts(tokens: JwtIdentity, clock: Clock) -> None:
    text, late = token(20), token(-10)
    await tokens.authenticate(text)
    await tokens.authenticate(late)
    assert tokens.remembered(late) is None, "within the leeway each call is checked"
    clock.now = 21.0
    assert tokens.remembered(text) is None


async def test_a_token_without_an_end_in_sight_is_remembered_as_any_other(
    tokens: JwtIdentity, clock: Clock
) -> None:
    text = token(exp=10**400)
    await tokens.authenticate(text)
    assert tokens.remembered(text) is not None


async def test_another_token_of_the_same_caller_is_checked_by_itself(tokens: JwtIdentity) -> None:
    text = token()
    await tokens.authenticate(text)
    assert tokens.remembered(token(601)) is None
    assert tokens.remembered(text[:-1]) is None


async def test_at_most_so_many_the_oldest_leaves_first(clock: Clock) -> None:
    keys = Given(clock)
    tokens = JwtIdentity(SETTINGS, keys, clock, lambda: datetime.now(UTC), capacity=3)
    texts = [token(sub=f"caller-{number}") for number in range(4)]
    for text in texts:
        await tokens.authenticate(text)
    assert [tokens.remembered(text) is not None for text in texts] == [False, True, True, True]
    await keys.close()


async def test_the_identity_is_that_of_the_claims(tokens: JwtIdentity) -> None:
    identity = await tokens.authenticate(token(role="operator", scope="alert.read alert.write x"))
    assert (identity.name, identity.role) == ("jwt:ada", "operator")
    assert identity.scopes == {"alert.read", "alert.write"}
    assert (identity.rate_per_minute, identity.burst) == (6_000, 1_000)
