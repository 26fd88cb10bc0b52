"""The gRPC server: services registered through the pipeline, health, reflection, drain."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from gateway.call import Method
from gateway.contract import infrastructure_method
from gateway.forward import Upstream
from gateway.health import Health
from gateway.pipeline import Pipeline
from gateway.server_settings import GatewaySettings, is_loopback
from gateway.tls import Certificates
from marketcal.errors import MethodNotImplemented

_HEALTH: ServiceDescriptor = health_pb2.DESCRIPTOR.services_by_name["Health"]
_REFLECTION: ServiceDescriptor = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"]
HEALTH = _HEALTH.full_name
REFLECTION = _REFLECTION.full_name
REFLECTION_V1 = "grpc.reflection.v1.ServerReflection"
"""The same messages under the name that newer clients ask for first."""
_INFRASTRUCTURE = {HEALTH: _HEALTH, REFLECTION: _REFLECTION}

QUIET_SECONDS = 0.5
QUIET_LOOKS = 3
"""Turns of the event loop without a call under way that are a quiet moment."""
READ_SCOPE = "scoreboard.read"
"""What a caller of reflection needs where strangers can reach the server."""

AddToServer = Callable[[Any, Any], None]


class Registrar:
    """Stands in for a server while services are added, and wraps each of their methods.

    Attributes:
        handlers: wrapped methods by service and name.
        unimplemented: services of which no method is implemented yet.
    """

    def __init__(
        self, pipeline: Pipeline, methods: Mapping[str, Method], *, reflection_scope: str | None
    ) -> None:
        self._pipeline = pipeline
        self._methods = methods
        self._reflection_scope = reflection_scope
        self.handlers: dict[str, dict[str, grpc.RpcMethodHandler]] = {}
        self.unimplemented: set[str] = set()

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Called by generated code."""
        self.handlers[service] = {
            name: self._pipeline.wrap(self._method(service, name), _implemented(name, handler))
            for name, handler in handlers.items()
        }
        if not any(map(_has_code, handlers.values())):
            self.unimplemented.add(service)

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Called by generated code with the same methods again."""

    def forward(self, service: ServiceDescriptor, upstream: Upstream) -> None:
        """Passes every method of ``service`` on to another process."""
        self.handlers[service.full_name] = {
            method.name: self._forwarded(f"/{service.full_name}/{method.name}", method, upstream)
            for method in service.methods
        }

    def _forwarded(
        self, name: str, method: MethodDescriptor, upstream: Upstream
    ) -> grpc.RpcMethodHandler:
        if method.server_streaming:
            return self._pipeline.wrap_stream_bytes(self._methods[name], upstream.stream(name))
        return self._pipeline.wrap_unary_bytes(self._methods[name], upstream.unary(name))

    def _method(self, service: str, name: str) -> Method:
        full_name = f"/{service}/{name}"
        if service in _INFRASTRUCTURE:
            scope = self._reflection_scope if service == REFLECTION else None
            return infrastructure_method(_INFRASTRUCTURE[service].methods_by_name[name], scope)
        return self._methods[full_name]


def _has_code(handler: grpc.RpcMethodHandler) -> bool:
    """Whether more than the generated base class stands behind a method."""
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream
    return not str(behaviour.__module__).startswith("marketcal.v1.")


def _implemented(name: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """The handler, or a refusal where only the generated base class has the method."""
    if _has_code(handler):
        return handler

    async def refuse(_request: Any, _call: Any) -> Any:
        raise MethodNotImplemented(f"{name} is in the contract and not yet in this server")

    async def refuse_stream(request: Any, call: Any) -> AsyncIterator[Any]:
        yield await refuse(request, call)

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)


class Gateway:
    """The server with its life: start, health by service, drain.

    Args:
        settings: where and how it listens.
        pipeline: what stands around every call.
        methods: what the contract says of each method.
        servicers: services that this process answers.
        forwarded: services that another process answers.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        pipeline: Pipeline,
        methods: Mapping[str, Method],
        servicers: Iterable[tuple[AddToServer, Any]],
        forwarded: Iterable[tuple[ServiceDescriptor, Upstream]] = (),
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._server = grpc.aio.server(options=_options(settings))
        self._health = Health()
        registrar = Registrar(
            pipeline, methods, reflection_scope=None if is_loopback(settings.host) else READ_SCOPE
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        for add_to_server, servicer in servicers:
            add_to_server(servicer, registrar)
        hosted = set(registrar.handlers)
        for service, upstream in forwarded:
            registrar.forward(service, upstream)
        self.services = sorted(name for name in registrar.handlers if name != HEALTH)
        self.hosted = frozenset(hosted - {HEALTH})
        self.unimplemented = frozenset(registrar.unimplemented)
        self._add_reflection(registrar)
        for name, handlers in registrar.handlers.items():
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, handlers),)
            )

    def _add_reflection(self, registrar: Registrar) -> None:
        names = [*self.services, HEALTH, REFLECTION]
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection_aio.ReflectionServicer(names), registrar
        )
        registrar.handlers[REFLECTION_V1] = registrar.handlers[REFLECTION]

    async def start(self) -> int:
        """Binds and serves; returns the port.

        Raises:
            OSError: the address is taken.
            TlsError: certificate, key or roots cannot be used.
        """
        settings = self._settings
        address = settings.address(settings.port)
        try:
            if settings.plaintext:
                port = self._server.add_insecure_port(address)
            else:
                credentials = Certificates(settings).credentials()
                port = self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is the port taken?") from error
        await self._server.start()
        self.set_serving("", serving=True)
        return int(port)

    def set_serving(self, service: str, *, serving: bool) -> None:
        """Says over the health service whether ``service`` answers ("" is the whole server)."""
        self._health.set(service, serving=serving)

    def end_streams_of(self, gone: Callable[[str], bool]) -> None:
        """Ends the open streams of callers of whose names ``gone`` holds."""
        self._pipeline.streams.end_of(gone)

    async def drain(self) -> None:
        """NOT_SERVING first, then streams end and no new calls come, then calls in flight end."""
        self._health.drain()
        await asyncio.sleep(self._settings.drain_notice_seconds)
        self._pipeline.streams.drain()
        await self._quiet_moment()
        await self._server.stop(self._settings.drain_seconds)

    async def _quiet_moment(self) -> None:
        """Waits a little for nothing to be under way.

        gRPC cancels what has arrived and not begun when the server stops, which callers without the
        published retry policy would see.
        """
        end = asyncio.get_running_loop().time() + QUIET_SECONDS
        quiet = 0
        while quiet < QUIET_LOOKS and asyncio.get_running_loop().time() < end:
            quiet = 0 if self._pipeline.telemetry.calls.active else quiet + 1
            await asyncio.sleep(0)

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self._server.wait_for_termination()


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    limit = settings.transport_bytes
    return [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.so_reuseport", int(settings.share_port)),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.server_handshake_timeout_ms", _milliseconds(settings.handshake_seconds)),
        ("grpc.keepalive_time_ms", _milliseconds(settings.keepalive_seconds)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_connection_age_ms", _milliseconds(settings.max_connection_seconds)),
        ("grpc.max_connection_age_grace_ms", _milliseconds(settings.connection_grace_seconds)),
    ]


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
