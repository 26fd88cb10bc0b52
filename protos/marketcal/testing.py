"""A server for the tests of programs that call marketcal: real gRPC, scripted answers.

>>> from marketcal.v1 import market_pb2
>>> with FakeServer() as server, server.client() as client:
...     server.answer("GetMarket", market_pb2.GetMarketResponse(market={"question": "Rain?"}))
...     client.get_market("polymarket:1").question
...     server.requests("GetMarket")[0].market_id
'Rain?'
'polymarket:1'
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import grpc
from google.protobuf.message import Message

from marketcal import methods, status
from marketcal.aio import AsyncClient
from marketcal.client import Client
from marketcal.errors import (
    Draining,
    InternalError,
    InvalidArgument,
    MarketcalError,
    MethodNotImplemented,
)
from marketcal.methods import Method
from marketcal.watching import Backoff

Answer = Message | MarketcalError | Callable[[Any], Any] | Iterable[Message | MarketcalError]
"""What a method answers with: a message, an error, or a function of the request that returns or
raises one. A stream's answer is an iterable of messages, which an error may end."""

METHODS: dict[str, Method[Any, Any]] = {
    method.path.rpartition("/")[2]: method
    for method in vars(methods).values()
    if isinstance(method, Method)
}
"""Every method of the clients by its name."""
_STREAMS = ("WatchForecast", "WatchAlerts")
_QUICK = Backoff(initial_seconds=0.01, max_seconds=0.05)
_GRACE = 5.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call that was received.

    Attributes:
        method: its name, such as "GetMarket".
        request: what was asked.
        metadata: what came with it, names in lower case.
        seconds: time that the caller gave it; None for no deadline.
    """

    method: str
    request: Any
    metadata: dict[str, str | bytes]
    seconds: float | None


class FakeServer:
    """A marketcal server on a loopback port of its own, for one test or many.

    Args:
        credentials: of the server, for tests of TLS; None serves in clear.

    Attributes:
        address: ``127.0.0.1:port``.
        calls: every call received, in order; retries count.
    """

    def __init__(self, *, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[Recorded] = []
        self._scripts: dict[str, deque[Answer]] = {}
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="fake-marketcal")
        self._server = grpc.server(
            self._threads,
            options=[
                ("grpc.so_reuseport", 0),
                ("grpc.max_receive_message_length", 16 << 20),
                ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
            ],
        )
        self._server.add_generic_rpc_handlers((_Handlers(self),))
        if credentials is None:
            port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            port = self._server.add_secure_port("127.0.0.1:0", credentials)
        self.address = f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends the server; calls in flight are cancelled."""
        self._server.stop(None).wait(_GRACE)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def client(self, **options: Any) -> Client:
        """A client of this server; ``options`` are those of `Client`. Streams reopen quickly."""
        return Client(self.address, **{"backoff": _QUICK, **options})

    def async_client(self, **options: Any) -> AsyncClient:
        """An asynchronous client of this server."""
        return AsyncClient(self.address, **{"backoff": _QUICK, **options})

    def answer(self, method: str, *answers: Answer) -> None:
        """Sets what a method answers with, in place of what it did before.

        Args:
            method: name such as "GetMarket".
            answers: one per call, the last for all further calls. For a stream, one per connection.

        Raises:
            ValueError: there is no such method, or no answer.
            TypeError: an answer is of another method.
        """
        known = _method(method)
        if not answers:
            raise ValueError(f"answers: {method} needs at least one")
        for answer in answers:
            _check(method, known, answer)
        with self._lock:
            self._scripts[method] = deque(answers)

    def requests(self, method: str) -> list[Any]:
        """The requests that a method has received, in order.

        Raises:
            ValueError: there is no such method.
        """
        _method(method)
        return [call.request for call in list(self.calls) if call.method == method]

    def _next(self, method: str) -> Answer:
        with self._lock:
            script = self._scripts.get(method)
            if script is None:
                return MethodNotImplemented(
                    f'no answer is set; say server.answer("{method}", …) before the call'
                )
            return script.popleft() if len(script) > 1 else script[0]


