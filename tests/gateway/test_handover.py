"""Who calls is believed of a gateway in front, by a process that is behind one, for a minute."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from gateway.call import Identity
from gateway.handover import HEADER, Signer
from gateway.interceptors.auth import FAILURE_BURST
from marketcal.v1 import forecast_pb2 as pb

SECRET = "c2a90f7b5d1e4836b0d4a7f21e6c9385"
MODELS = pb.ListModelsRequest()
BEHIND = {"gateway": {"behind": True}, "upstream": {"secret": SECRET}}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture
def behind(serve_gateway: Any, stack: ExitStack, stubs_on: Any) -> Any:
    """Stubs of a process that is behind."""
    return stubs_on(serve_gateway(stack, **BEHIND).channel).forecasts


def handed(secret: str = SECRET, **claims: Any) -> tuple[tuple[str, str], ...]:
    """Metadata of a handover."""
    now = datetime.now(UTC)
    given = {
        "iss": "marketcal-gateway", "aud": "marketcal-upstream", "iat": now,
        "exp": now + timedelta(minutes=1), "sub": "somebody", "role": "forecaster",
        "scopes": ["forecast.read"],
    }  # fmt: skip
    return ((HEADER, jwt.encode(given | claims, secret, algorithm="HS256")),)


def test_a_handover_is_believed_when_it_is_signed_and_young(behind: Any, refused: Any) -> None:
    past = datetime.now(UTC) - timedelta(minutes=5)

    assert behind.ListModels(MODELS, metadata=handed(), timeout=20).models
    for bad in (handed(secret="x" * 32), handed(exp=past), handed(aud="another"), handed(iss="me")):
        assert refused(behind.ListModels, MODELS, bad).reason == "CREDENTIAL_INVALID"
    less = handed(scopes=["scoreboard.read"])
    assert refused(behind.ListModels, MODELS, less).reason == "SCOPE_MISSING"
    unsigned = ((HEADER, jwt.encode({"sub": "x"}, "", algorithm="none")),)
    assert refused(behind.ListModels, MODELS, unsigned).reason == "CREDENTIAL_INVALID"


@pytest.mark.parametrize(
    ("seconds", "believed"),
    [(-95, False), (-80, True), (-2, True), (2, True), (20, True), (45, False)],
)
def test_a_front_whose_clock_is_half_a_minute_off_is_believed(
    seconds: int, believed: bool, behind: Any, refused: Any
) -> None:
    caller = Identity("somebody", "forecaster", frozenset({"forecast.read"}), 1.0, 1)
    front = Signer(SECRET, lambda: datetime.now(UTC) + timedelta(seconds=seconds))
    metadata = ((HEADER, front.token(caller)),)

    if believed:
        assert behind.ListModels(MODELS, metadata=metadata, timeout=20).models
    else:
        assert refused(behind.ListModels, MODELS, metadata).reason == "CREDENTIAL_INVALID"


def test_a_process_in_front_believes_no_handover(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any
) -> None:
    """Whoever sees a token behind could call the front with it, without a limit."""
    front = stubs_on(serve_gateway(stack, upstream={"secret": SECRET}).channel)

    assert refused(front.forecasts.ListModels, MODELS, handed()).reason == "CREDENTIAL_MISSING"


def test_without_the_secret_a_handover_opens_nothing(
    gateway: Any, stubs: Any, refused: Any
) -> None:
    assert refused(stubs.forecasts.ListModels, MODELS, handed()).reason == "CREDENTIAL_MISSING"


def test_handovers_that_fail_are_limited_as_other_credentials_are(
    behind: Any, refused: Any
) -> None:
    bad = handed(secret="x" * 32)
    reasons = [refused(behind.ListModels, MODELS, bad).reason for _ in range(FAILURE_BURST + 2)]

    assert reasons[0] == "CREDENTIAL_INVALID"
    assert reasons[-1] == "TOO_MANY_FAILED_CREDENTIALS"
    key = (("authorization", "Bearer mk_nobody"),)
    assert refused(behind.ListModels, MODELS, key).reason == "TOO_MANY_FAILED_CREDENTIALS"
    assert behind.ListModels(MODELS, metadata=handed(), timeout=20).models
