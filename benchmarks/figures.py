"""What a benchmark yields, and how much of it is measured."""

from __future__ import annotations

import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number.

    Attributes:
        suite: the suite that measured it.
        name: what was measured.
        value: the number; unit: its unit.
        spread: the lowest and the highest value over the rounds, None for a single one.
    """

    suite: str
    name: str
    value: float
    unit: str
    spread: tuple[float, float] | None = None


def median(suite: str, name: str, values: Sequence[float], unit: str) -> Figure:
    """The median over rounds, with the lowest and the highest."""
    spread = (min(values), max(values)) if len(values) > 1 else None
    return Figure(suite, name, statistics.median(values), unit, spread)


@dataclass(frozen=True, slots=True)
class Scale:
    """How much is measured; every load is bounded in count and in time.

    Attributes:
        rounds: repetitions; those of things that are compared are interleaved.
        seconds: longest single load.
        requests: most requests of a single load.
        clients: concurrent callers, one load each.
        batch: series of one BatchForecast.
        rows: table sizes of the calibration suite.
        lake_rows: snapshots in the lakes of the suite for all stages.
        markets: archive sizes of the daily flow; snapshots: price points per market.
        listed: markets on the scoreboard of the reads suite.
        with_ray: whether forecasts are also measured through Ray.
        frames: of a stream.
        live_seconds: of the whole live path in real time, 0 for none; live_markets: in it.
    """

    rounds: int
    seconds: float
    requests: int
    clients: tuple[int, ...]
    batch: int
    rows: tuple[int, ...]
    lake_rows: tuple[int, ...]
    markets: tuple[int, ...]
    snapshots: int
    listed: tuple[int, ...]
    with_ray: bool = True
    frames: int = 100_000
    live_seconds: int = 480
    live_markets: int = 500


FULL = Scale(
    rounds=5, seconds=2.0, requests=20_000, clients=(1, 8, 32, 64), batch=1_000,
    rows=(10_000, 100_000, 1_000_000), lake_rows=(100_000, 1_000_000, 10_000_000),
    markets=(500, 2_000, 5_000), snapshots=100,
    listed=(10_000, 100_000),
)  # fmt: skip
QUICK = Scale(
    rounds=3, seconds=0.5, requests=5_000, clients=(1, 8, 64), batch=1_000,
    rows=(10_000, 100_000), lake_rows=(100_000, 1_000_000), markets=(500,), snapshots=100,
    listed=(10_000,), frames=40_000, live_seconds=240,
)  # fmt: skip
TINY = Scale(
    rounds=1, seconds=0.2, requests=100, clients=(1, 4), batch=50,
    rows=(500, 2_000), lake_rows=(2_000,), markets=(60,), snapshots=12, listed=(200,),
    with_ray=False, frames=1_000, live_seconds=0,
)  # fmt: skip


def seconds_of(work: Callable[[], object], *, most: int = 5, budget: float = 3.0) -> list[float]:
    """Wall seconds of repeated calls: at least one, at most ``most``, none past ``budget``."""
    began = time.perf_counter()
    taken: list[float] = []
    while not taken or (len(taken) < most and time.perf_counter() - began < budget):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return taken


_PACKAGES = ("grpcio", "protobuf", "numpy", "polars", "deltalake", "ray", "uvloop", "prefect")


def surroundings() -> dict[str, Any]:
    """The machine and the versions that figures hold for."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": len(os.sched_getaffinity(0)),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "machine": platform.machine(),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
        "versions": {name: version(name) for name in _PACKAGES},
    }


def as_record(figure: Figure) -> dict[str, Any]:
    """A figure as JSON."""
    return asdict(figure)


def table(figures: Sequence[Figure]) -> str:
    """Figures as plain text, suite by suite."""
    lines: list[str] = []
    width = max((len(figure.name) for figure in figures), default=0)
    suite = ""
    for figure in figures:
        if figure.suite != suite:
            suite = figure.suite
            lines += ["", suite]
        spread = f"  [{number(figure.spread[0])} … {number(figure.spread[1])}]" if (
            figure.spread
        ) else ""  # fmt: skip
        lines.append(f"  {figure.name:<{width}} {number(figure.value):>12} {figure.unit}{spread}")
    return "\n".join(lines).lstrip("\n")


def number(value: float) -> str:
    """A number with three to four telling digits.

    >>> number(1234.5), number(12.345), number(0.012345)
    ('1,234', '12.3', '0.0123')
    """
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
