"""A load in a process of its own: ``python -m benchmarks.clients '{"call": …}'``.

The load ends after ``seconds`` or ``requests``, whichever comes first, and prints one JSON object:
requests sent in all (the warm-up too), requests per second, p50, p95 and p99 in milliseconds, and
where the job names the model that should answer, how many series another one answered.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
import uvloop

from benchmarks.requests import DISTINCT, forecast_request
from marketcal.v1 import forecast_pb2 as pb
from marketcal.v1 import (
    forecast_pb2_grpc,
    market_pb2,
    market_pb2_grpc,
    scoreboard_pb2,
    scoreboard_pb2_grpc,
)

CHANNELS = 4
WARM_UP = 16
TIMEOUT = 60.0

Ask = Callable[[int], Awaitable[Any]]
"""Sends the n-th request."""


def main(job: dict[str, Any]) -> None:
    """Puts the load on and prints what it met."""
    print(json.dumps(uvloop.run(_load(job))))


async def _load(job: dict[str, Any]) -> dict[str, float]:
    clients = int(job["clients"])
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", 1 << 24)]
    channels = [
        grpc.aio.insecure_channel(job["address"], options=options)
        for _ in range(min(clients, CHANNELS))
    ]
    metadata = (("authorization", f"Bearer {job['key']}"),) if job["key"] else ()
    asks = [_CALLS[job["call"]](channel, metadata, job) for channel in channels]
    warm = max(WARM_UP, clients) if job["call"] != "batch" else 1
    await asyncio.gather(*(asks[i % len(asks)](i) for i in range(warm)))
    waits, seconds = await _press(asks, clients, job)
    for channel in channels:
        await channel.close()
    waits.sort()
    return {
        "sent": float(len(waits) + warm),
        "per_second": len(waits) / seconds,
        "p50_ms": 1e3 * waits[len(waits) // 2],
        "p95_ms": 1e3 * waits[int(len(waits) * 0.95)],
        "p99_ms": 1e3 * waits[int(len(waits) * 0.99)],
        "stood_in": float(job.get("stood_in", 0)),
    }


async def _press(
    asks: Sequence[Ask], clients: int, job: dict[str, Any]
) -> tuple[list[float], float]:
    """Latencies in seconds, and how long the load lasted."""
    waits: list[float] = []
    began = time.perf_counter()
    until = began + float(job["seconds"])
    left = int(job["requests"])

    async def call_on(client: int) -> None:
        nonlocal left
        number, ask = client, asks[client % len(asks)]
        while left > 0:
            left -= 1
            start = time.perf_counter()
            if start >= until and waits:
                return
            await ask(number)
            waits.append(time.perf_counter() - start)
            number += clients

    await asyncio.gather(*(call_on(client) for client in range(clients)))
    return waits, time.perf_counter() - began


def _forecast(channel: Any, metadata: Any, job: dict[str, Any]) -> Ask:
    stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)  # type: ignore[no-untyped-call]
    series = [forecast_request(i) for i in range(DISTINCT)]
    if "model" not in job:
        return lambda n: stub.Forecast(series[n % DISTINCT], metadata=metadata, timeout=TIMEOUT)

    async def ask(number: int) -> None:
        request = series[number % DISTINCT]
        _look(await stub.Forecast(request, metadata=metadata, timeout=TIMEOUT), job)

    return ask


def _look(answer: pb.ForecastResponse, job: dict[str, Any]) -> None:
    """Counts an answer that is not from the model that the job names."""
    if "model" in job and answer.meta.model_name != job["model"]:
        job["stood_in"] = job.get("stood_in", 0) + 1


def _batch(channel: Any, metadata: Any, job: dict[str, Any]) -> Ask:
    stub: Any = forecast_pb2_grpc.ForecastServiceStub(channel)  # type: ignore[no-untyped-call]
    request = pb.BatchForecastRequest(items=[forecast_request(i) for i in range(job["batch"])])

    async def ask(_number: int) -> None:
        answer = await stub.BatchForecast(request, metadata=metadata, timeout=TIMEOUT)
        failed = [result for result in answer.results if result.HasField("error")]
        if failed or len(answer.results) != job["batch"]:
            raise RuntimeError(f"{len(failed)} of {job['batch']} series failed: {failed[:1]}")
        for result in answer.results if "model" in job else ():
            _look(result.forecast, job)

    return ask


def _list_scores(channel: Any, metadata: Any, _job: dict[str, Any]) -> Ask:
    stub: Any = scoreboard_pb2_grpc.ScoreboardServiceStub(channel)  # type: ignore[no-untyped-call]
    request = scoreboard_pb2.ListScoresRequest(page_size=50)
    return lambda _n: stub.ListScores(request, metadata=metadata, timeout=TIMEOUT)


def _get_market(channel: Any, metadata: Any, job: dict[str, Any]) -> Ask:
    stub: Any = market_pb2_grpc.MarketServiceStub(channel)  # type: ignore[no-untyped-call]

    def ask(number: int) -> Awaitable[Any]:
        market = f"benchmark:{number * 7919 % job['markets']:07d}"
        request = market_pb2.GetMarketRequest(market_id=market)
        return stub.GetMarket(request, metadata=metadata, timeout=TIMEOUT)  # type: ignore[no-any-return]

    return ask


_CALLS: dict[str, Callable[[Any, Any, dict[str, Any]], Ask]] = {
    "forecast": _forecast,
    "batch": _batch,
    "list_scores": _list_scores,
    "get_market": _get_market,
}

if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
