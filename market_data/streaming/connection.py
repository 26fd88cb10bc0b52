"""The loop around one socket: reads frames, asks the session, does what it says.

One coroutine does everything, so a slow ``on_frame`` is back-pressure: while it waits nothing is
read, the socket's buffers fill, and the venue's side of the connection feels it. Time spent there
is reported to the session as held, and so is time in which the process did not run, so neither is
taken for the venue's silence.

A connection that breaks, a frame above the bound and a frame that the caller cannot read
(``RecordRejected``) are counted, and the next connection follows after the session's backoff.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from websockets.asyncio.client import connect as connect_websocket
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidURI

from market_data.errors import RecordRejected, StreamRefused
from market_data.streaming.actions import Action, Disconnect, Fail, Send
from market_data.streaming.session import Session

MAX_FRAME_BYTES = 4 << 20
"""A full book of 500 assets in one array is below 2 MiB."""

_PATIENCE_SECONDS = 0.25
"""How long a wish for other instruments, or to stop, may go unnoticed on a quiet connection."""

_GOODBYE_SECONDS = 0.25
"""A peer that was given up need not agree to the end."""

_SHORTEST_SECONDS = 0.001
_STARVED_SECONDS = 0.1
"""A wait that ends so much too late means that the process did something else meanwhile."""

_TOO_BIG = 1009


class Socket(Protocol):
    """The part of a WebSocket connection that the loop uses."""

    async def recv(self, decode: bool | None = None) -> bytes | str:
        """The next frame; raises ``ConnectionClosed`` when there is none any more."""

    async def send(self, message: str) -> None:
        """Sends a text frame."""


Connect = Callable[[str], AbstractAsyncContextManager[Socket]]
OnFrame = Callable[[bytes, int], Awaitable[None]]
OnAction = Callable[[Action], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Clock:
    """The clocks of a process.

    Attributes:
        monotonic: seconds that never go back.
        wall_ms: Unix milliseconds.
    """

    monotonic: Callable[[], float]
    wall_ms: Callable[[], int]


@dataclass(slots=True)
class ConnectionCounts:
    """What happened on the connections of one ``run`` so far.

    Attributes:
        opened: connections that came up.
        frames: frames for the parser, and ``frame_bytes`` their size.
        ended: why connections ended or did not come up, with how often: a reason of the session,
            CLOSED_<code>, FRAME_TOO_BIG, FRAME_REJECTED, STOPPED or NOT_OPENED.
        last_close: the venue's last closing words.
    """

    opened: int = 0
    frames: int = 0
    frame_bytes: int = 0
    ended: Counter[str] = field(default_factory=Counter)
    last_close: str = ""


def open_socket(
    url: str,
    *,
    compression: str | None = "deflate",
    max_frame_bytes: int = MAX_FRAME_BYTES,
    open_seconds: float = 10.0,
) -> AbstractAsyncContextManager[Socket]:
    """A WebSocket connection as venues want it: no proxy, bounded frames, no keepalive of its own.

    Keepalive is left to the session: a reader under back-pressure answers no pings, and would be
    cut off for it.
    """
    return connect_websocket(
        url,
        proxy=None,
        compression=compression,
        max_size=max_frame_bytes,
        open_timeout=open_seconds,
        close_timeout=_GOODBYE_SECONDS,
        ping_interval=None,
        user_agent_header=None,
    )


async def run(
    session: Session,
    url: str,
    *,
    connect: Connect = open_socket,
    clock: Clock,
    on_frame: OnFrame,
    on_action: OnAction,
    stop: asyncio.Event,
    counts: ConnectionCounts | None = None,
) -> None:
    """Keep a session connected until ``stop``; a cancellation closes the socket.

    Args:
        session: what is said on the connection.
        url: where the venue is.
        connect: opens a connection to a URL.
        clock: the process's clocks.
        on_frame: takes a frame and the time at which it was read; raises ``RecordRejected`` for
            one that it cannot read, which costs the connection.
        on_action: takes ``Resync``, ``Stale``, ``Fresh``, and ``Fail`` of single instruments; the
            rest is done here.
        stop: ends the loop once the frame at hand is through.
        counts: filled as things happen.

    Raises:
        StreamRefused: the venue serves nothing of what was asked for.
    """
    loop = _Loop(session, clock, on_frame, on_action, stop, counts or ConnectionCounts())
    while not stop.is_set():
        reason = await loop.connection(url, connect)
        loop.counts.ended[reason] += 1
        wait = session.closed(clock.monotonic(), reason)
        await loop.perform(None)
        await _pause(stop, wait)


@dataclass(slots=True)
class _Loop:
    session: Session
    clock: Clock
    on_frame: OnFrame
    on_action: OnAction
    stop: asyncio.Event
    counts: ConnectionCounts

    async def connection(self, url: str, connect: Connect) -> str:
        """Lives through one connection; returns why it ended."""
        try:
            async with connect(url) as socket:
                self.counts.opened += 1
                self.session.opened(self.clock.monotonic())
                return await self._converse(socket)
        except ConnectionClosed as error:
            return self._closing(error)
        except (OSError, TimeoutError, InvalidHandshake, InvalidMessage) as error:
            self.counts.last_close = f"{type(error).__name__}: {error}"
            return "NOT_OPENED"
        except InvalidURI as error:
            raise StreamRefused(str(error)) from error

    def _closing(self, error: ConnectionClosed) -> str:
        frame = error.rcvd or error.sent
        code = frame.code if frame else 1006
        self.counts.last_close = frame.reason if frame else "the connection broke"
        if code == _TOO_BIG:
            self.session.give_up("FRAME_TOO_BIG")
            return "FRAME_TOO_BIG"
        return f"CLOSED_{code}"

    async def _converse(self, socket: Socket) -> str:
        due = 0.0
        while not self.stop.is_set():
            now = self.clock.monotonic()
            if now >= due:
                self.session.tick(now)
                due = min(self.session.next_tick(now), now + _PATIENCE_SECONDS)
            ended = await self.perform(socket)
            if ended:
                return ended
            frame = await self._wait(socket, max(due - now, _SHORTEST_SECONDS))
            if frame is not None:
                await self._take(frame)
        return "STOPPED"

    async def _wait(self, socket: Socket, seconds: float) -> bytes | str | None:
        """The next frame, None if none comes in time; a wait that took longer was no listening."""
        began = self.clock.monotonic()
        frame = await _next_frame(socket, seconds)
        overrun = self.clock.monotonic() - began - seconds
        if overrun > _STARVED_SECONDS:
            self.session.held(overrun)
        return frame

    async def _take(self, frame: bytes | str) -> None:
        now = self.clock.monotonic()
        data = self.session.received(frame, now)
        if data is None:
            return
        self.counts.frames += 1
        self.counts.frame_bytes += len(data)
        try:
            await self.on_frame(data, self.clock.wall_ms())
        except RecordRejected as error:
            self.counts.last_close = str(error)
            self.session.give_up("FRAME_REJECTED")
        self.session.held(self.clock.monotonic() - now)

    async def perform(self, socket: Socket | None) -> str:
        """Does what the session asks for; returns why the connection must end, "" if not.

        What others have to know comes first: a connection that breaks while something is sent
        must not keep it from them.
        """
        actions = self.session.take()
        for action in actions:
            if not isinstance(action, Send | Disconnect):
                await self._tell(action)
        for action in actions:
            if isinstance(action, Disconnect):
                return action.reason
            if isinstance(action, Send) and socket is not None:
                await socket.send(action.text)
        return ""

    async def _tell(self, action: Action) -> None:
        before = self.clock.monotonic()
        if isinstance(action, Fail) and action.is_all:
            raise StreamRefused(f"{action.reason}: {action.detail}")
        await self.on_action(action)
        self.session.held(self.clock.monotonic() - before)


async def _next_frame(socket: Socket, seconds: float) -> bytes | str | None:
    """The next frame, None if none comes in time."""
    try:
        async with asyncio.timeout(seconds):
            return await socket.recv(decode=False)
    except TimeoutError:
        return None


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await stop.wait()
    except TimeoutError:
        return
