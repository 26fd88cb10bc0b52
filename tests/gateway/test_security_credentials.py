"""Credentials that are at their end, malformed or guessed, over a real connection."""

from __future__ import annotations

import hashlib
import hmac
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import jwt
import pytest

from gateway import keys as keys_module
from gateway.call import Call
from gateway.contract import read_methods
from gateway.gcra import Limiter
from gateway.interceptors.auth import Authentication
from gateway.keys import KeyRing, new_key, split_key
from gateway.wiring import utc_now
from marketcal.errors import CredentialInvalid, Unauthenticated
from marketcal.v1 import forecast_pb2 as pb

MODELS = pb.ListModelsRequest()
PATH = "/marketcal.v1.ForecastService/ListModels"
SECRET = "b7f2c4d98e0a41369f5be2d17c6a8043"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture
def own(serve_gateway: Any, stack: ExitStack) -> Any:
    """A gateway whose limits of failed credentials are this test's own."""
    return serve_gateway(stack)


@pytest.fixture(scope="module")
def crowd(serve_gateway: Any) -> Iterator[Any]:
    """One gateway for many failed credentials, each from an address of its own."""
    with ExitStack() as open_things:
        yield serve_gateway(open_things, identity={"trusted_proxies": ("127.0.0.1",)})


def reason(running: Any, read_refusal: Any, *metadata: tuple[str, Any]) -> str:
    """The reason of the refusal; "" for an answer."""
    call: Any = running.channel.unary_unary(PATH)
    try:
        call(b"", metadata=metadata, timeout=20)
    except grpc.RpcError as error:
        return str(read_refusal(error).reason)
    return ""


def test_an_expired_key_is_refused(own: Any, read_refusal: Any, until: Any) -> None:
    key = ("x-api-key", own.key("forecaster", lifetime=timedelta(milliseconds=300)))
    assert reason(own, read_refusal, key) == ""
    until(lambda: reason(own, read_refusal, key) != "")
    assert reason(own, read_refusal, key) == "CREDENTIAL_EXPIRED"


def test_a_revoked_key_is_refused_without_a_restart(
    own: Any, read_refusal: Any, until: Any
) -> None:
    text = own.key("forecaster")
    assert reason(own, read_refusal, ("x-api-key", text)) == ""
    own.parts.keys.revoke(split_key(text)[0])
    until(lambda: reason(own, read_refusal, ("x-api-key", text)) == "CREDENTIAL_REVOKED")


def test_a_rotated_key_works_during_the_overlap_and_ends_after_it(
    own: Any, read_refusal: Any, until: Any
) -> None:
    old = own.key("forecaster")
    new, _ = own.parts.keys.rotate(split_key(old)[0], timedelta(seconds=1))
    own.parts.ring.replace(own.parts.keys.rows())
    assert [reason(own, read_refusal, ("x-api-key", key)) for key in (old, new)] == ["", ""]
    until(lambda: reason(own, read_refusal, ("x-api-key", old)) == "CREDENTIAL_EXPIRED")
    assert reason(own, read_refusal, ("x-api-key", new)) == ""


GOOD = "mk_abcdefgh_" + "s" * 38
MALFORMED: dict[str, tuple[tuple[str, Any], ...]] = {
    "empty bearer": (("authorization", "Bearer "),),
    "bearer alone": (("authorization", "Bearer"),),
    "another scheme": (("authorization", f"Basic {GOOD}"),),
    "no scheme": (("authorization", GOOD),),
    "empty": (("authorization", ""),),
    "empty key": (("x-api-key", ""),),
    "a prefix": (("x-api-key", "mk_"),),
    "no secret": (("x-api-key", "mk_abcdefgh_"),),
    "a letter too few": (("x-api-key", GOOD[:-1]),),
    "a letter too many": (("x-api-key", GOOD + "s"),),
    "capitals": (("x-api-key", GOOD.upper()),),
    "two keys in one": (("x-api-key", f"{GOOD},{GOOD}"),),
    "a line break": (("x-api-key", GOOD + "%0a"),),
    "a path": (("x-api-key", "../../etc/passwd"),),
    "a statement": (("x-api-key", "mk_' OR 1=1 --_x"),),
    "long": (("x-api-key", "m" * 8_000),),
    "bearer within": (("x-api-key", f"Bearer {GOOD}"),),
    "two that differ": (("authorization", f"Bearer {GOOD}"), ("x-api-key", new_key()[0])),
    "one that is wrong": (("authorization", "Bearer x"), ("x-api-key", GOOD)),
    "two that are equal and unknown": (("authorization", f"Bearer {GOOD}"), ("x-api-key", GOOD)),
    "unknown": (("x-api-key", new_key()[0]),),
    "a token where none are taken": (("authorization", "Bearer e30.e30.e30"),),
}


