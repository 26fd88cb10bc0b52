"""The native model through the whole gateway, beside an echo and beside what one would use instead.

Answers are not remembered (``cache_seconds`` 0) and the model has as long as it needs
(``model_seconds`` 30), so that every series is computed; how often another model stood in for it
is reported. PyTorch stands beside at its best number of threads. ``BENCH_WEIGHTS`` names a folder
with ``native.onnx`` when the package has none. What cannot be measured here is said on standard
error and left out.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks import models_beside
from benchmarks.figures import FULL, Figure, Scale, median
from benchmarks.processes import Serving, answer_of, serving
from forecast_service.models.catalog import known_models
from forecast_service.models.digests import digest_of, locate
from forecast_service.models.errors import WeightsError

SUITE = "models"
MODEL = "native"
MARKETS = 500
"""Markets of one cycle."""
AT_ONCE = 256
"""Series in one call of a network in PyTorch; more are no faster."""
_TITLES = {
    "echo": "bare grpc.aio echo",
    "gateway": "native, in process",
    "ray": "native, through Ray",
}
_READY_SECONDS = {"gateway": 3.0, "ray": 60.0}
Samples = dict[tuple[str, str, str], list[float]]
"""Values over the rounds by (server, load, unit)."""


def run(scale: Scale, folder: Path) -> list[Figure]:
    """Series per second and latency of each way to a forecast, and the ratios that matter."""
    batches = sorted({1, min(100, scale.batch), scale.batch})
    samples: Samples = defaultdict(list)
    given = native_settings(os.environ.get("BENCH_WEIGHTS", ""))
    with ExitStack() as stack:
        servers = {"echo": stack.enter_context(serving("echo", folder))}
        if isinstance(given, str):
            _leave_out(MODEL, given)
        else:
            for kind in ("gateway", "ray") if scale.with_ray else ("gateway",):
                server = stack.enter_context(serving(kind, folder, json.dumps(given)))
                if reason := _not_native(server, _READY_SECONDS[kind]):
                    _leave_out(_TITLES[kind], reason)
                else:
                    servers[kind] = server
        _load_all(servers, batches, scale, samples)
    figures = [
        median(SUITE, f"{_TITLES[kind]}, {load}", values, unit)
        for (kind, load, unit), values in samples.items()
    ]
    beside = _beside(scale)
    return [*figures, *beside, *_ratios(samples, beside, scale)]


def native_settings(folder: str) -> dict[str, Any] | str:
    """Settings of the section ``forecast`` under which the native model answers, or why not."""
    card = known_models()[MODEL]
    try:
        weights = locate(card, folder)
    except WeightsError as error:
        return str(error)
    return {
        "models": [MODEL],
        "default_model": MODEL,
        "weights_folder": str(weights.parent),
        "weights_digests": {MODEL: digest_of(weights)},
        "policy": {"model_seconds": 30.0, "cache_seconds": 0.0, "cache_stale_seconds": 0.0},
    }


def _leave_out(what: str, reason: str) -> None:
    print(f"{SUITE}: {what} is left out: {reason}", file=sys.stderr, flush=True)


def _not_native(server: Serving, seconds: float) -> str:
    """Why a server does not answer with the native model; "" when it does."""
    job = {"address": server.address, "key": server.key, "seconds": seconds, "model": MODEL}
    met: dict[str, Any] = answer_of("benchmarks.models_ready", [json.dumps(job)])
    return "" if met["model"] == MODEL else f"{met['model']} answers ({met['reason']})"


def _load_all(
    servers: dict[str, Serving], batches: list[int], scale: Scale, samples: Samples
) -> None:
    """A B C A B C …, so that a noisy minute hits all of them alike."""
    for _ in range(max(1, scale.rounds // 2)):
        for clients in scale.clients:
            for kind, server in servers.items():
                met = _load(server, "forecast", scale, kind, clients=clients)
                load = "1 client" if clients == 1 else f"{clients} clients"
                samples[kind, load, "series/s"].append(met["per_second"])
                samples[kind, load, "ms p50"].append(met["p50_ms"])
                samples[kind, load, "ms p99"].append(met["p99_ms"])
                _note_others(samples, kind, met, 1)
        for batch in (*batches, min(MARKETS, scale.batch)):
            for kind, server in servers.items():
                if kind != "echo":
                    met = _load(server, "batch", scale, kind, batch=batch)
                    _note_batch(samples, kind, batch, met)


def _note_batch(samples: Samples, kind: str, batch: int, met: dict[str, float]) -> None:
    _note_others(samples, kind, met, batch)
    if batch == MARKETS:
        samples[kind, f"a cycle over {MARKETS} markets", "s"].append(met["p50_ms"] / 1e3)
        return
    load = _batch_name(batch)
    samples[kind, load, "series/s"].append(met["per_second"] * batch)
    samples[kind, load, "ms p50"].append(met["p50_ms"])
    samples[kind, load, "ms p99"].append(met["p99_ms"])


def _batch_name(batch: int) -> str:
    return f"BatchForecast of {batch:,} × {models_beside.POINTS}"


def _note_others(samples: Samples, kind: str, met: dict[str, float], series: int) -> None:
    if kind != "echo":
        share = met["stood_in"] / (met["sent"] * series)
        samples[kind, "series that another model answered", "share"].append(share)


def _load(
    server: Serving, call: str, scale: Scale, kind: str, *, clients: int = 1, batch: int = 0
) -> dict[str, float]:
    job = {
        "call": call, "address": server.address, "key": server.key, "clients": clients,
        "seconds": scale.seconds, "requests": scale.requests, "batch": batch,
    }  # fmt: skip
    if kind != "echo":
        job["model"] = MODEL
    met: dict[str, float] = answer_of("benchmarks.clients", [json.dumps(job)])
    return met


def _beside(scale: Scale) -> list[Figure]:
    """The networks in PyTorch by threads, and the server like tollama's."""
    found: list[Figure] = []
    batches = sorted({1, min(AT_ONCE, scale.batch)})
    cores = len(os.sched_getaffinity(0)) if scale.rounds >= FULL.rounds else 1
    for network in models_beside.NETWORKS:
        for threads in sorted({1, cores}):
            times = models_beside.measured(
                network, threads=threads, batches=batches, most=200, budget=scale.seconds
            )
            if isinstance(times, str):
                _leave_out(f"{network} in PyTorch", times)
                break
            for batch, seconds in times.items():
                name = f"{_torch_name(network, batch)}, {threads} thread{'s' * (threads > 1)}"
                rate = statistics.median(batch / taken for taken in seconds)
                found.append(Figure(SUITE, name, models_beside.median_ms(seconds), "ms p50"))
                found.append(Figure(SUITE, name, rate, "series/s"))
    for clients in (1, 8):
        taken = models_beside.tollama_times(
            clients, most=scale.requests, seconds=max(0.3, scale.seconds)
        )
        name = f"a server like tollama's, {clients} client{'s' * (clients > 1)}"
        found.append(Figure(SUITE, name, models_beside.median_ms(taken), "ms p50"))
        found.append(Figure(SUITE, name, clients * len(taken) / sum(taken), "series/s"))
    return found


