"""The way of a call: every rule of the gateway in one place, in the order in which it applies.

::

    request id → span and metrics → errors → authentication → scope → deadline → concurrency
               → size and parse → rate limit → contract rules → audit → handler → size of the answer

`grpc.aio` would run one coroutine per interceptor and call. Here the rules are plain functions in
one coroutine, which costs a tenth of that, and a request is not even read until the caller is
known, so that a stranger cannot make the server hold or parse anything. A call that is forwarded to
another process stays bytes altogether, unless its cost depends on what stands in it; that process
checks the contract's rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from gateway.call import Admission, Call, Check, Method
from gateway.deadlines import Deadlines
from gateway.interceptors.concurrency import Work
from gateway.interceptors.deadline import clamp_deadline
from gateway.interceptors.errors import as_refusal, send_refusal
from gateway.interceptors.request_id import assign_request_id
from gateway.interceptors.streams import OpenStreams
from gateway.interceptors.telemetry import Telemetry
from marketcal.errors import InvalidArgument, MarketcalError, TooLarge

ENDINGS = (asyncio.CancelledError, GeneratorExit, KeyboardInterrupt, SystemExit)
"""How a call or the process ends; no error of the handler."""

PASSED_ON = grpc.aio.AbortError
"""A forwarded call that the process behind refused: its refusal has been passed on."""

Answer = Message | bytes
"""An answer, or the bytes that another process sent as one."""

Unary = Callable[[Any, Any], Awaitable[Answer]]
Streaming = Callable[[Any, Any], AsyncGenerator[Answer, None]]
Duplex = Callable[[AsyncIterator[Any], Any], AsyncGenerator[Message, None]]
T = TypeVar("T")

Weigh = Callable[[int], None]
"""Told of the cost of a call before anything is done for it; raises where that is too much now."""

Read = Callable[[Call, bytes, Weigh], Awaitable[Any]]
"""What a handler is given for the bytes of a request that passes."""

RateLimit = Callable[[Call, int], Awaitable[None]]
"""Takes the cost of a call from its caller's limit; raises to refuse."""

Audit = Callable[[Call], AbstractAsyncContextManager[None]]
"""Stands around a call that may change something."""


def _joined(sent: Sequence[tuple[str, str | bytes]]) -> dict[str, str | bytes]:
    """Metadata of which a key comes more than once: texts by commas (RFC 9110, 5.3)."""
    joined: dict[str, str | bytes] = {}
    for key, value in sent:
        before = joined.get(key)
        if isinstance(before, str) and isinstance(value, str):
            value = f"{before},{value}"
        joined[key] = value
    return joined


async def _receive(call: Call) -> bytes:
    """The request, of which nothing has been read until now."""
    raw = await call.context.read()
    if raw is grpc.aio.EOF:
        raise InvalidArgument("the call has no request")
    return raw  # type: ignore[no-any-return]


def _of_no_weight(_cost: int) -> None:
    """Takes no part in the limit of what is under way: a stream mostly waits."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Largest request and answer in bytes; below the transport's own limit, so that we answer."""

    request: int
    response: int