@pytest.mark.parametrize("metadata", MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_credential_is_refused_as_one(
    metadata: tuple[tuple[str, Any], ...], crowd: Any, read_refusal: Any
) -> None:
    number = list(MALFORMED.values()).index(metadata)
    sent = (*metadata, ("x-forwarded-for", f"192.0.2.{number + 1}"))
    assert reason(crowd, read_refusal, *sent) == "CREDENTIAL_INVALID"


def test_two_headers_with_the_same_good_key_are_one(own: Any, read_refusal: Any) -> None:
    text = own.key("forecaster")
    both = (("authorization", f"bearer {text}"), ("x-api-key", text))
    assert reason(own, read_refusal, *both) == ""
    other = ("x-api-key", own.key("forecaster"))
    assert reason(own, read_refusal, both[0], other) == "CREDENTIAL_INVALID"


def test_a_credential_in_a_binary_header_is_none(own: Any, read_refusal: Any) -> None:
    text = own.key("forecaster")
    for name in ("authorization-bin", "x-api-key-bin"):
        sent = (name, f"Bearer {text}".encode())
        assert reason(own, read_refusal, sent) == "CREDENTIAL_MISSING"


def raw_call(port: int, headers: list[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Trailers of a call whose headers no client library has looked at; empty for a reset."""
    client = h2.connection.H2Connection(
        h2.config.H2Configuration(
            header_encoding=None, validate_outbound_headers=False, validate_inbound_headers=False,
            normalize_outbound_headers=False,
        )
    )  # fmt: skip
    standard = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":path", PATH.encode()),
        (b":authority", b"x"), (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    found: dict[bytes, bytes] = {}
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        client.initiate_connection()
        client.send_headers(1, standard + headers)
        client.send_data(1, bytes(5), end_stream=True)
        connection.sendall(client.data_to_send())
        while True:
            received = connection.recv(65_536)
            for event in client.receive_data(received) if received else [None]:
                if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                    found |= dict(event.headers)
                if event is None or isinstance(
                    event,
                    h2.events.StreamEnded | h2.events.StreamReset | h2.events.ConnectionTerminated,
                ):
                    return found
            connection.sendall(client.data_to_send())


@pytest.mark.parametrize(
    "value",
    [b"Bearer \xff\xfe\x00", b"Bearer m\xc3\xbcsli", b"Bearer mk_\x00", b"\x80" * 40],
    ids=["bytes", "umlaut", "null", "high"],
)
@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_bytes_that_are_no_text_are_no_way_in(
    name: bytes, value: bytes, own: Any, read_refusal: Any
) -> None:
    answer = raw_call(own.port, [(name, value)])
    assert answer.get(b"grpc-status", b"reset") != b"0"
    good = ("x-api-key", own.key("forecaster"))
    assert reason(own, read_refusal, good) == "", "and harm nobody else"


def test_the_raw_call_of_these_tests_passes_with_a_good_key(own: Any) -> None:
    key = own.key("forecaster").encode()
    assert raw_call(own.port, [(b"x-api-key", key)])[b"grpc-status"] == b"0"


def test_an_unknown_id_and_a_wrong_secret_are_told_apart_by_nobody(
    own: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same steps and the same words: neither time nor text tells whether an id exists."""
    known = split_key(own.key("viewer"))[0]
    own_secret = "a" * 32
    guesses = [
        f"mk_{key_id}_{own_secret}{keys_module._checksum(key_id, own_secret)}"
        for key_id in (known, "nobody00")
    ]
    steps: list[str] = []
    compare, digest = hmac.compare_digest, hashlib.sha256
    monkeypatch.setattr(
        "hmac.compare_digest", lambda a, b: bool(steps.append("compare")) or compare(a, b)
    )
    monkeypatch.setattr(
        "hashlib.sha256", lambda raw: digest(raw) if steps.append("digest") is None else None
    )
    said = []
    for guess in guesses:
        with pytest.raises(CredentialInvalid) as refused:
            own.parts.ring.authenticate(guess)
        said.append((refused.value.message, refused.value.metadata))
    assert said[0] == said[1]
    assert steps == ["digest", "compare"] * 2


def test_failures_are_remembered_for_a_bounded_number_of_addresses() -> None:
    limiter = Limiter(time.monotonic, capacity=100)
    rule = Authentication(KeyRing(utc_now), limiter, anonymous_role=None)
    for number in range(1000):
        context: Any = type(
            "C", (), {"peer": lambda _, n=number: f"ipv4:10.0.{n // 250}.{n % 250}:1"}
        )()
        call = Call(read_methods()[PATH], context, {"x-api-key": "wrong"}, 0.0)
        with pytest.raises(Unauthenticated):
            rule(call)
    assert len(limiter) == 100


def test_no_secret_is_in_a_log_or_an_error(
    serve_gateway: Any, stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    """All that fails with credentials, with every logger at its most talkative."""
    identity = {"jwks_url": "http://127.0.0.1:9/k", "jwt_issuer": "i", "jwt_audience": "a"}
    sections = {"upstream": {"secret": SECRET}, "gateway": {"behind": True}}
    running = serve_gateway(stack, identity=identity, **sections)
    good, revoked, expired = (running.key("forecaster") for _ in range(3))
    unknown, token = new_key()[0], jwt.encode({"sub": "x"}, "k" * 32, headers={"kid": "a"})
    running.parts.keys.revoke(split_key(revoked)[0])
    running.parts.keys.rotate(split_key(expired)[0], timedelta(0))
    running.parts.ring.replace(running.parts.keys.rows())
    said = []
    with caplog.at_level(logging.DEBUG):
        for text in (good, revoked, expired, unknown, good[:-1] + "_", token, f"{token[:-4]}xxxx"):
            for header in (("x-api-key", text), ("authorization", f"Bearer {text}"),
                           ("authorization", text), ("x-marketcal-caller", text)):  # fmt: skip
                call: Any = running.channel.unary_unary("/marketcal.v1.ForecastService/GetModel")
                with pytest.raises(grpc.RpcError) as refused:
                    call(b"\x0a\x02no", metadata=(header,), timeout=20)
                error: Any = refused.value
                said += [error.details(), repr(error.trailing_metadata())]
    everything = "\n".join([*said, caplog.text, *(repr(r.__dict__) for r in caplog.records)])
    secrets = [split_key(key)[1] for key in (good, revoked, expired, unknown)]
    secrets += [keys_module._digest(secret) for secret in secrets]
    assert [part for part in (*secrets, token.split(".")[2], SECRET) if part in everything] == []
    assert len(said) == 56
