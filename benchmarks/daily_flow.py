"""The daily flow from the venue to the scoreboard, by number of markets.

The venue is the replay server in a process of its own, without a rate limit; the flow runs in
another one, so that its peak memory is its own: ``python -m benchmarks.daily_flow '{…}'``.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure, Scale
from benchmarks.processes import answer_of
from market_data.replay.archive import write_archive
from market_data.replay.simulate import SimulationConfig
from market_data.replay.simulate_records import simulate

SUITE = "daily_flow"
_START_SECONDS = 60.0


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Seconds, snapshots per second and peak memory of a first and of a repeated run."""
    figures: list[Figure] = []
    for markets in scale.markets:
        place = folder / f"markets-{markets}"
        config = SimulationConfig(n_markets=markets, snapshots_per_market=scale.snapshots)
        write_archive(simulate(config), place / "archive")
        with venue(place) as url:
            first, again = (_flow(place, url, config) for _ in range(2))
        name = f"{markets:,} markets × {scale.snapshots} snapshots"
        figures += [
            Figure(SUITE, f"first run, {name}", first["seconds"], "s"),
            Figure(
                SUITE, f"first run, {name}", markets * scale.snapshots / first["seconds"],
                "snapshots/s",
            ),
            Figure(SUITE, f"first run, {name}", first["peak_mib"], "MiB peak"),
            Figure(SUITE, f"repeated run, {name}", again["seconds"], "s"),
            *(
                Figure(SUITE, f"first run, {name}, stage {stage}", seconds, "s")
                for stage, seconds in first["stages"].items()
            ),
        ]  # fmt: skip
    return figures


@contextmanager
def venue(place: Path) -> Iterator[str]:
    """Serves the archive of a folder from a process of its own; yields its URL."""
    said = place / "port"
    said.unlink(missing_ok=True)
    command = [sys.executable, "-m", "market_data.replay.server", "--archive",
               str(place / "archive"), "--port-file", str(said)]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()  # it says where it will listen
            deadline = time.monotonic() + _START_SECONDS
            while not said.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the replay server did not start")
                time.sleep(0.01)
            yield f"http://127.0.0.1:{int(said.read_text())}"
        finally:
            process.terminate()
            process.wait(20)


def _flow(place: Path, url: str, config: SimulationConfig) -> dict[str, Any]:
    job = {"lake": str(place / "lake"), "url": url, "as_of": config.as_of.isoformat()}
    met: dict[str, Any] = answer_of("benchmarks.daily_flow", [json.dumps(job)])
    return met


def main(job: dict[str, str]) -> None:
    """Runs the flow once and prints seconds, peak memory and the seconds of its stages."""
    from flows import daily
    from flows.settings import FlowSettings

    settings = FlowSettings(
        lake=job["lake"],
        raw=f"{job['lake']}/raw",
        gamma_url=f"{job['url']}/gamma",
        clob_url=f"{job['url']}/clob",
        subgraph_url=f"{job['url']}/subgraph/activity",
        venue_rate=0,
        venue_concurrency=16,
    )
    began = time.perf_counter()
    done = daily.daily.fn(as_of=datetime.fromisoformat(job["as_of"]), flow_settings=settings)
    seconds = time.perf_counter() - began
    peak = peak_mib()
    stages = {name: count.seconds for name, count in done.stages.items()}
    print(json.dumps({"seconds": seconds, "peak_mib": peak, "stages": stages}))


def peak_mib() -> float:
    """This program's largest resident set; getrusage would count the parent that started it."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024  # type: ignore[index]


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
