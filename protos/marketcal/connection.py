"""A connection to a gateway: single calls, lists by their pages, streams that go on.

Made from ``aio_connection.py`` by ``protos/derive.py``; change that one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import grpc

from marketcal import channel, ending
from marketcal.channel import Tls
from marketcal.errors import InternalError
from marketcal.methods import Method, Request, Response
from marketcal.watching import Backoff, Watching

Item = TypeVar("Item")
Page = TypeVar("Page")


class Connection:
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
        options = channel.options(address, tls)
        if security is None:
            self._channel = grpc.insecure_channel(address, options=options)
        else:
            self._channel = grpc.secure_channel(address, security, options=options)
        self._timeout = timeout
        self._deadlines = channel.deadlines()
        self._backoff = backoff
        self._closed = False

    def close(self) -> None:
        """Closes the connection; calls in flight, and later ones, raise CallCancelled."""
        self._closed = True
        self._channel.close()

    def unary(
        self, method: Method[Request, Response], request: Request, timeout: float | None
    ) -> Response:
        """The answer to one call.

        Raises:
            MarketcalError: the call was refused or failed.
        """
        if timeout is None:
            timeout = self._deadlines[method.path] if self._timeout is None else self._timeout
        try:
            call = self._channel.unary_unary(
                method.path,
                request_serializer=method.request.SerializeToString,
                response_deserializer=method.response.FromString,
            )
            answer = call(request, timeout=timeout, metadata=self._sent())
        except ending.FAILURES as error:
            raise ending.refusal(error, closed=self._closed) from None
        return ending.readable(answer, method.response)

    def watch(
        self, method: Method[Request, Response], request: Request, timeout: float | None
    ) -> Iterator[Response]:
        """Messages of a stream, opened again with the last token where the connection is lost.

        Raises:
            MarketcalError: the stream was refused, or failed for good.
        """
        watching = Watching(request, self._backoff, timeout)
        while True:
            stream = None
            try:
                stream = self._channel.unary_stream(
                    method.path,
                    request_serializer=method.request.SerializeToString,
                    response_deserializer=method.response.FromString,
                )(watching.request, timeout=watching.remaining(), metadata=self._sent())
                for message in stream:
                    read = ending.readable(message, method.response)
                    if watching.received(read):
                        yield read
                return
            except ending.FAILURES as error:
                refused = ending.refusal(error, closed=self._closed)
                delay = None if self._closed else watching.delay_after(refused)
                if delay is None:
                    raise refused from None
            finally:
                if stream is not None:
                    stream.cancel()
            time.sleep(delay)

    def _sent(self) -> channel.Metadata:
        return self._metadata + channel.trace_context()


class PageReader(Generic[Page]):
    """Whole answers of a list, each fetched when it is reached.

    After an error the next one asks for the same page again.

    Attributes:
        ended: whether the last page was read.
    """

    def __init__(
        self,
        connection: Connection,
        method: Method[Any, Any],
        request: Any,
        timeout: float | None,
    ) -> None:
        self._connection = connection
        self._method = method
        self._request = type(request)()
        self._request.CopyFrom(request)
        self._timeout = timeout
        self.ended = False

    def __iter__(self) -> Iterator[Page]:
        return self

    def __next__(self) -> Page:
        if self.ended:
            raise StopIteration
        page: Page = self._connection.unary(self._method, self._request, self._timeout)
        token: str = page.next_page_token  # type: ignore[attr-defined]  # every list has one
        if token and token == self._request.page_token:
            raise InternalError("next_page_token: the server names the same page again")
        self._request.page_token = token
        self.ended = not token
        return page


class Pages(Generic[Page, Item]):
    """All items of a list, page after page, each fetched when it is reached.

    Iterate over it for the items, over `pages` for whole answers with their totals. After an error
    or a break it goes on where it was, and asks again for the page that failed; when it has come to
    its end, a further iteration begins with the first page.

    Raises:
        MarketcalError: a call was refused or failed.
    """

    def __init__(
        self,
        connection: Connection,
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
        self._begin()

    def pages(self) -> PageReader[Page]:
        """The answers of the server, from the first page on.

        Raises:
            MarketcalError: a call was refused or failed; the next one asks for its page again.
        """
        return PageReader(self._connection, self._method, self._request, self._timeout)

    def _begin(self) -> None:
        self._reading = self.pages()
        self._left: Iterator[Item] = iter(())
        self._over = False

    def __iter__(self) -> Iterator[Item]:
        if self._over:
            self._begin()
        return self

    def __next__(self) -> Item:
        while True:
            for item in self._left:
                return item
            if self._reading.ended:
                self._over = True
                raise StopIteration
            self._left = iter(self._items(next(self._reading)))
