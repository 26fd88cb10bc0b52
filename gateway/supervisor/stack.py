"""The whole platform on one machine: its parts in the order in which they need each other."""

from __future__ import annotations

import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import httpx

from forecast_service.serving import LOOPBACK
from gateway.supervisor import child
from gateway.supervisor.child import Child
from gateway.supervisor.ports import free_port

READY_SECONDS = 120.0
STOP_SECONDS = 20.0
LOOK_BACK_DAYS = 7
"""Markets resolved in these days before the last prices get a post-mortem at the start."""
RESTARTS = 3
RESTART_WINDOW = 600.0
VENUES = ("replay", "polymarket")

QUIET = {
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "RAY_USAGE_STATS_ENABLED": "0",
    "PYTHONUNBUFFERED": "1",
}
"""Telemetry of dependencies is off in every part."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start.

    Attributes:
        folder: where everything of this run is kept, usually ``var``.
        port: port of the gateway.
        archive: archive that the replay venue serves; None for the real venue.
        as_of: end of the data interval; None for now.
        places: variables that tell every part where the data of this source lies.
    """

    folder: Path
    port: int
    archive: Path | None
    as_of: datetime | None
    places: Mapping[str, str]


@dataclass(slots=True)
class Stack:
    """The running parts, in the order in which they were started."""

    plan: Plan
    say: Callable[[str], None]
    children: list[Child] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)
    prefect_url: str = ""
    restarts: dict[str, list[float]] = field(default_factory=dict)

    def start_parts(self) -> None:
        """Starts everything but the gateway, side by side, and waits until all are ready.

        Raises:
            ChildError: a part did not become ready.
        """
        self.environment = {
            **os.environ,
            **QUIET,
            **LOOPBACK,
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
            # Chosen here, so that a restarted Ray is found where the first one was.
            "RAY_GCS_SERVER_PORT": str(free_port()),
            "PREFECT_HOME": str(self._path("prefect")),
            **self.plan.places,
        }
        forecast = self.start("forecast", "serve", "forecast")
        prefect = self.start("prefect", "serve", "prefect", "--port", str(free_port()))
        if self.plan.archive is not None:
            self._start_replay(self.plan.archive)
        self.prefect_url = prefect.wait_ready(READY_SECONDS)["url"]
        self._wait_for_api(prefect)
        self.say(f"Prefect UI    {self.prefect_url}")
        address = forecast.wait_ready(READY_SECONDS)["address"]
        self.environment["MARKETCAL_FORECAST__RAY_ADDRESS"] = address
        self.say(f"Ray           {address}")

    def start_gateway(self) -> str:
        """Starts the gateway; returns its address."""
        gateway = self.start("gateway", "serve", "gateway", "--port", str(self.plan.port))
        return str(gateway.wait_ready(READY_SECONDS)["address"])

    def start_stream(self, key: str, address: str) -> None:
        """Starts the stream worker, and where an archive is replayed the stream that it follows."""
        folder = self._path("run")
        self.environment |= {"MARKETCAL_STREAM__ADDRESS": address, "MARKETCAL_STREAM__KEY": key}
        if self.plan.archive is not None:
            streams = child.start(
                "streams",
                [sys.executable, "-m", "market_data.replay.stream_server", "--speed", "1",
                 "--archive", str(self.plan.archive), "--port", str(free_port()),
                 "--port-file", str(folder / "streams.ready")],
                folder=folder, environment=self.environment)  # fmt: skip
            self.children.append(streams)
            port = streams.wait_ready(READY_SECONDS)
            url = f"ws://127.0.0.1:{port}/ws/market"
            self.environment["MARKETCAL_STREAM__POLYMARKET_URL"] = url
            self.say(f"live stream   {url}")
        worker = self.start("stream", "stream")
        self.say(f"stream worker {worker.wait_ready(READY_SECONDS)['markets']} markets")

    def run_daily(self) -> None:
        """Ingests, calibrates and looks back under the Prefect server; its output is shown.

        Raises:
            ChildError: a run failed.
        """
        self._run("daily", "calibrate", "--ingest")
        self._run("postmortem", "postmortems", "--days", str(LOOK_BACK_DAYS))

    def _run(self, name: str, *arguments: str) -> None:
        """Carries out a command to its end."""
        command = [*arguments, "--prefect-url", f"{self.prefect_url}/api"]
        if self.plan.as_of is not None:
            command += ["--as-of", self.plan.as_of.strftime("%Y-%m-%dT%H:%M:%S%z")]
        run = child.start(
            name, _marketcal(*command), folder=self._path("run"),
            environment=self.environment, attached=True)  # fmt: skip
        self.children.append(run)
        run.wait_finished()
        self.children.remove(run)

    def start(self, name: str, *arguments: str) -> Child:
        """Starts one part."""
        folder = self._path("run")
        ready = ["--ready-file", str(folder / f"{name}.ready")]
        started = child.start(
            name, _marketcal(*arguments, *ready), folder=folder, environment=self.environment
        )
        self.children.append(started)
        return started

    def revive(self) -> None:
        """Starts parts again that have ended by themselves; called again and again.

        Raises:
            ChildError: a part has ended more often than `RESTARTS` within `RESTART_WINDOW`.
        """
        for place, part in enumerate(self.children):
            if part.process.poll() is None:
                continue
            now = time.monotonic()
            recent = [at for at in self.restarts.get(part.name, []) if now - at < RESTART_WINDOW]
            if len(recent) >= RESTARTS:
                raise child.ChildError(
                    f"{part.name} ended again with status {part.process.returncode}"
                    f"{part.log_tail()}"
                )
            self.restarts[part.name] = [*recent, now]
            child.end_orphans({other.process.pid for other in self.children})
            self.say(f"{part.name} ended with status {part.process.returncode}; starting it again")
            self.children[place] = child.start(
                part.name, part.command, folder=self._path("run"), environment=self.environment
            )

    def stop(self) -> None:
        """Stops all parts, the last started first."""
        for part in reversed(self.children):
            part.process.terminate()
        for part in reversed(self.children):
            part.stop(STOP_SECONDS)
        self.children.clear()
        child.end_orphans(())

    def _start_replay(self, archive: Path) -> None:
        folder = self._path("run")
        started = child.start(
            "replay",
            [sys.executable, "-m", "market_data.replay.server", "--archive", str(archive),
             "--port", str(free_port()), "--port-file", str(folder / "replay.ready")],
            folder=folder, environment=self.environment)  # fmt: skip
        self.children.append(started)
        port = started.wait_ready(READY_SECONDS)
        base = f"http://127.0.0.1:{port}"
        self.environment |= {
            "MARKETCAL_FLOWS__GAMMA_URL": f"{base}/gamma",
            "MARKETCAL_FLOWS__CLOB_URL": f"{base}/clob",
            "MARKETCAL_FLOWS__SUBGRAPH_URL": f"{base}/subgraph/activity",
            "MARKETCAL_FLOWS__KALSHI_URL": f"{base}/kalshi",
            "MARKETCAL_FLOWS__MANIFOLD_URL": f"{base}/manifold",
            "MARKETCAL_FLOWS__VENUES": '["polymarket","kalshi","manifold"]',
            "MARKETCAL_FLOWS__VENUE_RATE": "0",
        }
        self.say(f"replay venue  {base} (/gamma /clob /subgraph/activity /kalshi /manifold)")

    def _wait_for_api(self, prefect: Child) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.prefect_url}/api/health", timeout=2).status_code == 200:
                    return
            except httpx.HTTPError:
                pass  # not up yet: asked again until the deadline
            if prefect.process.poll() is not None:
                raise child.ChildError(f"the Prefect server ended{prefect.log_tail()}")
            time.sleep(0.1)
        raise child.ChildError(f"the Prefect server did not answer in time{prefect.log_tail()}")

    def _path(self, name: str) -> Path:
        return (self.plan.folder / name).resolve()


@contextmanager
def running(plan: Plan, say: Callable[[str], None]) -> Iterator[Stack]:
    """A stack that is stopped at the end, whatever happens."""
    child.adopt_orphans()
    stack = Stack(plan, say)
    try:
        yield stack
    finally:
        stack.stop()


def _marketcal(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "gateway.cli.main", *arguments]
