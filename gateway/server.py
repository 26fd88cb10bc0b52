"""The gRPC server: services registered through the pipeline, health, reflection, drain."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection_pb2_grpc
from grpc_reflection.v1alpha.reflection import aio as reflection_aio

from gateway.call import Method
from gateway.contract import infrastructure_method
from gateway.pipeline import Pipeline
from gateway.settings import GatewaySettings
from marketcal.errors import MethodNotImplemented

HEALTH = "grpc.health.v1.Health"
REFLECTION = "grpc.reflection.v1alpha.ServerReflection"
_REQUEST_OF = {
    HEALTH: "grpc.health.v1.HealthCheckRequest",
    REFLECTION: "grpc.reflection.v1alpha.ServerReflectionRequest",
}

AddToServer = Callable[[Any, Any], None]


class Registrar:
    """Stands in for a server while services are added, and wraps each of their methods."""

    def __init__(self, pipeline: Pipeline, methods: Mapping[str, Method]) -> None:
        self._pipeline = pipeline
        self._methods = methods
        self.handlers: dict[str, dict[str, grpc.RpcMethodHandler]] = {}

    def add_registered_method_handlers(
        self, service: str, handlers: Mapping[str, grpc.RpcMethodHandler]
    ) -> None:
        """Called by generated code."""
        self.handlers[service] = {
            name: self._pipeline.wrap(self._method(service, name), _implemented(name, handler))
            for name, handler in handlers.items()
        }

    def add_generic_rpc_handlers(self, handlers: Iterable[grpc.GenericRpcHandler]) -> None:
        """Called by generated code with the same methods again."""

    def _method(self, service: str, name: str) -> Method:
        full_name = f"/{service}/{name}"
        if service in _REQUEST_OF:
            return infrastructure_method(full_name, _REQUEST_OF[service])
        return self._methods[full_name]


def _implemented(name: str, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
    """The handler, or a refusal where only the generated base class has the method."""
    behaviour = handler.unary_unary or handler.unary_stream or handler.stream_stream
    if not str(behaviour.__module__).startswith("marketcal.v1."):
        return handler

    async def refuse(_request: Any, _call: Any) -> Any:
        raise MethodNotImplemented(f"{name} is in the contract and not yet in this server")

    async def refuse_stream(request: Any, call: Any) -> AsyncIterator[Any]:
        yield await refuse(request, call)

    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(refuse_stream)
    return grpc.unary_unary_rpc_method_handler(refuse)


class Gateway:
    """The server with its life: start, health by service, drain."""

    def __init__(
        self,
        settings: GatewaySettings,
        pipeline: Pipeline,
        methods: Mapping[str, Method],
        servicers: Iterable[tuple[AddToServer, Any]],
    ) -> None:
        self._settings = settings
        self._pipeline = pipeline
        self._in_flight = pipeline.in_flight
        self._server = grpc.aio.server(options=_options(settings))
        self._health = health_aio.HealthServicer()
        registrar = Registrar(pipeline, methods)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, registrar)
        for add_to_server, servicer in servicers:
            add_to_server(servicer, registrar)
        self.services = sorted(name for name in registrar.handlers if name != HEALTH)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection_aio.ReflectionServicer([*self.services, HEALTH, REFLECTION]), registrar
        )
        for service, handlers in registrar.handlers.items():
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(service, handlers),)
            )

    async def start(self) -> int:
        """Binds and serves; returns the port.

        Raises:
            OSError: the address is taken.
        """
        address = f"{self._settings.host}:{self._settings.port}"
        try:
            port = self._server.add_insecure_port(address)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: is the port taken?") from error
        await self._server.start()
        await self.set_serving("", serving=True)
        return int(port)

    async def set_serving(self, service: str, *, serving: bool) -> None:
        """Says over the health service whether ``service`` answers ("" is the whole server)."""
        status = health_pb2.HealthCheckResponse
        await self._health.set(service, status.SERVING if serving else status.NOT_SERVING)

    async def drain(self) -> None:
        """NOT_SERVING first, then no new calls, then waits for those in flight."""
        await self._health.enter_graceful_shutdown()
        self._in_flight.draining = True
        await self._server.stop(self._settings.drain_seconds)

    async def wait(self) -> None:
        """Returns when the server has stopped."""
        await self._server.wait_for_termination()


def _options(settings: GatewaySettings) -> list[tuple[str, int]]:
    limit = settings.transport_bytes
    return [
        ("grpc.max_receive_message_length", limit),
        ("grpc.max_send_message_length", limit),
        ("grpc.so_reuseport", 0),
        ("grpc.max_concurrent_streams", settings.max_streams),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
