"""Rate limits, failed credentials, the anonymous role and revocation, over a real connection."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import grpc
import pytest

from gateway.call import Call
from gateway.contract import read_methods
from gateway.gcra import Limiter
from gateway.interceptors.auth import Authentication
from gateway.keys import KeyRing, new_key
from gateway.wiring import utc_now
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import scoreboard_pb2

MODELS = pb.ListModelsRequest()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def test_a_used_up_limit_says_when_to_come_back(
    gateway: Any, stubs: Any, refused: Any, bearer: Any
) -> None:
    key = gateway.key("forecaster", rate_per_minute=6, burst=2)
    for _ in range(2):
        stubs.forecasts.ListModels(MODELS, metadata=bearer(key), timeout=20)

    refusal = refused(stubs.forecasts.ListModels, MODELS, bearer(key))

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    delay = refusal.details["RetryInfo"].retry_delay.ToTimedelta().total_seconds()
    assert 8.0 < delay <= 10.0
    assert refusal.trailers["retry-after"] == "10"
    assert refusal.trailers["grpc-retry-pushback-ms"] == "-1"  # too long for a retry of gRPC's own
    assert refusal.trailers["ratelimit"] == '"default";r=0;t=20'
    assert refusal.trailers["ratelimit-policy"] == '"default";q=6;w=60'
    assert refusal.details["QuotaFailure"].violations[0].subject == key.split("_")[1]


def test_a_batch_costs_as_much_as_its_items(
    gateway: Any, stubs: Any, refused: Any, bearer: Any, make_request: Any
) -> None:
    key = bearer(gateway.key("forecaster", rate_per_minute=1, burst=10))
    six = pb.BatchForecastRequest(items=[make_request()] * 6)
    stubs.forecasts.BatchForecast(six, metadata=key, timeout=20)

    assert refused(stubs.forecasts.BatchForecast, six, key).reason == "RATE_LIMITED"
    for _ in range(4):
        stubs.forecasts.Forecast(make_request(), metadata=key, timeout=20)
    assert refused(stubs.forecasts.Forecast, make_request(), key).reason == "RATE_LIMITED"


def test_a_call_dearer_than_the_burst_is_told_not_to_try_again(
    gateway: Any, stubs: Any, refused: Any, bearer: Any, make_request: Any
) -> None:
    key = bearer(gateway.key("forecaster", rate_per_minute=600, burst=3))

    refusal = refused(
        stubs.forecasts.BatchForecast, pb.BatchForecastRequest(items=[make_request()] * 4), key
    )

    assert (refusal.code, refusal.reason) == ("RESOURCE_EXHAUSTED", "TOO_LARGE")
    assert "RetryInfo" not in refusal.details


def test_another_scope_has_a_limit_of_its_own(
    gateway: Any, stubs: Any, refused: Any, bearer: Any
) -> None:
    key = bearer(gateway.key("forecaster", rate_per_minute=1, burst=1))
    stubs.forecasts.ListModels(MODELS, metadata=key, timeout=20)
    assert refused(stubs.forecasts.ListModels, MODELS, key).reason == "RATE_LIMITED"

    assert stubs.scores.ListScores(
        scoreboard_pb2.ListScoresRequest(), metadata=key, timeout=20
    ).scores


def test_a_key_is_revoked_without_a_restart(
    gateway: Any, stubs: Any, read_refusal: Any, bearer: Any, until: Any
) -> None:
    key = gateway.key("forecaster")
    stubs.forecasts.ListModels(MODELS, metadata=bearer(key), timeout=20)

    gateway.parts.keys.revoke(key.split("_")[1])

    def reason() -> str:
        try:
            stubs.forecasts.ListModels(MODELS, metadata=bearer(key), timeout=20)
        except grpc.RpcError as error:
            return str(read_refusal(error).reason)
        return "none"

    until(lambda: reason() == "CREDENTIAL_REVOKED")


def test_failed_credentials_are_limited_and_a_good_key_still_passes(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any, bearer: Any
) -> None:
    own = serve_gateway(stack)
    stubs = stubs_on(own.channel)
    reasons = [refused(stubs.forecasts.ListModels, MODELS, bearer(new_key()[0])) for _ in range(61)]

    assert {refusal.reason for refusal in reasons[:60]} == {"CREDENTIAL_INVALID"}
    assert reasons[60].reason == "TOO_MANY_FAILED_CREDENTIALS"
    assert reasons[60].code == "RESOURCE_EXHAUSTED"
    assert "retry-after" in reasons[60].trailers
    good = bearer(own.key("forecaster"))
    assert stubs.forecasts.ListModels(MODELS, metadata=good, timeout=20).models


def test_the_anonymous_role_opens_what_it_may_and_nothing_more(
    serve_gateway: Any, stack: ExitStack, stubs_on: Any, refused: Any, published: Any, until: Any
) -> None:
    own = serve_gateway(
        stack, gateway={"anonymous_role": "viewer"}, flows={"lake": str(published.lake)}
    )
    until(lambda: own.parts.publication.ready)
    stubs = stubs_on(own.channel)

    assert stubs.scores.ListScores(scoreboard_pb2.ListScoresRequest(), timeout=20).scores
    assert refused(stubs.forecasts.ListModels, MODELS).reason == "SCOPE_MISSING"
    wrong = (("authorization", f"Bearer {new_key()[0]}"),)
    assert refused(stubs.forecasts.ListModels, MODELS, wrong).reason == "CREDENTIAL_INVALID"


def test_anonymous_callers_do_not_use_up_each_others_limit() -> None:
    """One bucket per address, as for failed credentials."""

    @dataclass(frozen=True)
    class Context:
        address: str

        def peer(self) -> str:
            return f"ipv4:{self.address}:5000"

    method = read_methods()["/marketcal.v1.ScoreboardService/ListScores"]
    authenticate = Authentication(
        KeyRing(utc_now), Limiter(time.monotonic), anonymous_role="viewer"
    )
    names = set()
    for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1"):
        context: Any = Context(address)
        call = Call(method, context, {}, 0.0)
        authenticate(call)
        assert call.identity is not None
        names.add(call.identity.name)

    assert len(names) == 2
