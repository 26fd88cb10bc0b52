"""Forecasts through the gateway, beside a bare echo server, and the memory that they take."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

from benchmarks.figures import Figure, Scale, median
from benchmarks.processes import Serving, answer_of, cpu_seconds, family, rss_mib, serving

SUITE = "gateway_forecast"
_TITLES = {
    "echo": "bare grpc.aio echo",
    "echo-uvloop": "bare grpc.aio echo on uvloop",
    "gateway": "gateway, in process",
    "ray": "gateway, through Ray",
}

Samples = dict[tuple[str, int, str], list[float]]
"""Values over the rounds by (server, clients, unit)."""


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Requests per second, latency and CPU per request of each server, and their ratios."""
    kinds = [kind for kind in _TITLES if scale.with_ray or kind != "ray"]
    with ExitStack() as stack:
        servers = {kind: stack.enter_context(serving(kind, folder)) for kind in kinds}
        idle = rss_mib(servers["gateway"].pid)
        samples = _interleaved(servers, scale)
        series = [_batch(servers["gateway"], scale) for _ in range(scale.rounds)]
        loaded = rss_mib(servers["gateway"].pid)
    return [
        *_figures(samples),
        *_ratios(samples),
        median(SUITE, f"BatchForecast of {scale.batch:,} series, in process", series, "series/s"),
        Figure(SUITE, "memory of the gateway, idle", idle, "MiB"),
        Figure(SUITE, "memory of the gateway, after all loads", loaded, "MiB"),
    ]


def _interleaved(servers: dict[str, Serving], scale: Scale) -> Samples:
    """A B C A B C …, so that a noisy minute hits all of them alike."""
    samples: Samples = defaultdict(list)
    for _ in range(scale.rounds):
        for clients in scale.clients:
            for kind, server in servers.items():
                for unit, value in _measure(server, clients, scale).items():
                    samples[kind, clients, unit].append(value)
    return samples


def _measure(server: Serving, clients: int, scale: Scale) -> dict[str, float]:
    members = family(server.pid)
    before, before_all = cpu_seconds([server.pid]), cpu_seconds(members)
    met = _load(server, "forecast", clients=clients, seconds=scale.seconds, most=scale.requests)
    own = (cpu_seconds([server.pid]) - before) / met["sent"]
    members = family(server.pid)  # Ray may have started replicas meanwhile
    whole = (cpu_seconds(members) - before_all) / met["sent"]
    found = {
        "requests/s": met["per_second"],
        "ms p50": met["p50_ms"],
        "ms p95": met["p95_ms"],
        "µs server CPU per request": 1e6 * own,
    }
    return found if len(members) == 1 else found | {"µs CPU with Ray per request": 1e6 * whole}


def _batch(server: Serving, scale: Scale) -> float:
    met = _load(
        server, "batch", clients=1, seconds=scale.seconds, most=min(5, scale.requests),
        batch=scale.batch,
    )  # fmt: skip
    return met["per_second"] * scale.batch


def _load(
    server: Serving, call: str, *, clients: int, seconds: float, most: int, **more: int
) -> dict[str, float]:
    job = {
        "call": call, "address": server.address, "key": server.key, "clients": clients,
        "seconds": seconds, "requests": most, **more,
    }  # fmt: skip
    met: dict[str, float] = answer_of("benchmarks.clients", [json.dumps(job)])
    return met


def _figures(samples: Samples) -> list[Figure]:
    return [
        median(SUITE, f"{_TITLES[kind]}, {_callers(clients)}", values, unit)
        for (kind, clients, unit), values in sorted(
            samples.items(), key=lambda item: (item[0][1], list(_TITLES).index(item[0][0]))
        )
    ]


def _ratios(samples: Samples) -> list[Figure]:
    """Requests per second over those of the bare echo in the same round."""
    figures = []
    for (kind, clients, unit), values in samples.items():
        for bare in ("echo", "echo-uvloop"):
            if unit == "requests/s" and kind in ("gateway", "ray"):
                beside = samples[bare, clients, unit]
                shares = [value / other for value, other in zip(values, beside, strict=True)]
                name = f"{_TITLES[kind]} ÷ {_TITLES[bare]}, {_callers(clients)}"
                figures.append(median(SUITE, name, shares, "ratio of requests/s"))
    return figures


def _callers(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"
