"""What of a caller's headers reaches the gateway."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from marketcal.v1 import forecast_pb2, forecast_pb2_grpc


@dataclass
class Listener(forecast_pb2_grpc.ForecastServiceServicer):
    """Stands where the gateway stands, refuses every call and keeps its metadata."""

    heard: list[dict[str, list[str]]] = field(default_factory=list)

    def ListModels(self, request: Any, context: Any) -> Any:  # noqa: N802
        metadata: dict[str, list[str]] = {}
        for name, value in context.invocation_metadata():
            metadata.setdefault(name, []).append(value)
        self.heard.append(metadata)
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "heard")


@pytest.fixture(scope="module")
def listening(start_envoy: Any) -> Iterator[tuple[Any, Listener]]:
    """An Envoy, and what listens behind it."""
    listener = Listener()
    with ExitStack() as stack:
        server = grpc.server(stack.enter_context(ThreadPoolExecutor(4)))
        forecast_pb2_grpc.add_ForecastServiceServicer_to_server(listener, server)
        health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(lambda: server.stop(0).wait())
        yield start_envoy(stack, port), listener


CLAIMED = {
    "x-forwarded-for": "203.0.113.7, 10.0.0.1",
    "forwarded": "for=203.0.113.7",
    "x-real-ip": "203.0.113.7",
}
PASSED = {"x-api-key": "k", "x-request-id": "mine", "traceparent": "00-1-2-01"}


def test_the_gateway_hears_one_address_and_no_claim(listening: Any) -> None:
    front, listener = listening
    front.http.get("/v1/models", headers=CLAIMED)
    heard = listener.heard[-1]
    assert heard["x-forwarded-for"] == ["127.0.0.1"]
    assert "203.0.113.7" not in str(heard)


def test_a_grpc_caller_cannot_claim_an_address_either(listening: Any, open_channel: Any) -> None:
    front, listener = listening
    with open_channel(f"127.0.0.1:{front.port}") as channel, pytest.raises(grpc.RpcError):
        forecast_pb2_grpc.ForecastServiceStub(channel).ListModels(
            forecast_pb2.ListModelsRequest(),
            metadata=(*CLAIMED.items(), ("thing-bin", b"\0\1")),
            timeout=17,
        )
    heard = listener.heard[-1]
    assert heard["x-forwarded-for"] == ["127.0.0.1"]
    assert "203.0.113.7" not in str(heard)
    assert heard["thing-bin"] == [b"\0\1"]  # metadata of gRPC callers passes


def test_a_rest_call_brings_what_the_gateway_reads_and_no_more(listening: Any) -> None:
    front, listener = listening
    front.http.get("/v1/models", headers=PASSED | {"cookie": "a=b", "x-other": "1"})
    heard = listener.heard[-1]
    assert {name: heard[name] for name in PASSED} == {name: [PASSED[name]] for name in PASSED}
    assert not {"cookie", "x-other", "accept"} & set(heard)
