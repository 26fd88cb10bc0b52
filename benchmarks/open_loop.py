"""More than a server can do: ``python -m benchmarks.open_loop '{"address": …}'``.

Calls leave at their times whether or not earlier ones were answered, so that a slow server meets
more of them and not fewer. Beside this crowd, which ignores what it is told, one polite caller with
a key of its own keeps to the published retry policy. Prints one JSON object:

- ``sent``: calls that left; ``offered``: of them per second; ``late_ms``: how late they left, p99;
- ``answered_per_second``, from the first call that left to the last one that was answered;
  ``answered_p50_ms``, ``answered_p99_ms``;
- ``refused``: by gRPC code; ``without_hint``: refusals that do not say when to come back;
- ``polite``: calls of the polite caller; ``polite_failed``: those that failed in the end;
  ``polite_p99_ms``: how long the others took. With a ``polite_key`` of "" it is not there.

With ``callers`` above 0 so many callers send one call after the other instead, for ``seconds``:
one of them shows how long a call takes that meets nobody, several show what can be done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import uvloop

from benchmarks.requests import forecast_request
from marketcal import AsyncClient
from marketcal.errors import MarketcalError
from marketcal.v1 import forecast_pb2 as pb

CHANNELS = 8
TIMEOUT = 10.0
POINTS = 40
PAUSE = 0.01
"""Seconds that the polite caller waits between two calls."""
METHOD = "/marketcal.v1.ForecastService/BatchForecast"
HINTS = {"retry-after", "grpc-retry-pushback-ms"}


@dataclass
class Met:
    """What the crowd has met."""

    waits: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    without_hint: int = 0


def main(job: dict[str, Any]) -> None:
    """Puts the load on and prints what it met."""
    print(json.dumps(uvloop.run(_press(job))))


async def _press(job: dict[str, Any]) -> dict[str, Any]:
    request = pb.BatchForecastRequest(items=[_short(i) for i in range(job["batch"])])
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
    channels = [grpc.aio.insecure_channel(job["address"], options=options) for _ in range(CHANNELS)]
    asks = [channel.unary_unary(METHOD) for channel in channels]
    met, ended = Met(), asyncio.Event()
    polite = asyncio.create_task(_keep_to_the_policy(job, request, ended))
    put_on = _one_after_the_other if job.get("callers") else _crowd
    began = time.perf_counter()
    sent, sending = await put_on(asks, request.SerializeToString(), job, met)
    seconds = time.perf_counter() - began
    ended.set()
    asked, failed, waits = await polite
    for channel in channels:
        await channel.close()
    return {
        "sent": sent,
        "offered": sent / sending,
        "late_ms": 1e3 * _quantile(met.late, 0.99),
        "answered_per_second": len(met.waits) / seconds,
        "answered_p50_ms": 1e3 * _quantile(met.waits, 0.5),
        "answered_p99_ms": 1e3 * _quantile(met.waits, 0.99),
        "refused": dict(met.refused),
        "without_hint": met.without_hint,
        "polite": asked,
        "polite_failed": failed,
        "polite_p99_ms": 1e3 * _quantile(waits, 0.99),
    }


def _short(number: int) -> pb.ForecastRequest:
    """A short series: as much work for the model, and little for whoever sends it."""
    request = forecast_request(number)
    del request.values[:-POINTS]
    return request


async def _crowd(
    asks: Sequence[Any], raw: bytes, job: dict[str, Any], met: Met
) -> tuple[int, float]:
    """Sends ``rate`` calls a second for ``seconds``: how many left, and in which time."""
    metadata = (("authorization", f"Bearer {job['key']}"),)
    under_way: set[asyncio.Task[None]] = set()
    began = time.perf_counter()
    total = int(job["rate"] * job["seconds"])
    for number in range(total):
        due = began + number / job["rate"]
        pause = due - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        met.late.append(max(0.0, time.perf_counter() - due))
        task = asyncio.create_task(_ask(asks[number % CHANNELS], raw, metadata, met))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
    sending = time.perf_counter() - began
    await asyncio.gather(*under_way)
    return total, sending


async def _one_after_the_other(
    asks: Sequence[Any], raw: bytes, job: dict[str, Any], met: Met
) -> tuple[int, float]:
    """The same calls by callers who wait for each answer."""
    metadata = (("authorization", f"Bearer {job['key']}"),)
    began = time.perf_counter()

    async def call_on(number: int) -> int:
        sent = 0
        while time.perf_counter() - began < job["seconds"]:
            await _ask(asks[number % CHANNELS], raw, metadata, met)
            sent += 1
        return sent

    for _ in range(8):
        await _ask(asks[0], raw, metadata, Met())  # what is slow at first
    began = time.perf_counter()
    sent = sum(await asyncio.gather(*map(call_on, range(job["callers"]))))
    return sent, time.perf_counter() - began


async def _ask(ask: Any, raw: bytes, metadata: Any, met: Met) -> None:
    began = time.perf_counter()
    try:
        await ask(raw, metadata=metadata, timeout=TIMEOUT)
    except grpc.aio.AioRpcError as error:
        met.refused[error.code().name] += 1
        if not HINTS & {key for key, _ in error.trailing_metadata() or ()}:
            met.without_hint += 1
        return
    met.waits.append(time.perf_counter() - began)


async def _keep_to_the_policy(
    job: dict[str, Any], request: pb.BatchForecastRequest, ended: asyncio.Event
) -> tuple[int, int, list[float]]:
    """Calls one after the other: (calls, failed calls, seconds of the others)."""
    asked = failed = 0
    waits: list[float] = []
    if not job["polite_key"]:
        return asked, failed, waits
    async with AsyncClient(job["address"], key=job["polite_key"]) as client:
        while not ended.is_set():
            asked += 1
            began = time.perf_counter()
            try:
                await client.batch_forecast(request.items)
                waits.append(time.perf_counter() - began)
            except MarketcalError:
                failed += 1
            await asyncio.sleep(PAUSE)
    return asked, failed, waits


def _quantile(values: list[float], level: float) -> float:
    return sorted(values)[int(level * (len(values) - 1))] if values else float("nan")


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
