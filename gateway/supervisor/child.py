"""A child process that never outlives its supervisor.

The kernel sends each child SIGTERM when the supervisor dies, however it dies (PR_SET_PDEATHSIG),
and children stand in sessions of their own, so that Ctrl-C in a terminal reaches the supervisor
alone, which then stops them in order. Linux only, as is the lock of dependencies.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.05
_LIBC = ctypes.CDLL(None, use_errno=True)


class ChildError(Exception):
    """A child ended too early, or was not ready in time; the message ends with its log."""


@dataclass(frozen=True, slots=True)
class Child:
    """A running child.

    Attributes:
        name: what people call it.
        command: what was started.
        process: the process.
        log: where its output goes.
        ready_file: it writes facts there as JSON once it is ready.
    """

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes]
    log: Path
    ready_file: Path

    def wait_ready(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> Any:
        """What the child says once it is ready; ``meanwhile`` is called while it is not.

        Raises:
            ChildError: it ended, or did not become ready in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.ready_file.exists():
                return json.loads(self.ready_file.read_text())
            if self.process.poll() is not None:
                raise ChildError(
                    f"{self.name} ended with status {self.process.returncode} before it was ready"
                    f"{self.log_tail()}"
                )
            meanwhile()
            time.sleep(_POLL_SECONDS)
        raise ChildError(f"{self.name} was not ready within {seconds:g} s{self.log_tail()}")

    def wait_finished(self) -> None:
        """Waits for a child that does its work and ends.

        Raises:
            ChildError: it ended with another status than 0.
        """
        if self.process.wait() != 0:
            raise ChildError(
                f"{self.name} ended with status {self.process.returncode}{self.log_tail()}"
            )

    def stop(self, seconds: float) -> None:
        """SIGTERM, then SIGKILL after ``seconds``."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self, lines: int = 15) -> str:
        """The end of its log, with the log's name; nothing for a child that wrote none."""
        if not self.log.exists():
            return ""
        tail = self.log.read_text(errors="replace").splitlines()[-lines:]
        if not tail:
            return ""
        return "\n".join([f"; {self.log} ends with:", *(f"  {line}" for line in tail)])


def start(
    name: str,
    command: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    attached: bool = False,
) -> Child:
    """Starts a child; must be called from the main thread, whose death the kernel watches.

    Args:
        name: what people call it.
        command: program and arguments.
        folder: where log and ready file go.
        environment: the child's whole environment.
        attached: its output goes to the terminal instead of the log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ready_file = folder / f"{name}.ready"
    ready_file.unlink(missing_ok=True)
    log = folder / f"{name}.log"
    parent = os.getpid()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=None if attached else output,
            stderr=None if attached else subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=lambda: _die_with(parent),
        )
    return Child(name, command, process, log, ready_file)


def adopt_orphans() -> None:
    """Makes this process the parent of what its children leave behind when they are killed."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1)


def end_orphans(known: Container[int]) -> None:
    """Kills and reaps adopted processes: children of this process that are not ``known``."""
    own = str(os.getpid())
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parent = (entry / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue  # it has just ended
        if parent == own and int(entry.name) not in known:
            with contextlib.suppress(ProcessLookupError, ChildProcessError):
                os.kill(int(entry.name), signal.SIGKILL)
                os.waitpid(int(entry.name), 0)


def write_ready(path: Path, facts: Any) -> None:
    """Says that this process is ready; the file appears whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}")
    part.write_text(json.dumps(facts))
    part.replace(path)


def _die_with(parent: int) -> None:
    """Runs in the child before its program: SIGTERM when the parent dies, at once if it has."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)
