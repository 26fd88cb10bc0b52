"""The way of a call: every rule of the gateway in one place, in the order in which it applies.

::

    request id → span → errors → authentication → scope → size and parse → concurrency
               → deadline → rate limit → contract rules → handler → size of the answer

`grpc.aio` would run one coroutine per interceptor and call. Here the rules are plain functions in
one coroutine, which costs a tenth of that, and requests stay bytes until the caller is known, so
that a stranger cannot make the server parse anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.call import Admission, Call, Check, Method
from gateway.interceptors.concurrency import InFlight
from gateway.interceptors.deadline import clamp_deadline
from gateway.interceptors.errors import as_refusal, write_refusal
from gateway.interceptors.request_id import assign_request_id
from gateway.interceptors.telemetry import Telemetry
from marketcal.errors import InvalidArgument, MarketcalError, TooLarge

ENDINGS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""How a call or the process ends; no error of the handler."""

Unary = Callable[[Any, Any], Awaitable[Message]]
Streaming = Callable[[Any, Any], AsyncIterator[Message]]
Duplex = Callable[[AsyncIterator[Any], Any], AsyncIterator[Message]]


@dataclass(frozen=True, slots=True)
class Sizes:
    """Largest request and answer in bytes; below the transport's own limit, so that we answer."""

    request: int
    response: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What stands around every handler.

    Attributes:
        telemetry: spans.
        admissions: rules that need no request, in order.
        checks: rules of the parsed request, in order.
        in_flight: the concurrency limit.
        sizes: message sizes.
        clock: monotonic seconds.
    """

    telemetry: Telemetry
    admissions: Sequence[Admission]
    checks: Sequence[Check]
    in_flight: InFlight
    sizes: Sizes
    clock: Callable[[], float]

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The handler with the rules around it; it takes and gives bytes."""
        if handler.unary_unary is not None:
            return grpc.unary_unary_rpc_method_handler(self._unary(method, handler.unary_unary))
        if handler.unary_stream is not None:
            return grpc.unary_stream_rpc_method_handler(self._stream(method, handler.unary_stream))
        return grpc.stream_stream_rpc_method_handler(
            self._duplex(method, handler.stream_stream),
            handler.request_deserializer,
            handler.response_serializer,
        )

    def _unary(self, method: Method, handler: Unary) -> Callable[..., Awaitable[bytes]]:
        async def call_unary(raw: bytes, context: grpc.aio.ServicerContext) -> bytes:
            call = self._begin(method, context)
            with self.telemetry.span(call):
                try:
                    request = self._admit(call, raw)
                    with self.in_flight:
                        self._check(call, request)
                        async with asyncio.timeout(call.time_remaining()):
                            answer = self._encode(await handler(request, call))
                    context.set_trailing_metadata(tuple(call.trailers))
                    return answer
                except ENDINGS:
                    raise
                except BaseException as error:  # noqa: BLE001 - the edge, for panics of extensions too
                    return self._refuse(call, error)

        return call_unary

    def _stream(self, method: Method, handler: Streaming) -> Callable[..., AsyncIterator[bytes]]:
        async def call_stream(
            raw: bytes, context: grpc.aio.ServicerContext
        ) -> AsyncIterator[bytes]:
            call = self._begin(method, context)
            with self.telemetry.span(call):
                try:
                    request = self._admit(call, raw)
                    self._check(call, request)
                    async with asyncio.timeout(call.time_remaining()):
                        async for message in handler(request, call):
                            yield self._encode(message)
                    context.set_trailing_metadata(tuple(call.trailers))
                except ENDINGS:
                    raise
                except BaseException as error:  # noqa: BLE001 - the edge, for panics of extensions too
                    self._refuse(call, error)

        return call_stream

    def _duplex(self, method: Method, handler: Duplex) -> Duplex:
        """A stream of both directions (reflection): admitted before its first request is parsed."""

        async def call_duplex(
            requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
        ) -> AsyncIterator[Message]:
            call = self._begin(method, context)
            try:
                for admission in self.admissions:
                    admission(call)
                async for message in handler(requests, call):
                    yield message
                context.set_trailing_metadata(tuple(call.trailers))
            except ENDINGS:
                raise
            except BaseException as error:  # noqa: BLE001 - the edge, for panics of extensions too
                self._refuse(call, error)

        return call_duplex

    def _begin(self, method: Method, context: grpc.aio.ServicerContext) -> Call:
        metadata = dict(context.invocation_metadata() or ())
        call = Call(method, context, metadata, self.clock(), clock=self.clock)
        assign_request_id(call)
        return call

    def _admit(self, call: Call, raw: bytes) -> Message:
        for admission in self.admissions:
            admission(call)
        if len(raw) > self.sizes.request:
            raise TooLarge(
                f"the request has {len(raw)} bytes, at most {self.sizes.request} are taken",
                metadata={"limit": "request_bytes", "maximum": str(self.sizes.request)},
            )
        try:
            return call.method.parse(raw)
        except DecodeError as error:
            raise InvalidArgument("the request is not a message of this method") from error

    def _check(self, call: Call, request: Message) -> None:
        clamp_deadline(call)
        for check in self.checks:
            check(call, request)

    def _encode(self, message: Message) -> bytes:
        encoded = message.SerializeToString()
        if len(encoded) > self.sizes.response:
            raise TooLarge(
                f"the answer has {len(encoded)} bytes, at most {self.sizes.response} are sent",
                metadata={"limit": "response_bytes", "maximum": str(self.sizes.response)},
            )
        return encoded

    def _refuse(self, call: Call, error: BaseException) -> bytes:
        refusal: MarketcalError = as_refusal(error, call)
        self.telemetry.refused(refusal)
        write_refusal(refusal, call)
        return b""
