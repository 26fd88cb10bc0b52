"""Tokens of an identity provider, over the wire: what is taken, and everything that is not."""

from __future__ import annotations

import base64
import contextlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.jwt_identity import LONGEST_TOKEN
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import scoreboard_pb2

MODELS = pb.ListModelsRequest()
ISSUER, AUDIENCE = "https://login.example", "marketcal"
RSA, EC, OKP = (
    jwt.algorithms.RSAAlgorithm,
    jwt.algorithms.ECAlgorithm,
    jwt.algorithms.OKPAlgorithm,
)
KEYS: dict[str, tuple[str, Any, Any]] = {
    "rsa": ("RS256", RSA, rsa.generate_private_key(65537, 2048)),
    "ec": ("ES256", EC, ec.generate_private_key(ec.SECP256R1())),
    "ed": ("EdDSA", OKP, ed25519.Ed25519PrivateKey.generate()),
}
STRANGER = rsa.generate_private_key(65537, 2048)


@dataclass
class Provider:
    """Serves public keys."""

    named: list[str] = field(default_factory=lambda: list(KEYS))
    status: int = 200
    asked: int = 0
    may_answer: threading.Event = field(default_factory=threading.Event)

    def body(self) -> bytes:
        keys = [
            dict(KEYS[name][1].to_jwk(KEYS[name][2].public_key(), as_dict=True)) | {"kid": name}
            for name in self.named
        ]
        return json.dumps({"keys": keys}).encode()

    def handler(self) -> type[BaseHTTPRequestHandler]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.asked += 1
                provider.may_answer.wait(20)
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    body = provider.body()
                    self.send_response(provider.status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Is silent."""

        return Handler


@dataclass
class Served:
    """A gateway that takes the provider's tokens."""

    running: Any
    stubs: Any
    provider: Provider


def serve(
    stack: ExitStack, serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider
) -> Served:
    identity = {
        "jwks_url": f"{serve_http(provider.handler())}/keys",
        "jwt_issuer": ISSUER,
        "jwt_audience": AUDIENCE,
    }
    running = serve_gateway(stack, identity=identity)
    return Served(running, stubs_on(running.channel), provider)


@pytest.fixture
def provider() -> Iterator[Provider]:
    made = Provider()
    made.may_answer.set()
    yield made
    made.may_answer.set()


@pytest.fixture
def served(
    serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider
) -> Iterator[Served]:
    with ExitStack() as stack:
        yield serve(stack, serve_gateway, serve_http, stubs_on, provider)


def claims(**bent: Any) -> dict[str, Any]:
    """Good claims, bent by the given ones; None leaves one out."""
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "role": "forecaster",
            "exp": int(time.time()) + 600}  # fmt: skip
    return {name: value for name, value in (good | bent).items() if value is not None}


def token(name: str = "rsa", headers: dict[str, Any] | None = None, **bent: Any) -> str:
    algorithm, _, key = KEYS[name]
    given = {"kid": name} if headers is None else headers
    return jwt.encode(claims(**bent), key, algorithm=algorithm, headers=given)


