"""From a frame on the venue's socket to an alert on 200 streams, as a user would run it.

Processes of their own: a venue that plays 500 simulated markets at 1,000 frames a second in real
time, the gateway with its model, the stream worker, and a program with 200 watchers, one of which
does not read. The time of an alert runs from the instant at which the venue sends the first frame
that shows its bar to be over (one that speaks of a time after the bar's end and the two seconds
that bars wait for late events) to its arrival at a watcher; all reading watchers count. In the
first run one market in twenty jumps, in the second one in five: dozens of alerts at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import polars as pl

from benchmarks.figures import Figure, Scale
from benchmarks.live_watchers import PER_KEY
from benchmarks.processes import cpu_seconds, rss_mib
from gateway.keys import KeyStore
from gateway.stores import open_store
from gateway.wiring import open_keys
from market_data.control_store import prepare
from market_data.lake import Lake, empty
from market_data.replay.stream_capture import Record
from market_data.replay.stream_simulate import StreamDay, simulate_day
from market_data.replay.stream_simulate_market import Truth
from market_data.replay.stream_state import contents_of
from market_data.streaming import live_store
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar

SUITE = "live"
ROOT = Path(__file__).resolve().parent.parent
LATENESS_MS = 2_000
_HISTORY, _READY_SECONDS = 288, 60.0
_SET_UP_MS, _START_SECONDS = 45_000, 3.0
"""Until the day begins, when everything is there; and how long the worker takes to subscribe."""


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Latencies of all alerts at all reading watchers, and what the worker costs."""
    if not scale.live_seconds:
        return []
    found = []
    for name, share in (("usual", 20), ("storm", 5)):
        (folder / name).mkdir()
        found += _figures(scale, folder / name, name, share)
    return found


def _figures(scale: Scale, folder: Path, name: str, share: int) -> list[Figure]:
    markets = scale.live_markets
    start = time.time_ns() // 1_000_000 + _SET_UP_MS
    day = StreamDay(
        seed=6, n_conditions=markets, duration_s=float(scale.live_seconds), start_ms=start,
        updates_per_second=1.8 * markets, n_jumps=markets // share, jumps_after=0.15, symbols="",
    )  # fmt: skip
    records, truth = simulate_day(day)
    shown = _shown(records, day)
    del records
    found = _measured(folder, day, truth, shown)
    times = sorted(found["latencies"])
    what = f"{markets} markets, {found['rate']:,.0f} frames/s, {found['watchers']} watchers"
    return [
        *(Figure(SUITE, f"{name}: frame to alert, {what}", _share(times, share), f"ms {unit}")
          for share, unit in ((0.5, "p50"), (0.95, "p95"), (1.0, "most"))),
        Figure(SUITE, f"{name}: venue's clock behind the wall's", found["offset"], "ms"),
        Figure(SUITE, f"{name}: alerts", len(found["alerts"]), "alerts"),
        Figure(SUITE, f"{name}: alerts that a reading watcher lacked", found["lacking"], "alerts"),
        Figure(SUITE, f"{name}: bands that a baseline stood in for", found["late"], "bands"),
        Figure(SUITE, f"{name}: CPU of the stream worker", found["cpu"], "of a core"),
        Figure(SUITE, f"{name}: memory of the stream worker", found["mib"], "MiB"),
    ]  # fmt: skip


