"""Workers while a new one does not come up: those that serve are kept, and a stop is heeded."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from gateway.supervisor import child
from gateway.supervisor.child import Child, ChildError
from gateway.supervisor.workers import RESTARTS, Stopped, Workers

DEADLINE = 20.0
READY = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('1'); time.sleep(60)"
NEVER = "import time; time.sleep(60)"
FAILS = "raise SystemExit(3)"


@dataclass
class Started:
    """Workers of real processes, each of which does what was said last."""

    folder: Path
    program: str = READY
    told_to_stop: threading.Event = field(default_factory=threading.Event)
    said: list[str] = field(default_factory=list)
    begun: list[Child] = field(default_factory=list)

    def begin(self, place: int) -> Child:
        """A process for a place."""
        name = f"worker-{place}"
        command = [sys.executable, "-c", self.program, str(self.folder / f"{name}.ready")]
        new = child.start(name, command, folder=self.folder, environment=os.environ)
        self.begun.append(new)
        return new

    def workers(self) -> Workers:
        """Two of them."""
        return Workers(
            2, self.begin, patience=5.0, stopping=self.told_to_stop.is_set, say=self.said.append
        )

    @property
    def alive(self) -> list[bool]:
        """Which of all that were begun go on."""
        return [one.process.poll() is None for one in self.begun]


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Started]:
    made = Started(tmp_path)
    yield made
    for one in made.begun:
        one.process.kill()
        one.process.wait()


def meanwhile(condition: Callable[[], bool], act: Callable[[], None]) -> threading.Thread:
    """Acts as soon as a condition holds, beside the test."""

    def wait() -> None:
        end = time.monotonic() + DEADLINE
        while not condition() and time.monotonic() < end:
            threading.Event().wait(0.01)
        act()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def test_a_stop_is_heeded_while_a_new_worker_does_not_come_up(started: Started) -> None:
    workers = started.workers()
    workers.start()
    started.program = NEVER
    told = meanwhile(lambda: len(started.begun) == 3, started.told_to_stop.set)
    began = time.monotonic()

    with pytest.raises(Stopped):
        workers.roll()

    assert time.monotonic() - began < DEADLINE
    told.join(DEADLINE)
    assert started.alive == [True, True, False], "the new one is gone, the old ones can drain"
    workers.stop()
    assert started.alive == [False] * 3


def test_a_stop_is_heeded_while_the_first_workers_start(started: Started) -> None:
    started.program = NEVER
    workers = started.workers()
    told = meanwhile(lambda: len(started.begun) == 2, started.told_to_stop.set)

    with pytest.raises(Stopped):
        workers.start()

    told.join(DEADLINE)
    workers.stop()
    assert started.alive == [False] * 2


def test_others_are_started_again_while_a_new_worker_does_not_come_up(started: Started) -> None:
    workers = started.workers()
    workers.start()
    started.program = NEVER

    def lose_the_other() -> None:
        started.program = READY
        started.begun[1].process.kill()

    lost = meanwhile(lambda: len(started.begun) == 3, lose_the_other)
    told = meanwhile(lambda: len(started.begun) == 4, started.told_to_stop.set)
    with pytest.raises(Stopped):
        workers.roll()
    lost.join(DEADLINE)
    told.join(DEADLINE)

    assert started.alive == [True, False, False, True]
    assert any("worker 1 ended" in line for line in started.said)
    workers.stop()


def test_a_new_worker_that_fails_leaves_the_old_one_in_its_place(started: Started) -> None:
    workers = started.workers()
    workers.start()
    started.program = FAILS

    workers.roll()

    assert started.alive == [True, True, False]
    assert any("worker 0 stays as it was" in line for line in started.said)
    started.program = READY
    workers.roll()
    assert started.alive == [False, False, False, True, True]
    workers.stop()


def test_workers_that_keep_ending_are_not_started_for_ever(started: Started) -> None:
    workers = started.workers()
    workers.start()
    started.program = FAILS
    started.begun[0].process.kill()

    def look_again_and_again() -> None:
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            workers.revive()
            threading.Event().wait(0.005)

    with pytest.raises(ChildError, match="keep ending"):
        look_again_and_again()
    assert len(started.begun) == 2 + RESTARTS
    workers.stop()