def _torch_name(network: str, batch: int) -> str:
    return f"{network} in PyTorch, {batch:,} at once"


def _ratios(samples: Samples, beside: list[Figure], scale: Scale) -> list[Figure]:
    """What is to be read first: beside the echo, and beside each alternative at the same size."""
    found: list[Figure] = []
    most, at_once = f"{scale.clients[-1]} clients", min(AT_ONCE, scale.batch)
    for kind in ("gateway", "ray"):
        ours = samples.get((kind, most, "series/s"))
        if ours is None:
            continue
        title = _TITLES[kind]
        shares = [a / b for a, b in zip(ours, samples["echo", most, "series/s"], strict=True)]
        name = f"{title} ÷ {_TITLES['echo']}, {most}"
        found.append(median(SUITE, name, shares, "ratio of series/s"))
        whole = samples[kind, _batch_name(scale.batch), "series/s"]
        single = samples[kind, "1 client", "ms p50"]
        for network in models_beside.NETWORKS:
            rates = _values(beside, _torch_name(network, at_once), "series/s")
            alone = _values(beside, _torch_name(network, 1), "ms p50")
            if rates and alone:
                name = f"{title}, {_batch_name(scale.batch)} ÷ {_torch_name(network, at_once)}"
                shares = [ours / max(rates) for ours in whole]
                found.append(median(SUITE, name, shares, "ratio of series/s"))
                name = f"{network} in PyTorch ÷ {title}, one series"
                shares = [min(alone) / ours for ours in single]
                found.append(median(SUITE, name, shares, "ratio of p50"))
        slow = max(_values(beside, "a server like tollama's, 1 client", "ms p50"))
        name = f"a server like tollama's ÷ {title}, one series"
        found.append(median(SUITE, name, [slow / ours for ours in single], "ratio of p50"))
    return found


def _values(figures: list[Figure], name: str, unit: str) -> list[float]:
    """The values of figures whose name begins so, whatever the number of threads."""
    return [
        figure.value for figure in figures if figure.name.startswith(name) and figure.unit == unit
    ]
