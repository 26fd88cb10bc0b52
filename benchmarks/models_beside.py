"""What the native model stands beside: PyTorch, Chronos-Bolt, and a server like tollama's.

``python -m benchmarks.models_beside NETWORK '{"threads": 1, "batches": [1, 1000], …}'`` measures
one network in PyTorch and prints one JSON object. It runs in whatever interpreter has the packages,
so it imports nothing else of ours at the top.

=============  =================================================================================
native         the network of `forecast_service.training.network`, single precision
chronos-bolt   the architecture and size of amazon/chronos-bolt-tiny with random weights: how fast
               a network is does not depend on what it has learnt
=============  =================================================================================
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent
POINTS = 288
NETWORKS = {"native": "BENCH_TORCH_PYTHON", "chronos-bolt": "BENCH_CHRONOS_PYTHON"}
"""Networks, and the variable that names an interpreter with their packages."""
_BOLT = {
    "d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_decoder_layers": 4,
    "num_heads": 4, "vocab_size": 2, "feed_forward_proj": "relu", "decoder_start_token_id": 0,
    "initializer_factor": 0.05, "dropout_rate": 0.1,
}  # fmt: skip
_BOLT_OWN = {
    "context_length": 2048, "prediction_length": 64, "input_patch_size": 16,
    "input_patch_stride": 16, "quantiles": [level / 10 for level in range(1, 10)],
    "use_reg_token": True,
}  # fmt: skip
Times = dict[int, list[float]]
"""Seconds of each call by number of series."""


def measured(
    network: str, *, threads: int, batches: Sequence[int], most: int, budget: float
) -> Times | str:
    """Seconds per call of a network in PyTorch, in a process of its own; or why there are none.

    Args:
        network: one of `NETWORKS`.
        threads: of PyTorch.
        batches: numbers of series.
        most: calls of each at most; budget: seconds for each.
    """
    variable = NETWORKS[network]
    interpreter = os.environ.get(variable, sys.executable)
    job = {"threads": threads, "batches": list(batches), "most": most, "budget": budget}
    try:
        done = subprocess.run(
            [interpreter, "-m", "benchmarks.models_beside", network, json.dumps(job)],
            cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": str(threads)},
            capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    except OSError as error:
        return f"{variable}: {error}"
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it failed"])[-1]
        return f"{last} (set {variable} to an interpreter that has it)"
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return {int(batch): seconds for batch, seconds in found.items()}


def tollama_times(clients: int, *, most: int, seconds: float) -> list[float]:
    """Seconds of one-series requests to a server that takes as long as tollama's daemon."""
    command = [sys.executable, "-m", "benchmarks.tollama_like"]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        place = urlsplit(json.loads(server.stdout.readline())["address"])
        try:
            with ThreadPoolExecutor(clients) as pool:
                until = time.monotonic() + seconds
                callers = [
                    pool.submit(_press, str(place.hostname), place.port or 80, most, until)
                    for _ in range(clients)
                ]
                return [taken for caller in callers for taken in caller.result()]
        finally:
            server.stdin.close()


def _press(host: str, port: int, most: int, until: float) -> list[float]:
    series = {
        "id": "m", "freq": "5min", "timestamps": ["2026-01-01T00:00:00"] * POINTS,
        "target": [0.5] * POINTS,
    }  # fmt: skip
    asked = {"model": "mock", "horizon": 12, "quantiles": [0.1, 0.5, 0.9], "series": [series]}
    body, taken = json.dumps(asked), list[float]()
    connection = http.client.HTTPConnection(host, port, timeout=30)
    while len(taken) < most and (not taken or time.monotonic() < until):
        began = time.perf_counter()
        connection.request("POST", "/v1/forecast", body, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(f"the server like tollama's said {answer.status}")
        taken.append(time.perf_counter() - began)
    connection.close()
    return taken


def main(network: str, job: dict[str, Any]) -> None:
    """Measures one network in this process."""
    import torch

    torch.set_num_threads(job["threads"])
    torch.set_num_interop_threads(1)
    torch.manual_seed(0)
    call = _native() if network == "native" else _chronos_bolt()
    found: dict[int, list[float]] = {}
    with torch.inference_mode():
        for batch in job["batches"]:
            values = torch.sigmoid(torch.randn(batch, POINTS).mul(0.05).cumsum(1))
            call(values)
            found[batch] = []
            until = time.perf_counter() + job["budget"]
            while not found[batch] or (
                len(found[batch]) < job["most"] and time.perf_counter() < until
            ):
                began = time.perf_counter()
                call(values)
                found[batch].append(time.perf_counter() - began)
    print(json.dumps(found))


def _native() -> Callable[[Any], object]:
    import inspect

    import torch

    from forecast_service.training.layout import CONTEXT
    from forecast_service.training.network import Network

    network = Network().eval()
    more = len(inspect.signature(network.forward).parameters) - 2

    def call(values: Any) -> object:
        rows, points = values.shape
        first = values[:, :1].expand(rows, CONTEXT - points)
        filled, mask = torch.cat([first, values], 1), torch.ones(rows, CONTEXT)
        mask[:, : CONTEXT - points] = 0.0
        facts = [torch.full((rows,), -1.0), torch.full((rows,), 300.0)][:more]
        return [
            network(filled[i : i + 64], mask[i : i + 64], *(fact[i : i + 64] for fact in facts))
            for i in range(0, rows, 64)
        ]

    return call


def _chronos_bolt() -> Callable[[Any], object]:
    from chronos.chronos_bolt import ChronosBoltModelForForecasting
    from transformers import T5Config

    config = T5Config(**_BOLT)
    config.chronos_config = _BOLT_OWN
    config.is_encoder_decoder = True
    network = ChronosBoltModelForForecasting(config).eval()
    return lambda values: network(context=values)


def median_ms(seconds: Sequence[float]) -> float:
    """Median in milliseconds."""
    return 1e3 * statistics.median(seconds)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
