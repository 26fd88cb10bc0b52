"""``GET /metrics`` over HTTP, from a thread with an event loop of its own.

Calls never wait for it, nor it for them. A connection is answered once, within a bound, however
slowly its peer writes or reads, and there are few at a time. A port that is taken is taken over
when it is free: while workers are replaced, the old one holds it a little longer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future

from gateway.telemetry.exposition import CONTENT_TYPE

_LOG = logging.getLogger("gateway.telemetry")
PATHS = frozenset({"/metrics", "/tsfm/metrics"})
CONNECTIONS = 8
"""Connections at a time; more are closed at once."""
ANSWER_SECONDS = 5.0
"""How long a connection may last."""
REQUEST_BYTES = 8_192
"""Longest request with its headers."""
CLOSING_SECONDS = 1.5
"""How long the end may take."""
RETRY_SECONDS = 2.0
"""From one try to take the port to the next."""


class Scrape:
    """Serves the page of metrics until it is closed.

    Args:
        text: gives the page.
        host: where it listens.
        port: 0 for a free one.

    Attributes:
        port: where it listens; resolved once the port could be taken.
    """

    def __init__(self, text: Callable[[], bytes], host: str, port: int) -> None:
        self._text = text
        self._address = (host, port)
        self._open: dict[asyncio.Task[None] | None, asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self.port: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, name="metrics", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stops listening and hangs up; blocks until that is so, at most `CLOSING_SECONDS`."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(CLOSING_SECONDS)

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        server = await self._listen()
        if server is None:
            return
        self.port.set_result(server.sockets[0].getsockname()[1])
        await self._stop.wait()
        server.close()
        for writer in self._open.values():  # nobody waits for them: a peer may be slow
            writer.transport.abort()
        answering = [one for one in self._open if one is not None]
        if answering:
            await asyncio.wait(answering, timeout=CLOSING_SECONDS / 3)

    async def _listen(self) -> asyncio.Server | None:
        """The listening server as soon as the port is free; None when nobody needs it any more."""
        told = False
        host, port = self._address
        while not self._stop.is_set():
            try:
                return await asyncio.start_server(
                    self._answer, host, port, limit=REQUEST_BYTES, backlog=CONNECTIONS
                )
            except OSError as error:
                if not told:
                    _LOG.warning("no metrics on %s:%d yet: %s", host, port, error.strerror)
                    told = True
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), RETRY_SECONDS)
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._open) >= CONNECTIONS:
            writer.transport.abort()
            return
        answering = asyncio.current_task()
        self._open[answering] = writer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                asked = await reader.readuntil(b"\r\n\r\n")
                writer.write(self._response(asked))
                await writer.drain()
                writer.close()
                await writer.wait_closed()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            writer.transport.abort()  # a peer that is slow, gone, or speaks no HTTP
        finally:
            del self._open[answering]

    def _response(self, asked: bytes) -> bytes:
        method, _, rest = asked.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if path not in PATHS:
            return _message("404 Not Found", b"metrics are at /metrics\n")
        if method != "GET":
            return _message("405 Method Not Allowed", b"GET alone\n", "Allow: GET\r\n")
        return _message("200 OK", self._text())


def _message(status: str, body: bytes, more: str = "") -> bytes:
    kind = CONTENT_TYPE if status.startswith("200") else "text/plain; charset=utf-8"
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"X-Content-Type-Options: nosniff\r\nConnection: close\r\n{more}\r\n"
    )
    return head.encode() + body
