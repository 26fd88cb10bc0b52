"""Several gateway processes on one port, and their replacement one by one.

The kernel spreads new connections over the processes that listen with SO_REUSEPORT. This process
holds the port without listening, so that it stays ours while workers come and go, starts a worker
again when it ends by itself, and on SIGHUP puts a new worker in the place of each: the new one
listens before the old one is told to drain, so that there is always somebody to answer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from gateway.settings import Settings
from gateway.supervisor import child
from gateway.supervisor.child import Child, ChildError
from gateway.supervisor.ports import is_free

READY_SECONDS = 120.0
POLL_SECONDS = 0.05
RESTARTS = 5
RESTART_WINDOW = 60.0
_SPARE_SECONDS = 5.0
"""What a worker needs beside its drain before it is killed."""


class Workers:
    """The workers of one port.

    Args:
        settings: of every worker.
        port: where they listen.
        folder: where their ready files go.
        say: tells people what happens.
    """

    def __init__(
        self, settings: Settings, port: int, folder: Path, say: Callable[[str], None]
    ) -> None:
        self._settings = settings
        self._port = port
        self._folder = folder
        self._say = say
        self._children: list[Child] = []
        self._ended: list[float] = []

    def start(self) -> None:
        """Starts them all and waits until each is ready.

        Raises:
            ChildError: one did not become ready.
        """
        self._children = [self._start(place) for place in range(self._settings.gateway.workers)]
        for worker in self._children:
            worker.wait_ready(READY_SECONDS)

    def revive(self) -> None:
        """Starts workers again that have ended by themselves.

        Raises:
            ChildError: they end faster than it makes sense to start them.
        """
        for place, worker in enumerate(self._children):
            status = worker.process.poll()
            if status is None:
                continue
            now = time.monotonic()
            self._ended = [*(at for at in self._ended if now - at < RESTART_WINDOW), now]
            if len(self._ended) > RESTARTS:
                raise ChildError(f"workers keep ending; the last with status {status}")
            self._say(f"worker {place} ended with status {status}; starting it again")
            self._children[place] = self._start(place)

    def roll(self) -> None:
        """Replaces the workers one by one, until a new one does not come up."""
        for place, old in enumerate(self._children):
            new = self._start(place)
            try:
                new.wait_ready(READY_SECONDS)
            except ChildError as error:
                self._say(f"worker {place} stays as it was: {error}")
                new.stop(self._patience)
                return
            self._children[place] = new
            old.stop(self._patience)
            self._say(f"worker {place} is process {new.process.pid} now")

    def stop(self) -> None:
        """Drains them side by side."""
        for worker in self._children:
            if worker.process.poll() is None:
                worker.process.terminate()
        for worker in self._children:
            worker.stop(self._patience)

    @property
    def _patience(self) -> float:
        gateway = self._settings.gateway
        return gateway.drain_notice_seconds + gateway.drain_seconds + _SPARE_SECONDS

    def _metrics_port(self, place: int) -> int:
        """Port of a worker's metrics: the place-th after the one that is set."""
        port = self._settings.telemetry.prometheus_port
        return port + place if port > 0 else port

    def _start(self, place: int) -> Child:
        command = [
            sys.executable, "-m", "gateway.cli.main", "serve", "gateway",
            "--port", str(self._port), "--workers", "1",
            "--ready-file", str(self._folder / f"worker-{place}.ready"),
        ]  # fmt: skip
        environment = {
            **os.environ,
            "MARKETCAL_GATEWAY__SHARE_PORT": "true",
            "MARKETCAL_TELEMETRY__PROMETHEUS_PORT": str(self._metrics_port(place)),
        }
        return child.start(
            f"worker-{place}", command, folder=self._folder, environment=environment, attached=True
        )


def run(settings: Settings, announce: Callable[[int], None], say: Callable[[str], None]) -> None:
    """Serves with several workers until SIGTERM or SIGINT; SIGHUP replaces them one by one.

    Raises:
        OSError: the port is taken.
        ChildError: the workers do not start, or keep ending.
    """
    gateway = settings.gateway
    asked: list[int] = []
    with (
        _signals(asked),
        _port(gateway.host, gateway.port) as port,
        tempfile.TemporaryDirectory(prefix="marketcal-workers-") as folder,
    ):
        workers = Workers(settings, port, Path(folder), say)
        try:
            workers.start()
            announce(port)
            while not {signal.SIGTERM, signal.SIGINT} & set(asked):
                if signal.SIGHUP in asked:
                    asked.remove(signal.SIGHUP)
                    workers.roll()
                workers.revive()
                time.sleep(POLL_SECONDS)
        finally:
            workers.stop()


@contextlib.contextmanager
def _port(host: str, port: int) -> Iterator[int]:
    """Holds the port for processes of this user that share it."""
    if port and not is_free(host, port):
        raise OSError(f"cannot listen on {host}:{port}: is the port taken?")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind((host.strip("[]"), port))
        yield int(holder.getsockname()[1])


@contextlib.contextmanager
def _signals(asked: list[int]) -> Iterator[None]:
    def note(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    before = {number: signal.signal(number, note) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
