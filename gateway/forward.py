"""Services that another process answers: their calls pass through as bytes.

What passes: the request and the answer as they are, metadata and trailers, the time that is left,
and cancellation. What does not: the caller's credential, in whose place the signed handover goes.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable
from types import SimpleNamespace
from typing import Any

import grpc
from google.protobuf import message_factory
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from grpc_health.v1 import health_pb2, health_pb2_grpc
from opentelemetry import propagate

from gateway.call import Call, Identity
from gateway.handover import HEADER, Signer
from gateway.interceptors import request_id
from gateway.refused_behind import in_its_place
from gateway.server_settings import UpstreamSettings
from marketcal import status

_LOG = logging.getLogger("gateway.forward")
LOOK_AGAIN_SECONDS = 0.5
"""In which a process behind says how it is, and between two questions that get no good answer."""
FORWARDED_FOR = "x-forwarded-for"
_KEPT_BACK = frozenset(
    {"authorization", "x-api-key", "user-agent", "te", "content-type", HEADER, FORWARDED_FOR,
     request_id.HEADER}
)  # fmt: skip
"""Of the caller's metadata; whatever begins with ``grpc-`` is the transport's own too."""
_PASSED = frozenset({status.DETAILS_KEY, "grpc-retry-pushback-ms"})
"""Of the trailers that begin with ``grpc-``."""

THIS_GATEWAY = Identity("gateway", "gateway", frozenset(), float("inf"), 0, unlimited=True)
"""Who watches the health of a process behind; it may call nothing else."""

Metadata = tuple[tuple[str, str | bytes], ...]


class Upstream:
    """One process behind this one.

    Args:
        address: ``host:port``.
        settings: how it is reached.
        signer: says who calls.
    """

    def __init__(self, address: str, settings: UpstreamSettings, signer: Signer) -> None:
        self.address = address
        self._channel = _channel(address, settings)
        self._signer = signer

    def unary(self, method: str) -> Callable[[bytes, Call], Any]:
        """A handler of bytes for the method with this full name."""
        send = self._channel.unary_unary(method)

        async def forward(raw: bytes, call: Call) -> bytes:
            sent = send(raw, timeout=call.time_remaining(), metadata=self._metadata(call))
            try:
                answer: bytes = await sent
            except grpc.aio.AioRpcError as error:
                await call.context.abort(*self._refusal(call, error))
            call.trailers += _trailers(await sent.trailing_metadata())
            return answer

        return forward

    def stream(self, method: str) -> Callable[[bytes, Call], AsyncGenerator[bytes, None]]:
        """A handler of bytes for the server stream with this full name."""
        send = self._channel.unary_stream(method)

        async def forward(raw: bytes, call: Call) -> AsyncGenerator[bytes, None]:
            sent = send(raw, timeout=call.time_remaining(), metadata=self._metadata(call))
            try:
                async for message in sent:
                    yield message
                call.trailers += _trailers(await sent.trailing_metadata())
            except grpc.aio.AioRpcError as error:
                await call.context.abort(*self._refusal(call, error))
            finally:
                sent.cancel()  # where the caller has gone away; an ended call takes no harm

        return forward

    def servicer(self, service: ServiceDescriptor) -> Any:
        """An object with the unary methods of ``service``, as a servicer of this process has them.

        They take and give messages and raise `marketcal.errors`.
        """
        unary = [method for method in service.methods if not method.server_streaming]
        return SimpleNamespace(**{method.name: self._method(method) for method in unary})

    async def watch(self, service: str, tell: Callable[[bool], None]) -> None:
        """Says whether ``service`` serves there, now and whenever that changes; never returns.

        A watch ends with its connection, of old age too, which says nothing of the service. So the
        next watch is asked at once, and the service is gone where that gets no answer.
        """
        loop = asyncio.get_running_loop()
        while True:
            earliest = loop.time() + LOOK_AGAIN_SECONDS
            if not await self._watch_once(service, tell):
                tell(False)
            await asyncio.sleep(earliest - loop.time())

    async def close(self) -> None:
        """Lets go of the connection."""
        await self._channel.close()

    async def _watch_once(self, service: str, tell: Callable[[bool], None]) -> bool:
        """One watch until its end; whether its last word was that the service serves."""

        def miss() -> None:
            _LOG.warning("%s at %s does not say how it is", service, self.address)
            tell(False)

        stub: Any = health_pb2_grpc.HealthStub(self._channel)
        request = health_pb2.HealthCheckRequest(service=service)
        who = ((HEADER, self._signer.token(THIS_GATEWAY)),)
        missed = asyncio.get_running_loop().call_later(LOOK_AGAIN_SECONDS, miss)
        serving = False
        watched = stub.Watch(request, wait_for_ready=True, metadata=who)
        try:
            async for answer in watched:
                missed.cancel()
                serving = answer.status == health_pb2.HealthCheckResponse.SERVING
                tell(serving)
        except grpc.aio.AioRpcError as error:
            if not serving:
                _LOG.warning("%s at %s: %s", service, self.address, error.details())
        finally:
            missed.cancel()
            watched.cancel()
        return serving

    def _method(self, method: MethodDescriptor) -> Callable[[Any, Call], Any]:
        send = self._channel.unary_unary(
            f"/{method.containing_service.full_name}/{method.name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )

        async def ask(request: Any, call: Call) -> Any:
            try:
                return await send(
                    request, timeout=call.time_remaining(), metadata=self._metadata(call)
                )
            except grpc.aio.AioRpcError as error:
                raise in_its_place(error, self.address) or status.decode(error) from None

        return ask

    def _metadata(self, call: Call) -> Metadata:
        passed = [
            (key, value)
            for key, value in call.metadata.items()
            if key not in _KEPT_BACK and not key.startswith(("grpc-", ":"))
        ]
        trace: dict[str, str] = {}
        propagate.inject(trace)
        kept = [pair for pair in passed if pair[0] not in trace]
        own = [(request_id.HEADER, call.request_id), (FORWARDED_FOR, call.address)]
        if call.identity is not None:
            own.append((HEADER, self._signer.token(call.identity)))
        return (*kept, *trace.items(), *own)

    def _refusal(
        self, call: Call, error: grpc.aio.AioRpcError
    ) -> tuple[grpc.StatusCode, str, Metadata]:
        """Code, details and trailers to pass on, byte for byte.

        Raises:
            MarketcalError: it is not the caller who was refused; see `in_its_place`.
        """
        own = in_its_place(error, self.address)
        if own is not None:
            raise own
        call.code = error.code().name
        trailers = [*call.trailers, *_trailers(error.trailing_metadata())]
        return error.code(), error.details() or "", tuple(trailers)


def _trailers(sent: Iterable[tuple[str, str | bytes]] | None) -> list[tuple[str, str | bytes]]:
    return [
        (key, value)
        for key, value in sent or ()
        if key != request_id.HEADER and (key in _PASSED or not key.startswith("grpc-"))
    ]


def _channel(address: str, settings: UpstreamSettings) -> grpc.aio.Channel:
    options = [
        ("grpc.max_receive_message_length", -1),  # the limits of the two processes come first
        ("grpc.max_send_message_length", -1),
        ("grpc.max_reconnect_backoff_ms", 1000),
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.enable_http_proxy", 0),  # a proxy of the environment would read the handovers
    ]
    if settings.ca is None:
        return grpc.aio.insecure_channel(address, options=options)
    roots = grpc.ssl_channel_credentials(settings.ca.read_bytes())
    return grpc.aio.secure_channel(address, roots, options=options)
