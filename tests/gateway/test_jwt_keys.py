"""The provider's public keys: fetched once for all, kept while it is away, never from elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
from collections.abc import AsyncIterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.identity_settings import ALGORITHMS
from gateway.jwks import LARGEST_SET, Jwks, JwksError, read_set, usable_keys
from gateway.supervisor.ports import free_port

RSA = jwt.algorithms.RSAAlgorithm
EC = jwt.algorithms.ECAlgorithm
OKP = jwt.algorithms.OKPAlgorithm
RSA_2048 = rsa.generate_private_key(65537, 2048)
RSA_1024 = rsa.generate_private_key(65537, 1024)
EC_256 = ec.generate_private_key(ec.SECP256R1())
EC_384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()


def public(kind: Any, key: Any, key_id: str, **more: str) -> dict[str, Any]:
    """A public key as a set holds it."""
    return dict(kind.to_jwk(key.public_key(), as_dict=True)) | {"kid": key_id} | more


class Provider:
    """What the provider answers, and how often it was asked."""

    def __init__(self) -> None:
        self.status = 200
        self.body = json.dumps({"keys": [public(EC, EC_256, "first")]}).encode()
        self.headers: dict[str, str] = {}
        self.asked: list[str] = []
        self.may_answer = threading.Event()
        self.may_answer.set()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked.append(self.path)
                provider.may_answer.wait(20)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self.send_response(provider.status)
                    for name, value in provider.headers.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(provider.body)))
                    self.end_headers()
                    self.wfile.write(provider.body)

            def log_message(self, format: str, *args: Any) -> None:
                """Is silent."""

        return Handler


class Clock:
    """Monotonic seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def provider() -> Provider:
    return Provider()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def keys(provider: Provider, clock: Clock, serve_http: Any) -> AsyncIterator[Jwks]:
    made = Jwks(f"{serve_http(provider.handler())}/keys", ALGORITHMS, clock)
    yield made
    provider.may_answer.set()
    await made.close()


async def test_a_key_is_fetched_and_known_by_its_id(keys: Jwks) -> None:
    assert keys.known("first") is None
    await keys.look_again()
    found = keys.known("first")
    assert found is not None
    assert found.algorithm_name == "ES256"
    assert keys.known("other") is None


async def test_strangers_bring_about_one_fetch_in_ten_seconds(
    keys: Jwks, provider: Provider, clock: Clock
) -> None:
    for _ in range(50):
        await keys.look_again()
    clock.now += 9.9
    await keys.look_again()
    assert len(provider.asked) == 1
    clock.now += 0.2
    await keys.look_again()
    assert len(provider.asked) == 2


async def test_those_who_wait_share_one_fetch_and_who_leaves_does_not_end_it(
    keys: Jwks, provider: Provider, until: Any
) -> None:
    provider.may_answer.clear()
    waiting = [asyncio.create_task(keys.look_again()) for _ in range(20)]
    await asyncio.to_thread(until, lambda: bool(provider.asked))
    waiting[0].cancel()
    provider.may_answer.set()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert (len(provider.asked), keys.known("first") is not None) == (1, True)


async def test_keys_that_the_provider_takes_back_are_gone(
    keys: Jwks, provider: Provider, clock: Clock
) -> None:
    await keys.look_again()
    before = keys.generation
    provider.body = json.dumps({"keys": [public(EC, EC_256, "second")]}).encode()
    clock.now += 11
    await keys.look_again()
    assert keys.known("first") is None
    assert keys.known("second") is not None
    assert keys.generation == before + 1


async def test_the_same_keys_again_are_no_change(keys: Jwks, clock: Clock) -> None:
    await keys.look_again()
    before = keys.generation
    clock.now += 11
    await keys.look_again()
    assert keys.generation == before


BAD_ANSWERS: dict[str, tuple[int, bytes]] = {
    "an error of the server": (500, b"{}"),
    "a refusal": (403, b"{}"),
    "a redirect": (302, b"{}"),
    "no JSON": (200, b"<html>"),
    "no object": (200, b"[]"),
    "no keys": (200, b'{"keys": []}'),
    "keys that are no list": (200, b'{"keys": {"kid": "x"}}'),
    "keys that are no objects": (200, b'{"keys": [1, null, "x", []]}'),
    "no bytes": (200, b""),
    "nested without an end": (200, b"[" * 100_000),
    "more than is read": (200, b" " * (LARGEST_SET + 1)),
    "keys without material": (200, b'{"keys": [{"kty": "RSA", "kid": "a"}, {"kty": "EC"}]}'),
    "keys of nonsense": (200, b'{"keys": [{"kty": "RSA", "kid": "a", "n": 5, "e": []}]}'),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
async def test_an_answer_that_cannot_be_used_changes_nothing(
    answer: tuple[int, bytes], keys: Jwks, provider: Provider, clock: Clock
) -> None:
    await keys.look_again()
    provider.status, provider.body = answer
    provider.headers = {"location": "/keys"} if answer[0] == 302 else {}
    clock.now += 11
    await keys.look_again()
    assert keys.known("first") is not None
    assert len(provider.asked) == 2, "a redirect is not followed"


async def test_a_provider_that_is_away_is_none_that_has_no_keys(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = Jwks(f"http://127.0.0.1:{free_port()}/keys", ALGORITHMS, clock)
    with caplog.at_level(logging.WARNING, "gateway.jwks"):
        await keys.look_again()
    assert keys.count == 0
    assert "cannot fetch the public keys: ConnectError; 0 keys kept" in caplog.text
    await keys.close()


async def test_what_goes_on_beside_the_calls_fetches_without_being_asked(
    keys: Jwks, provider: Provider, until: Any
) -> None:
    keeping = asyncio.create_task(keys.keep(0.01))
    await asyncio.to_thread(until, lambda: len(provider.asked) >= 3)
    keeping.cancel()
    assert keys.known("first") is not None


def set_of(*keys: dict[str, Any]) -> Any:
    return read_set(json.dumps({"keys": keys}).encode())


def test_keys_of_kinds_that_are_not_taken_are_left_out() -> None:
    private = dict(RSA.to_jwk(RSA_2048, as_dict=True)) | {"kid": "private"}
    taken = usable_keys(
        set_of(
            public(RSA, RSA_2048, "rsa"),
            public(EC, EC_256, "ec"),
            public(OKP, ED, "ed"),
            public(RSA, RSA_2048, "encrypts", use="enc"),
            public(RSA, RSA_2048, "other", alg="RS512"),
            public(RSA, RSA_1024, "short"),
            public(EC, EC_384, "curve"),
            private,
            {"kty": "oct", "k": "c2VjcmV0", "kid": "shared", "alg": "HS256"},
            dict(RSA.to_jwk(RSA_2048.public_key(), as_dict=True)),
        ),
        ALGORITHMS,
    )
    assert sorted(taken) == ["ec", "ed", "rsa"]
    assert {name: key.algorithm_name for name, key in taken.items()} == {
        "rsa": "RS256", "ec": "ES256", "ed": "EdDSA",
    }  # fmt: skip


def test_a_set_without_a_key_of_use_is_no_set() -> None:
    with pytest.raises(JwksError, match="no key"):
        usable_keys(set_of({"kty": "oct", "k": "c2VjcmV0", "kid": "shared"}), ALGORITHMS)