@dataclass(frozen=True, slots=True)
class Pipeline:
    """What stands around every handler.

    Attributes:
        telemetry: spans and metrics.
        admissions: rules that need no request, in order.
        rate_limit: what a caller may do in a time.
        checks: rules of the parsed request, in order.
        audit: keeps who changed what.
        work: how much may be under way.
        streams: how many streams may be open.
        deadlines: ends calls that run too long.
        sizes: message sizes.
        clock: monotonic seconds.
    """

    telemetry: Telemetry
    admissions: Sequence[Admission]
    rate_limit: RateLimit
    checks: Sequence[Check]
    audit: Audit
    work: Work
    streams: OpenStreams
    deadlines: Deadlines
    sizes: Sizes
    clock: Callable[[], float]

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """The handler with the rules around it; it takes and gives bytes."""
        if handler.unary_unary is not None:
            return self._unary(method, handler.unary_unary, self._parsed)
        if handler.unary_stream is not None:
            return self._stream(method, handler.unary_stream, self._parsed)
        return self._duplex(method, handler)

    def wrap_unary_bytes(self, method: Method, handler: Unary) -> grpc.RpcMethodHandler:
        """The same around a handler that is given the request as bytes."""
        return self._unary(method, handler, self._unparsed)

    def wrap_stream_bytes(self, method: Method, handler: Streaming) -> grpc.RpcMethodHandler:
        """The same around a handler of a stream that is given the request as bytes."""
        return self._stream(method, handler, self._unparsed)

    # Every method is a stream of requests to gRPC: of a single request it would hold all bytes
    # before we know who sends them. On the wire there is no difference.

    def _unary(self, method: Method, handler: Unary, read: Read) -> grpc.RpcMethodHandler:
        async def answer(call: Call) -> bytes:
            async with self.deadlines.within(call.time_remaining()):
                self.work.check(call)
                raw = await _receive(call)
                with self.work.hold(call) as place:
                    request = await read(call, raw, place.grow)
                    return self._encode(await self._handle(handler, request, call))

        async def call_unary(_requests: Any, context: grpc.aio.ServicerContext) -> bytes:
            return await self._run(self._begin(method, context), answer)

        return grpc.stream_unary_rpc_method_handler(call_unary)

    async def _handle(self, handler: Unary, request: Any, call: Call) -> Answer:
        if not call.method.changes_state:
            return await handler(request, call)
        async with self.audit(call):
            return await handler(request, call)

    def _stream(self, method: Method, handler: Streaming, read: Read) -> grpc.RpcMethodHandler:
        async def send(call: Call) -> None:
            with self.streams.hold(call):
                async with self.streams.until(call):
                    request = await read(call, await _receive(call), _of_no_weight)
                    async with aclosing(handler(request, call)) as messages:
                        async for message in messages:
                            await call.context.write(self._encode(message))

        async def call_stream(_requests: Any, context: grpc.aio.ServicerContext) -> None:
            await self._run(self._begin(method, context), send)

        return grpc.stream_stream_rpc_method_handler(call_stream)

    def _duplex(self, method: Method, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """A stream of both directions (reflection): admitted before its first request is parsed."""
        behaviour: Duplex = handler.stream_stream

        async def call_duplex(
            requests: AsyncIterator[Any], context: grpc.aio.ServicerContext
        ) -> None:
            async def send(call: Call) -> None:
                messages = behaviour(requests, call)
                with self.streams.hold(call):
                    async with self.streams.until(call), aclosing(messages):
                        async for message in messages:
                            await context.write(message)

            await self._run(self._begin(method, context), send)

        return grpc.stream_stream_rpc_method_handler(
            call_duplex, handler.request_deserializer, handler.response_serializer
        )

    async def _run(self, call: Call, body: Callable[[Call], Awaitable[T]]) -> T:
        """What ``body`` gives for an admitted call; a refusal in its place, whatever goes wrong."""
        with self.telemetry.span(call):
            try:
                await self._admit(call)
                given = await body(call)
                call.context.set_trailing_metadata(tuple(call.trailers))
                return given
            except PASSED_ON:
                raise
            except ENDINGS:
                call.code = "CANCELLED"
                raise
            except BaseException as error:  # noqa: BLE001 - the edge, for panics of extensions too
                refusal = self._refuse(call, error)
        return await send_refusal(refusal, call)

    def _begin(self, method: Method, context: grpc.aio.ServicerContext) -> Call:
        sent = context.invocation_metadata() or ()
        metadata = dict(sent)
        if len(metadata) != len(sent):
            metadata = _joined(sent)
        call = Call(method, context, metadata, self.clock(), clock=self.clock)
        assign_request_id(call)
        return call

    async def _admit(self, call: Call) -> None:
        for admission in self.admissions:
            pending = admission(call)
            if pending is not None:
                await pending
        clamp_deadline(call)

    async def _parsed(self, call: Call, raw: bytes, weigh: Weigh) -> Message:
        """The request as a message that keeps the contract's rules."""
        request = self._parse(call, raw)
        cost = call.method.cost(request)
        weigh(cost)
        await self.rate_limit(call, cost)
        for check in self.checks:
            check(call, request)
        return request

    async def _unparsed(self, call: Call, raw: bytes, weigh: Weigh) -> bytes:
        """The request as it came, for a process that checks the rules itself."""
        method = call.method
        cost = method.fixed_cost
        if method.cost_field is not None:
            cost = method.cost(self._parse(call, raw))
        else:
            self._check_size(raw)
        weigh(cost)
        await self.rate_limit(call, cost)
        return raw

    def _parse(self, call: Call, raw: bytes) -> Message:
        self._check_size(raw)
        try:
            return call.method.parse(raw)
        except DecodeError as error:
            raise InvalidArgument("the request is not a message of this method") from error

    def _check_size(self, raw: bytes) -> None:
        if len(raw) > self.sizes.request:
            raise TooLarge(
                f"the request has {len(raw)} bytes, at most {self.sizes.request} are taken",
                metadata={"limit": "request_bytes", "maximum": str(self.sizes.request)},
            )

    def _encode(self, message: Answer) -> bytes:
        encoded = message if isinstance(message, bytes) else message.SerializeToString()
        if len(encoded) > self.sizes.response:
            raise TooLarge(
                f"the answer has {len(encoded)} bytes, at most {self.sizes.response} are sent",
                metadata={"limit": "response_bytes", "maximum": str(self.sizes.response)},
            )
        return encoded

    def _refuse(self, call: Call, error: BaseException) -> MarketcalError:
        refusal: MarketcalError = as_refusal(error, call)
        call.code = refusal.code
        self.telemetry.refused(refusal)
        return refusal
