"""A whole platform in a folder of its own, as a person starts it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from market_data.replay.archive import write_archive
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate

START_SECONDS = 150.0
END_SECONDS = 40.0


@dataclass
class Platform:
    """A started `marketcal up`; all its processes carry a marker in their environment."""

    folder: Path
    archive: Path
    port: int
    marker: str = field(default_factory=lambda: uuid.uuid4().hex)
    process: subprocess.Popen[str] | None = None
    said: str = ""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "E2E_MARKER": self.marker, "MARKETCAL_ADDRESS": self.address}

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "gateway.cli.main", *arguments]

    def run(self, *arguments: str, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Runs another command in the same folder."""
        return subprocess.run(
            self.command(*arguments), cwd=self.folder, env=self.environment, text=True,
            capture_output=True, timeout=seconds, check=False)  # fmt: skip

    def start(self, *arguments: str) -> None:
        """Starts `marketcal up` without waiting."""
        output = (self.folder / "said").open("w")
        self.process = subprocess.Popen(
            self.command("up", "--port", str(self.port), "--archive", str(self.archive),
                         *arguments),
            cwd=self.folder, env=self.environment, stdout=output, stderr=subprocess.STDOUT,
            text=True)  # fmt: skip
        output.close()

    def wait_until_said(self, text: str) -> None:
        """Waits until the supervisor has printed ``text``."""
        assert self.process is not None
        deadline = time.monotonic() + START_SECONDS
        while text not in self.said:
            self.said = (self.folder / "said").read_text()
            if self.process.poll() is not None and text not in self.said:
                pytest.fail(f"marketcal up ended with {self.process.returncode}:\n{self.said}")
            if time.monotonic() > deadline:
                pytest.fail(f"not said in {START_SECONDS:g} s: {text}\n{self.said}")
            time.sleep(0.1)

    def end(self, number: signal.Signals) -> int:
        """Sends a signal to the supervisor alone and waits for its end."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(END_SECONDS)

    def alive(self) -> list[str]:
        """Command lines of the processes of this platform."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if self.marker.encode() in (entry / "environ").read_bytes():
                    line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                    if line:  # a zombie has none
                        found.append(f"{entry.name} {line}")
            except OSError:
                continue  # it has just ended, or is not ours to read
        return found

    def wait_until_gone(self) -> list[str]:
        """What is still alive once all should have ended: nothing."""
        deadline = time.monotonic() + END_SECONDS
        while self.alive() and time.monotonic() < deadline:
            time.sleep(0.2)
        return self.alive()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def small_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    write_archive(simulate(SimulationConfig(n_markets=300, snapshots_per_market=60)), folder)
    return folder


@pytest.fixture(scope="module")
def new_platform(
    tmp_path_factory: pytest.TempPathFactory, small_archive: Path
) -> Iterator[Callable[[], Platform]]:
    made: list[Platform] = []

    def make() -> Platform:
        made.append(Platform(tmp_path_factory.mktemp("platform"), small_archive, _free_port()))
        return made[-1]

    yield make
    for platform in made:
        if platform.process is not None and platform.process.poll() is None:
            platform.end(signal.SIGTERM)


@pytest.fixture(scope="module")
def platform(new_platform: Callable[[], Platform]) -> Platform:
    """One that is ready."""
    started = new_platform()
    started.start()
    started.wait_until_said("READY")
    return started