def bearer(text: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {text}"),)


@pytest.mark.parametrize("name", KEYS)
def test_a_token_of_the_provider_is_taken(name: str, served: Served) -> None:
    sent = bearer(token(name))
    assert served.stubs.forecasts.ListModels(MODELS, metadata=sent, timeout=20).models


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def public_pem() -> bytes:
    return (
        KEYS["rsa"][2]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )  # type: ignore[no-any-return]


def signed_with_the_public_key() -> str:
    """HS256 with the published key as the secret: the oldest confusion of algorithms."""
    import hashlib
    import hmac

    signing = f"{part({'alg': 'HS256', 'kid': 'rsa'})}.{part(claims())}"
    mac = hmac.new(public_pem(), signing.encode(), hashlib.sha256).digest()
    return f"{signing}.{part(mac)}"


def with_header(**header: Any) -> str:
    """A token whose signature belongs to another header."""
    return f"{part(header)}.{token().split('.', 1)[1]}"


now = int(time.time())
BAD_TOKENS: dict[str, tuple[str, str]] = {
    "another issuer": (token(iss="https://evil.example"), "CREDENTIAL_INVALID"),
    "no issuer": (token(iss=None), "CREDENTIAL_INVALID"),
    "another audience": (token(aud="somebody"), "CREDENTIAL_INVALID"),
    "audiences without us": (token(aud=["a", "b"]), "CREDENTIAL_INVALID"),
    "no audience": (token(aud=None), "CREDENTIAL_INVALID"),
    "expired": (token(exp=now - 60), "CREDENTIAL_EXPIRED"),
    "no end": (token(exp=None), "CREDENTIAL_INVALID"),
    "an end that is no time": (token(exp="soon"), "CREDENTIAL_INVALID"),
    "not yet valid": (token(nbf=now + 600), "CREDENTIAL_INVALID"),
    "made in the future": (token(iat=now + 600), "CREDENTIAL_INVALID"),
    "no subject": (token(sub=None), "CREDENTIAL_INVALID"),
    "empty subject": (token(sub=""), "CREDENTIAL_INVALID"),
    "subject with a line break": (token(sub="ada\nroot"), "CREDENTIAL_INVALID"),
    "subject without an end": (token(sub="a" * 129), "CREDENTIAL_INVALID"),
    "scope that is no text": (token(scope=["alert.read"]), "CREDENTIAL_INVALID"),
    "no role": (token(role=None), "SCOPE_MISSING"),
    "a role that is none of ours": (token(role="root"), "SCOPE_MISSING"),
    "roles in a list": (token(role=["admin"]), "SCOPE_MISSING"),
    "a role that may less": (token(role="viewer"), "SCOPE_MISSING"),
    "a scope that narrows": (token(role="admin", scope="alert.read"), "SCOPE_MISSING"),
    "a scope that would widen": (token(role="viewer", scope="forecast.read"), "SCOPE_MISSING"),
    "no key id": (token(headers={}), "CREDENTIAL_INVALID"),
    "unknown key id": (token(headers={"kid": "nobody"}), "CREDENTIAL_INVALID"),
    "key id that is a number": (with_header(alg="RS256", kid=5), "CREDENTIAL_INVALID"),
    "id of a key of another kind": (token(headers={"kid": "ec"}), "CREDENTIAL_INVALID"),
    "signed by a stranger": (
        jwt.encode(claims(), STRANGER, algorithm="RS256", headers={"kid": "rsa"}),
        "CREDENTIAL_INVALID",
    ),
    "signed with the public key": (signed_with_the_public_key(), "CREDENTIAL_INVALID"),
    "not signed": (
        f"{part({'alg': 'none', 'kid': 'rsa'})}.{part(claims())}.", "CREDENTIAL_INVALID",
    ),
    "not signed, in capitals": (
        f"{part({'alg': 'NONE', 'kid': 'rsa'})}.{part(claims())}.", "CREDENTIAL_INVALID",
    ),
    "signature taken off": (token().rpartition(".")[0] + ".", "CREDENTIAL_INVALID"),
    "claims exchanged": (
        ".".join([token().split(".")[0], part(claims(role="admin")), token().split(".")[2]]),
        "CREDENTIAL_INVALID",
    ),
    "algorithm that is not taken": (
        jwt.encode(claims(), KEYS["rsa"][2], algorithm="RS512", headers={"kid": "rsa"}),
        "CREDENTIAL_INVALID",
    ),
    "key in its own header": (
        token(headers={"kid": "x", "jwk": RSA.to_jwk(STRANGER.public_key(), as_dict=True)}),
        "CREDENTIAL_INVALID",
    ),
    "address of keys in its own header": (
        token(headers={"kid": "x", "jku": "http://127.0.0.1:1/k"}), "CREDENTIAL_INVALID",
    ),
    "an extension that it calls critical": (
        token(headers={"kid": "rsa", "crit": ["x"], "x": 1}), "CREDENTIAL_INVALID",
    ),
    "header nested without an end": (f"{part(b'[' * 4000)}.e30.e30", "CREDENTIAL_INVALID"),
    "header that is no JSON": ("abc.abc.abc", "CREDENTIAL_INVALID"),
    "header that is no object": (f"{part([1])}.e30.e30", "CREDENTIAL_INVALID"),
    "empty parts": ("..", "CREDENTIAL_INVALID"),
    "other letters": (token().replace(".", ".!", 1), "CREDENTIAL_INVALID"),
    "four parts": (f"{token()}.x", "CREDENTIAL_INVALID"),
    "longer than is looked at": (token(x="y" * LONGEST_TOKEN), "CREDENTIAL_INVALID"),
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(serve_gateway: Any, stubs_on: Any) -> Iterator[Served]:
    """One gateway for all bad tokens; its provider is asked as seldom as by one."""
    from http.server import ThreadingHTTPServer

    provider = Provider()
    provider.may_answer.set()
    listening = ThreadingHTTPServer(("127.0.0.1", 0), provider.handler())
    thread = threading.Thread(target=listening.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    with ExitStack() as stack:
        url = f"http://127.0.0.1:{listening.server_port}"
        yield serve(stack, serve_gateway, lambda _: url, stubs_on, provider)
    listening.shutdown()
    listening.server_close()
    thread.join(5)


@pytest.mark.parametrize(("bad", "reason"), BAD_TOKENS.values(), ids=BAD_TOKENS.keys())
def test_a_bad_token_is_refused_with_its_reason(
    bad: str, reason: str, shared: Served, refused: Any
) -> None:
    refusal = refused(shared.stubs.forecasts.ListModels, MODELS, bearer(bad))
    assert refusal.reason == reason
    assert shared.provider.asked <= 2, "at the start, and once for an unknown key"


def test_a_scope_narrows_and_leaves_the_rest(served: Served, refused: Any) -> None:
    sent = bearer(token(role="admin", scope="forecast.read openid"))
    assert served.stubs.forecasts.ListModels(MODELS, metadata=sent, timeout=20).models
    scores = scoreboard_pb2.ListScoresRequest()
    assert refused(served.stubs.scores.ListScores, scores, sent).reason == "SCOPE_MISSING"


def test_half_a_minute_between_clocks_is_forgiven(served: Served) -> None:
    late, early = token(exp=int(time.time()) - 10), token("ec", nbf=int(time.time()) + 10)
    for sent in (late, early, late):
        assert served.stubs.forecasts.ListModels(MODELS, metadata=bearer(sent), timeout=20).models


def test_a_key_that_appears_later_is_fetched_when_a_token_names_it(
    serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider, refused: Any, until: Any
) -> None:
    provider.named = ["rsa"]
    with ExitStack() as stack:
        served = serve(stack, serve_gateway, serve_http, stubs_on, provider)
        jwks = served.running.parts.identification.jwks
        call = served.stubs.forecasts.ListModels
        until(lambda: jwks.count == 1)
        provider.named = ["ec"]
        jwks._fetched_at = float("-inf")  # ten seconds later
        assert call(MODELS, metadata=bearer(token("ec")), timeout=20).models
        withdrawn = refused(call, MODELS, bearer(token("rsa")))
        assert withdrawn.reason == "CREDENTIAL_INVALID", "a withdrawn key ends its tokens"


def test_a_withdrawn_key_ends_tokens_that_were_checked_before(
    served: Served, refused: Any, until: Any, server_loop: Any
) -> None:
    sent, call = bearer(token("rsa")), served.stubs.forecasts.ListModels
    assert call(MODELS, metadata=sent, timeout=20).models
    served.provider.named = ["ec"]
    jwks = served.running.parts.identification.jwks
    jwks._fetched_at = float("-inf")
    server_loop.run(jwks.look_again())
    assert refused(call, MODELS, sent).reason == "CREDENTIAL_INVALID"


def test_without_keys_tokens_wait_and_api_keys_are_served(
    serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider, refused: Any
) -> None:
    provider.status = 500
    with ExitStack() as stack:
        served = serve(stack, serve_gateway, serve_http, stubs_on, provider)
        call = served.stubs.forecasts.ListModels
        refusal = refused(call, MODELS, bearer(token()))
        assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
        assert "retry-after" in refusal.trailers
        own = bearer(served.running.key("forecaster"))
        assert call(MODELS, metadata=own, timeout=20).models


def test_a_provider_that_goes_away_leaves_its_keys(
    served: Served, refused: Any, server_loop: Any, until: Any
) -> None:
    jwks = served.running.parts.identification.jwks
    until(lambda: jwks.count == 3)
    served.provider.status = 503
    jwks._fetched_at = float("-inf")
    call = served.stubs.forecasts.ListModels
    unknown = bearer(token(headers={"kid": "new"}))
    assert refused(call, MODELS, unknown).reason == "CREDENTIAL_INVALID"
    assert served.provider.asked == 2
    assert call(MODELS, metadata=bearer(token(sub="grace")), timeout=20).models


def test_a_slow_provider_holds_up_nobody_with_a_key_of_ours(
    serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider, until: Any
) -> None:
    provider.may_answer.clear()
    with ExitStack() as stack:
        served = serve(stack, serve_gateway, serve_http, stubs_on, provider)
        call = served.stubs.forecasts.ListModels
        waiting = call.future(MODELS, metadata=bearer(token()), timeout=20)
        until(lambda: provider.asked == 1)
        own = bearer(served.running.key("forecaster"))
        assert call(MODELS, metadata=own, timeout=2).models
        assert not waiting.done()
        provider.may_answer.set()
        assert waiting.result(20).models


def test_bad_tokens_use_up_the_limit_of_their_address(
    serve_gateway: Any, serve_http: Any, stubs_on: Any, provider: Provider, refused: Any
) -> None:
    with ExitStack() as stack:
        served = serve(stack, serve_gateway, serve_http, stubs_on, provider)
        call = served.stubs.forecasts.ListModels
        bad = bearer(token(iss="https://evil.example"))
        reasons = [refused(call, MODELS, bad).reason for _ in range(62)]
        assert set(reasons[:60]) == {"CREDENTIAL_INVALID"}
        assert reasons[-1] == "TOO_MANY_FAILED_CREDENTIALS"
        assert call(MODELS, metadata=bearer(token()), timeout=20).models, "a good one passes"