def resumable(messages: Iterable[Any], *, lose_after: int | None = None) -> Callable[[Any], Any]:
    """An answer of WatchAlerts that holds ``messages`` and goes on after a resume token.

    Args:
        messages: WatchAlertsResponse; those without a token get their place in the list.
        lose_after: messages after which each connection is lost; None means never.
    """
    held = list(messages)
    for place, message in enumerate(held, start=1):
        message.resume_token = message.resume_token or str(place)
    places = {message.resume_token: place for place, message in enumerate(held, start=1)}

    def stream(request: Any) -> Iterator[Any]:
        token = request.resume_token
        if token and token not in places:
            raise InvalidArgument.of("resume_token", "is of no message of this stream")
        rest = held[places[token] if token else 0 :]
        yield from rest[:lose_after]
        if lose_after is not None and len(rest) > lose_after:
            raise Draining("the connection is lost, as the test asked for")

    return stream


def _method(name: str) -> Method[Any, Any]:
    if name not in METHODS:
        raise ValueError(f"method: there is no {name}; there are {', '.join(sorted(METHODS))}")
    return METHODS[name]


def _check(name: str, method: Method[Any, Any], answer: Answer) -> None:
    """Refuses what can never be an answer of the method."""
    if callable(answer) or isinstance(answer, MarketcalError):
        return
    if name in _STREAMS:
        if isinstance(answer, Message) or not isinstance(answer, list | tuple):
            raise TypeError(f"answers: {name} is a stream, its answer is a list of messages")
        for part in answer:
            _check_message(name, method, part)
    else:
        _check_message(name, method, answer)


def _check_message(name: str, method: Method[Any, Any], answer: object) -> None:
    wrong = _mismatch(name, method, answer)
    if wrong and not isinstance(answer, MarketcalError):
        raise TypeError(f"answers: {wrong}")


def _must_fit(name: str, method: Method[Any, Any], answer: object) -> None:
    """Tells the client of a function that answered with something else."""
    wrong = _mismatch(name, method, answer)
    if wrong:
        raise InternalError(wrong)


def _mismatch(name: str, method: Method[Any, Any], answer: object) -> str:
    if isinstance(answer, method.response):
        return ""
    return f"{name} answers with {method.response.__name__}, not {type(answer).__name__}"


class _Handlers(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Serves the methods of the contract from the scripts of a fake server."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler | None:
        """What serves a method; None for one that is not in the contract."""
        name = handler_call_details.method.rpartition("/")[2]
        method = METHODS.get(name)
        if method is None or method.path != handler_call_details.method:
            return None
        kind, behaviour = (
            (grpc.unary_stream_rpc_method_handler, self._stream)
            if name in _STREAMS
            else (grpc.unary_unary_rpc_method_handler, self._unary)
        )

        def serve(request: Any, context: grpc.ServicerContext) -> Any:
            return behaviour(name, method, request, context)

        return kind(serve, method.request.FromString, method.response.SerializeToString)

    def _unary(
        self, name: str, method: Method[Any, Any], request: Any, context: grpc.ServicerContext
    ) -> Any:
        try:
            answer = self._answer(name, request, context)
            if isinstance(answer, MarketcalError):
                raise answer
            _must_fit(name, method, answer)
        except MarketcalError as error:
            _refuse(context, error)
        return answer

    def _stream(
        self, name: str, method: Method[Any, Any], request: Any, context: grpc.ServicerContext
    ) -> Iterator[Any]:
        try:
            answer = self._answer(name, request, context)
            if isinstance(answer, MarketcalError):
                raise answer
            for message in answer:
                if isinstance(message, MarketcalError):
                    raise message
                _must_fit(name, method, message)
                yield message
        except MarketcalError as error:
            _refuse(context, error)

    def _answer(self, name: str, request: Any, context: grpc.ServicerContext) -> Any:
        metadata = {pair.key: pair.value for pair in context.invocation_metadata()}
        left = context.time_remaining()
        self._server.calls.append(Recorded(name, request, metadata, left))
        answer = self._server._next(name)
        return answer(request) if callable(answer) else answer


def _refuse(context: grpc.ServicerContext, error: MarketcalError) -> None:
    """Ends the call as the platform does: status, details and hints for retries."""
    encoded = status.encode(error)
    context.set_trailing_metadata(status.trailers(error, encoded))
    context.abort(status.code(error), encoded.message)
