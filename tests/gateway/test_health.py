"""Health and reflection: who answers, said without a key, and what the contract holds."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from gateway import wiring
from gateway.contract import services
from gateway.settings import load
from gateway.supervisor.ports import is_free
from marketcal.v1 import alert_pb2, alert_pb2_grpc

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
V1_REFLECTION = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


def check(stub: Any, service: str) -> int:
    return int(stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20).status)


def test_health_needs_no_key(gateway: Any) -> None:
    stub = health_pb2_grpc.HealthStub(gateway.channel)

    assert check(stub, "") == SERVING
    assert check(stub, "marketcal.v1.ForecastService") == SERVING
    listed = stub.List(health_pb2.HealthListRequest(), timeout=20).statuses
    assert listed["marketcal.v1.MarketService"].status == SERVING
    assert {service.full_name for service in services()} <= set(listed)


def test_a_service_without_code_does_not_say_that_it_serves(
    server_loop: Any, stack: ExitStack, open_channel: Any, tmp_path: Any, refused: Any, bearer: Any
) -> None:
    settings = load(
        {
            "gateway": {"port": 0, "hosts": ("alert",)},
            "control": {"url": f"sqlite:///{tmp_path}/control.db"},
            "flows": {"lake": str(tmp_path / "lake"), "raw": str(tmp_path / "raw")},
            "telemetry": {"prometheus_port": -1},
        }
    )
    empty = {"alert": alert_pb2_grpc.AlertServiceServicer()}
    parts = server_loop.call(wiring.build, settings, answering=empty)
    life = wiring.running(parts)
    port = server_loop.run(life.__aenter__())
    stack.callback(lambda: server_loop.run(life.__aexit__(None, None, None)))
    channel = stack.enter_context(open_channel(f"127.0.0.1:{port}"))
    key, _ = parts.keys.create("viewer")
    parts.ring.replace(parts.keys.rows())

    alerts: Any = alert_pb2_grpc.AlertServiceStub(channel)
    assert check(health_pb2_grpc.HealthStub(channel), "marketcal.v1.AlertService") == NOT_SERVING
    for call, request in (
        (alerts.ListAlerts, alert_pb2.ListAlertsRequest()),
        (lambda *one, **named: list(alerts.WatchAlerts(*one, **named)),
         alert_pb2.WatchAlertsRequest()),
    ):  # fmt: skip
        refusal = refused(call, request, bearer(key))
        assert (refusal.code, refusal.reason) == ("UNIMPLEMENTED", "NOT_IMPLEMENTED")


def test_the_health_of_an_unknown_service_is_not_found(gateway: Any, refused: Any) -> None:
    stub = health_pb2_grpc.HealthStub(gateway.channel)

    refusal = refused(stub.Check, health_pb2.HealthCheckRequest(service="no.such.Service"))

    assert refusal.code == "NOT_FOUND"
    watched = stub.Watch(health_pb2.HealthCheckRequest(service="no.such.Service"), timeout=20)
    assert next(watched).status == UNKNOWN
    watched.cancel()


def test_reads_serve_as_soon_as_there_is_a_publication(
    serve_gateway: Any, stack: ExitStack, published: Any, stubs_on: Any, refused: Any, bearer: Any,
    tmp_path: Any,
) -> None:  # fmt: skip
    lake = tmp_path / "lake"
    own = serve_gateway(stack, flows={"lake": str(lake)})
    stub = health_pb2_grpc.HealthStub(own.channel)
    assert check(stub, "marketcal.v1.ForecastService") == SERVING
    assert check(stub, "marketcal.v1.ScoreboardService") == NOT_SERVING
    request: Any = next(s for s in services() if s.name == "ScoreboardService")
    kind = message_factory.GetMessageClass(request.methods_by_name["ListScores"].input_type)
    refusal = refused(stubs_on(own.channel).scores.ListScores, kind(), bearer(own.key("viewer")))
    assert (refusal.code, refusal.reason) == ("UNAVAILABLE", "NOT_READY")
    assert "retry-after" in refusal.trailers
    watched = stub.Watch(
        health_pb2.HealthCheckRequest(service="marketcal.v1.ScoreboardService"), timeout=20
    )
    assert next(watched).status == NOT_SERVING

    shutil.copytree(published.lake, lake)

    assert next(watched).status == SERVING
    watched.cancel()


def test_the_drain_says_so_to_those_who_watch_and_lets_them_go(
    serve_gateway: Any, stack: ExitStack, server_loop: Any
) -> None:
    # The servers' loop waits 20 s at most: a watcher that held up the drain would fail this.
    own = serve_gateway(stack, gateway={"drain_seconds": 60.0})
    watched = health_pb2_grpc.HealthStub(own.channel).Watch(
        health_pb2.HealthCheckRequest(), timeout=20
    )
    assert next(watched).status == SERVING

    server_loop.run(own.parts.gateway.drain())

    assert [message.status for message in watched] == [NOT_SERVING]


def ask(stub: Any, **field: Any) -> reflection_pb2.ServerReflectionResponse:
    """One question to reflection."""
    asked = iter([reflection_pb2.ServerReflectionRequest(**field)])
    return next(iter(stub(asked, timeout=20)))


def v1_stub(channel: Any) -> Any:
    return channel.stream_stream(
        V1_REFLECTION,
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )


@pytest.mark.parametrize("version", ["v1alpha", "v1"])
def test_reflection_lists_every_service_of_the_contract(gateway: Any, version: str) -> None:
    old = reflection_pb2_grpc.ServerReflectionStub(gateway.channel).ServerReflectionInfo
    stub = old if version == "v1alpha" else v1_stub(gateway.channel)

    listed = ask(stub, list_services="").list_services_response.service

    names = {service.name for service in listed}
    assert {service.full_name for service in services()} <= names
    assert {"grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names


def test_a_client_that_knows_only_reflection_can_forecast(gateway: Any, as_forecaster: Any) -> None:
    stub = v1_stub(gateway.channel)
    answer = ask(stub, file_containing_symbol="marketcal.v1.ForecastService")
    pool = descriptor_pool.DescriptorPool()
    wanted = [
        descriptor_pb2.FileDescriptorProto.FromString(raw)
        for raw in answer.file_descriptor_response.file_descriptor_proto
    ]
    seen: dict[str, descriptor_pb2.FileDescriptorProto] = {}
    while wanted:
        file = wanted.pop()
        seen[file.name] = file
        for name in file.dependency:
            if name not in seen and all(name != other.name for other in wanted):
                more = ask(stub, file_by_filename=name).file_descriptor_response
                wanted += [
                    descriptor_pb2.FileDescriptorProto.FromString(raw)
                    for raw in more.file_descriptor_proto
                ]
    add_with_dependencies(pool, seen)

    method = pool.FindServiceByName("marketcal.v1.ForecastService").methods_by_name["Forecast"]
    request = message_factory.GetMessageClass(method.input_type)(
        market_id="polymarket:1", values=[0.5, 0.52, 0.51] * 20
    )
    response = message_factory.GetMessageClass(method.output_type)
    call = gateway.channel.unary_unary("/marketcal.v1.ForecastService/Forecast")
    raw = call(request.SerializeToString(), metadata=as_forecaster, timeout=20)
    assert len(response.FromString(raw).quantile_paths) == 3


def add_with_dependencies(
    pool: descriptor_pool.DescriptorPool, files: dict[str, descriptor_pb2.FileDescriptorProto]
) -> None:
    added: set[str] = set()

    def add(name: str) -> None:
        if name not in added:
            added.add(name)
            for dependency in files[name].dependency:
                add(dependency)
            pool.Add(files[name])

    for name in files:
        add(name)


def test_reflection_needs_a_key_where_strangers_can_reach_the_server(
    serve_gateway: Any, stack: ExitStack, bearer: Any, refused: Any
) -> None:
    own = serve_gateway(stack, gateway={"host": "0.0.0.0", "allow_plaintext": True})
    stub = v1_stub(own.channel)
    question = reflection_pb2.ServerReflectionRequest(list_services="")

    refusal = refused(lambda _, **named: list(stub(iter([question]), **named)), None)

    assert (refusal.code, refusal.reason) == ("UNAUTHENTICATED", "CREDENTIAL_MISSING")
    metadata = bearer(own.key("viewer"))
    assert list(stub(iter([question]), metadata=metadata, timeout=20))
    assert check(health_pb2_grpc.HealthStub(own.channel), "") == SERVING


def test_an_address_of_ipv6_is_listened_on(serve_gateway: Any, stack: ExitStack) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    own = serve_gateway(stack, gateway={"host": "::1"})

    with grpc.insecure_channel(f"[::1]:{own.port}") as channel:
        assert check(health_pb2_grpc.HealthStub(channel), "") == SERVING
    assert not is_free("::1", own.port)
    assert not is_free("[::1]", own.port)
