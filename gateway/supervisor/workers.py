"""Several processes of a role on one port, and their replacement one by one.

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
from functools import partial
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
_ENDINGS = frozenset({signal.SIGTERM, signal.SIGINT})


class Stopped(Exception):
    """The workers were told to end while one was starting."""


class Workers:
    """The workers of one port.

    Args:
        count: how many there are.
        begin: starts the worker of a place.
        patience: seconds that a worker may take to drain before it is killed.
        stopping: whether the workers have been told to end.
        say: tells people what happens.
    """

    def __init__(
        self,
        count: int,
        begin: Callable[[int], Child],
        *,
        patience: float,
        stopping: Callable[[], bool],
        say: Callable[[str], None],
    ) -> None:
        self._count = count
        self._begin = begin
        self._patience = patience
        self._stopping = stopping
        self._say = say
        self._children: list[Child] = []
        self._ended: list[float] = []

    def start(self) -> None:
        """Starts them all and waits until each is ready.

        Raises:
            ChildError: one did not become ready.
            Stopped: they were told to end before that.
        """
        for place in range(self._count):
            self._children.append(self._begin(place))
        for worker in self._children:
            worker.wait_ready(READY_SECONDS, self._heed_the_stop)

    def revive(self, *, but: int | None = None) -> None:
        """Starts workers again that have ended by themselves, all places ``but`` one.

        Raises:
            ChildError: they end faster than it makes sense to start them.
        """
        for place, worker in enumerate(self._children):
            status = worker.process.poll()
            if status is None or place == but:
                continue
            now = time.monotonic()
            self._ended = [*(at for at in self._ended if now - at < RESTART_WINDOW), now]
            if len(self._ended) > RESTARTS:
                raise ChildError(f"workers keep ending; the last with status {status}")
            self._say(f"worker {place} ended with status {status}; starting it again")
            self._children[place] = self._begin(place)

    def roll(self) -> None:
        """Replaces the workers one by one, until a new one does not come up.

        Raises:
            Stopped: they were told to end before that.
        """
        for place, old in enumerate(self._children):
            new = self._begin(place)
            try:
                new.wait_ready(READY_SECONDS, partial(self._watch_the_others, place))
            except ChildError as error:
                self._say(f"worker {place} stays as it was: {error}")
                new.stop(self._patience)
                return
            except Stopped:
                new.stop(self._patience)
                raise
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

    def _heed_the_stop(self) -> None:
        if self._stopping():
            raise Stopped

    def _watch_the_others(self, place: int) -> None:
        """While a new worker for ``place`` comes up, whose old one would be replaced anyway."""
        self._heed_the_stop()
        self.revive(but=place)


def run(
    settings: Settings, announce: Callable[[int], None], say: Callable[[str], None], role: str
) -> None:
    """Serves ``role`` with several workers until SIGTERM or SIGINT; SIGHUP replaces them in turn.

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
        workers = Workers(
            gateway.workers,
            partial(_begin, settings, role, port, Path(folder)),
            patience=gateway.drain_notice_seconds + gateway.drain_seconds + _SPARE_SECONDS,
            stopping=lambda: bool(_ENDINGS & set(asked)),
            say=say,
        )
        try:
            workers.start()
            announce(port)
            while not _ENDINGS & set(asked):
                if signal.SIGHUP in asked:
                    asked.remove(signal.SIGHUP)
                    workers.roll()
                workers.revive()
                time.sleep(POLL_SECONDS)
        except Stopped:
            say("told to end while a worker was starting")
        finally:
            workers.stop()


def _begin(settings: Settings, role: str, port: int, folder: Path, place: int) -> Child:
    """Starts the worker of ``place``: the same role with the same settings, alone."""
    command = [
        sys.executable, "-m", "gateway.cli.main", "serve", role,
        "--port", str(port), "--workers", "1",
        "--ready-file", str(folder / f"worker-{place}.ready"),
    ]  # fmt: skip
    metrics = settings.telemetry.prometheus_port  # the place-th port after the one that is set
    environment = {
        **os.environ,
        "MARKETCAL_GATEWAY__SHARE_PORT": "true",
        "MARKETCAL_TELEMETRY__PROMETHEUS_PORT": str(metrics + place if metrics > 0 else metrics),
    }
    return child.start(
        f"worker-{place}", command, folder=folder, environment=environment, attached=True
    )


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
