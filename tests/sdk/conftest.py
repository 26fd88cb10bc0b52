"""Both clients behind one way of calling them, against a fake server."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from marketcal.testing import FakeServer

Use = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """A fake server of its own."""
    with FakeServer() as running:
        yield running


@pytest.fixture(params=["sync", "async"])
def use(request: pytest.FixtureRequest) -> Use:
    """Calls a server with either client: ``use(server, lambda client: …, **options)``.

    Lists and streams come back as lists.
    """
    return synchronously if request.param == "sync" else asynchronously


def synchronously(server: FakeServer, action: Callable[[Any], Any], **options: Any) -> Any:
    with server.client(**options) as client:
        found = action(client)
        return list(found) if hasattr(found, "__next__") else found


def asynchronously(server: FakeServer, action: Callable[[Any], Any], **options: Any) -> Any:
    async def run() -> Any:
        async with server.async_client(**options) as client:
            found = action(client)
            if inspect.isawaitable(found):
                return await found
            return [item async for item in found]

    return asyncio.run(run())


@pytest.fixture(scope="session")
def protos() -> Path:
    """Folder of the distribution."""
    return Path(__file__).resolve().parents[2] / "protos"


@pytest.fixture(scope="session")
def python() -> str:
    """The interpreter of the tests."""
    return sys.executable


class Cutter:
    """A relay on loopback that cuts every connection through it when told to."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._target = ("", 0)
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []

    def in_front_of(self, address: str) -> str:
        """Address of the relay, which passes everything on to ``address``."""
        host, _, port = address.rpartition(":")
        self._target = (host, int(port))
        self._start(self._accept)
        return f"127.0.0.1:{self._listening.getsockname()[1]}"

    def cut(self) -> None:
        """Cuts all connections; new ones may be made."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Cuts all, and takes no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join(5)
        for end in (self._listening, *self._open):
            end.close()

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listening.accept()
                far = socket.create_connection(self._target)
                self._open += [near, far]
                self._start(self._pass_on, near, far)
                self._start(self._pass_on, far, near)

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65_536):
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def cutter() -> Iterator[Cutter]:
    """A relay that cuts connections."""
    relay = Cutter()
    yield relay
    relay.close()