def _share(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _shown(records: Sequence[Record], day: StreamDay) -> dict[int, int]:
    """When the first frame is sent that shows a minute to be over, by the end of the minute."""
    shown: dict[int, int] = {}
    first = day.start_ms // MINUTE_MS * MINUTE_MS
    ends = iter(range(first, day.start_ms + int(day.duration_s * 1e3) + MINUTE_MS, MINUTE_MS))
    end = next(ends)
    for record in records:
        for message in contents_of(record).messages:
            while int(message.get("timestamp") or 0) >= end + LATENESS_MS:
                shown[end] = record.recv_ms
                end = next(ends)
    return shown


def _measured(folder: Path, day: StreamDay, truth: Truth, shown: dict[int, int]) -> dict[str, Any]:
    keys = _prepared(folder, day, truth)
    spec = ",".join(f"{name}={getattr(day, name)}" for name in (
        "seed", "n_conditions", "start_ms", "duration_s", "updates_per_second", "n_jumps",
        "jumps_after", "symbols"))  # fmt: skip
    with contextlib.ExitStack() as stack:

        def start(name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
            return stack.enter_context(_process(folder, name, arguments, environment))

        start("gateway", "gateway.cli.main", "serve", "gateway", "--port", "0", "--ready-file",
              "gateway.ready")  # fmt: skip
        address = json.loads(_waited(folder / "gateway.ready"))["address"]
        start("venue", "market_data.replay.stream_server", "--simulate", spec, "--port-file",
              "venue.port", "--speed", "1", "--clients", "polymarket=1")  # fmt: skip
        port = int(_waited(folder / "venue.port"))
        watching = start("watchers", "benchmarks.live_watchers", address,
                         str(day.duration_s + 50.0), *keys)  # fmt: skip
        time.sleep(max(0.0, day.start_ms / 1e3 - _START_SECONDS - time.time()))
        worker = start(
            "worker", "gateway.cli.main", "stream",
            MARKETCAL_STREAM__POLYMARKET_URL=f"ws://127.0.0.1:{port}/ws/market",
            MARKETCAL_STREAM__ADDRESS=address, MARKETCAL_STREAM__KEY=keys[0],
            MARKETCAL_STREAM__POLL_SECONDS="3600", MARKETCAL_STREAM__METRICS_PORT="-1",
            MARKETCAL_STREAM__SHARD_SIZE="5000", MARKETCAL_STREAM__MAX_AHEAD_SECONDS="1e9",
        )  # fmt: skip
        looked = _looked(port, worker.pid, day.duration_s - 5.0)
        watching.wait(day.duration_s + 120.0)
    return _summed(folder, looked, len(keys) * PER_KEY - 1, shown)


def _summed(
    folder: Path, looked: dict[str, float], readers: int, shown: dict[int, int]
) -> dict[str, Any]:
    """What the watchers printed, against the instants at which the venue spoke."""
    told = json.loads((folder / "watchers.out").read_text().splitlines()[-1])
    if told["failed"]:
        raise RuntimeError(f"watchers failed: {told['failed'][:3]}")
    received = told["received"]
    late = [shown[at] + looked["offset"] for at in told["at"].values()]
    first = dict(zip(told["at"], late, strict=True))
    return looked | {
        "latencies": [one - first[name] for name, times in received.items() for one in times],
        "alerts": received,
        "lacking": sum(readers - len(times) for times in received.values()),
        "watchers": readers + 1,
        "late": _late(folder),
    }


def _looked(port: int, pid: int, seconds: float) -> dict[str, float]:
    """What the venue's clock is behind the wall's, its frames per second, and the worker's cost."""
    offset, until = float("inf"), time.monotonic() + seconds
    with httpx.Client(trust_env=False, timeout=10) as http:

        def state() -> Any:
            return http.get(f"http://127.0.0.1:{port}/replay/state").json()

        while not state()["records"]:
            time.sleep(0.1)
        began, cpu = time.monotonic(), cpu_seconds([pid])
        sent = sum(state()["sent"].values())
        while time.monotonic() < until:
            now = state()
            if now["position_ms"]:
                offset = min(offset, time.time() * 1e3 - now["position_ms"])
            time.sleep(0.5)
        rate = (sum(now["sent"].values()) - sent) / (time.monotonic() - began)
    used = (cpu_seconds([pid]) - cpu) / (time.monotonic() - began)
    return {"offset": offset, "rate": rate, "cpu": used, "mib": rss_mib(pid)}


def _late(folder: Path) -> int:
    engine = open_store(f"sqlite:///{folder / 'var/control.db'}")
    with engine.connect() as connection:
        position = live_store.read_position(connection, "stream") or {}
    engine.dispose()
    return int(position.get("late_forecasts", 0))


def _prepared(folder: Path, day: StreamDay, truth: Truth) -> list[str]:
    """Registry, a day of bars and four keys; the keys."""
    lake = Lake(folder / "var/lake")
    names = {condition: f"polymarket:{n}" for n, condition in enumerate(truth.assets)}
    rows = [
        {
            "market_id": names[condition], "event_id": "e", "platform": "polymarket",
            "venue_market_id": names[condition], "condition_id": condition, "question": "Q?",
            "outcomes": ["Yes", "No"], "token_ids": list(tokens), "tick_size": 0.01,
            "status": "ACTIVE",
        }
        for condition, tokens in truth.assets.items()
    ]  # fmt: skip
    table = empty("market_registry").drop("schema_version")
    lake.upsert("market_registry", pl.concat([table, pl.DataFrame(rows)], how="diagonal_relaxed"))
    url = f"sqlite:///{folder / 'var/control.db'}"
    _write_history(url, day, truth, names)
    keys: KeyStore = open_keys(url)
    made = [keys.create("forecaster", note=f"watcher {n}")[0] for n in range(4)]
    keys.close()
    return made


def _write_history(url: str, day: StreamDay, truth: Truth, names: dict[str, str]) -> None:
    """A day of five-minute bars that ends at the prices with which the simulation begins."""
    rng, until = random.Random(3), day.start_ms // FIVE_MS * FIVE_MS
    first: dict[str, float] = {}
    for best in truth.best:
        if best.asset not in first and best.bid != "0" and best.ask != "1":
            first[best.asset] = (float(best.bid) + float(best.ask)) / 2
    bars = []
    for condition, (asset, _) in truth.assets.items():
        price = first.get(asset, 0.5)
        for step in range(_HISTORY):
            start = until - (step + 1) * FIVE_MS
            prices = (price,) * 4
            bars.append(Bar(names[condition], FIVE_MS, start, *prices, 10**9, 5, 9, 0.0))
            price = min(0.98, max(0.02, price + rng.choice((-0.01, 0.0, 0.0, 0.0, 0.01))))
    engine = open_store(url)
    prepare(engine, live_store.METADATA)
    with engine.begin() as connection:
        live_store.write_bars(connection, bars)
        position = {"closed_until": until, "watermark": until}
        live_store.write_position(connection, "stream", position)
    engine.dispose()


@contextlib.contextmanager
def _process(
    folder: Path, name: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> Iterator[subprocess.Popen[str]]:
    around = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    with (folder / f"{name}.out").open("w") as out, (folder / f"{name}.err").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=folder, env=around, stdout=out, stderr=errors,
            text=True,
        )  # fmt: skip
    try:
        yield process
    finally:
        process.terminate()
        too_late = threading.Timer(20.0, process.kill)
        too_late.start()
        process.wait()
        too_late.cancel()


def _waited(file: Path) -> str:
    until = time.monotonic() + _READY_SECONDS
    while time.monotonic() < until:
        if file.exists() and (text := file.read_text().strip()):
            return text
        time.sleep(0.1)
    raise RuntimeError(f"{file.name} did not come: {list(file.parent.glob('*.err'))}")
