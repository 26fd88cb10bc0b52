"""A connection to a gateway: single calls, lists by their pages, streams that go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc

from marketcal import channel, status
from marketcal.channel import Tls
from marketcal.methods import Method, Request, Response
from marketcal.watching import Backoff, Watching

Item = TypeVar("Item")
Page = TypeVar("Page")


class AsyncConnection:
    """A connection to one gateway; it opens with the first call.

    Args:
        address: ``host:port``, or another gRPC target such as ``unix:/run/marketcal.sock``.
        key: API key; None sends none.
        tls: True for TLS with the system's authorities, or what to trust and show.
        insecure: allows a connection in clear to another machine.
        timeout: seconds that a call may take; None: the longest that the contract grants.
        backoff: waiting times of streams that are opened again.

    Raises:
        ValueError: the connection would leave this machine in clear, or the key is malformed.
    """

    def __init__(
        self, address: str, *, key: str | None, tls: bool | Tls, insecure: bool,
        timeout: float | None, backoff: Backoff,
    ) -> None:  # fmt: skip
        security = channel.security(address, tls=tls, insecure=insecure)
        self._metadata = channel.authorization(key)
        options = channel.options(tls)
        if security is None:
            self._channel = grpc.aio.insecure_channel(address, options=options)
        else:
            self._channel = grpc.aio.secure_channel(address, security, options=options)
        self._timeout = timeout
        self._deadlines = channel.deadlines()
        self._backoff = backoff

    async def close(self) -> None:
        """Closes the connection; calls in flight are cancelled."""
        await self._channel.close()

    async def unary(
        self, method: Method[Request, Response], request: Request, timeout: float | None
    ) -> Response:
        """The answer to one call.

        Raises:
            MarketcalError: the call was refused or failed.
        """
        call = self._channel.unary_unary(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        if timeout is None:
            timeout = self._deadlines[method.path] if self._timeout is None else self._timeout
        try:
            answer: Response = await call(request, timeout=timeout, metadata=self._sent())
        except grpc.RpcError as error:
            raise status.decode(error) from None
        return answer

    async def watch(
        self, method: Method[Request, Response], request: Request, timeout: float | None
    ) -> AsyncIterator[Response]:
        """Messages of a stream, opened again with the last token where the connection is lost.

        Raises:
            MarketcalError: the stream was refused, or failed for good.
        """
        open_stream = self._channel.unary_stream(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        watching = Watching(request, self._backoff, timeout)
        while True:
            stream = open_stream(
                watching.request, timeout=watching.remaining(), metadata=self._sent()
            )
            try:
                async for message in stream:
                    if watching.received(message):
                        yield message
                return
            except grpc.RpcError as error:
                refused = status.decode(error)
                delay = watching.delay_after(refused)
                if delay is None:
                    raise refused from None
            finally:
                stream.cancel()
            await asyncio.sleep(delay)

    def _sent(self) -> channel.Metadata:
        return self._metadata + channel.trace_context()


class AsyncPages(Generic[Page, Item]):
    """All items of a list, page after page, each fetched when it is reached.

    Iterate over it for the items, over `pages` for whole answers with their totals.
    """

    def __init__(
        self,
        connection: AsyncConnection,
        method: Method[Any, Any],
        request: Any,
        items: Callable[[Page], Iterable[Item]],
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._request = request
        self._items = items
        self._timeout = timeout
        self._reading = self._read()

    async def pages(self) -> AsyncIterator[Page]:
        """The answers of the server, from the first page on.

        Raises:
            MarketcalError: a call was refused or failed.
        """
        request = type(self._request)()
        request.CopyFrom(self._request)
        while True:
            page = await self._connection.unary(self._method, request, self._timeout)
            yield page
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def _read(self) -> AsyncIterator[Item]:
        async for page in self.pages():
            for item in self._items(page):
                yield item

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        return await anext(self._reading)
