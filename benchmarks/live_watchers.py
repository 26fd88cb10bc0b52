"""Watchers of alerts: ``python -m benchmarks.live_watchers ADDRESS SECONDS KEY…``.

Each key has 64 watchers at most; the last watcher of all opens its stream and never reads. When the
time is over one JSON object is printed: for each alert its market time, and when it arrived at each
watcher, in milliseconds of the wall clock.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict

from marketcal import AsyncClient
from marketcal.errors import MarketcalError

PER_KEY = 50


async def watch(client: AsyncClient, received: dict[str, list[float]], at: dict[str, int]) -> None:
    """Notes when each alert comes."""
    async for message in client.watch_alerts(min_severity="ALERT_SEVERITY_FYI"):
        now = time.time() * 1e3
        if message.WhichOneof("event") == "alert":
            received[message.alert.alert_id].append(now)
            at[message.alert.alert_id] = message.alert.time.ToMilliseconds()


async def sleep_through(client: AsyncClient) -> None:
    """Opens a stream and reads one message of it."""
    async for _ in client.watch_alerts(min_severity="ALERT_SEVERITY_FYI"):
        await asyncio.sleep(3_600)


async def main(address: str, seconds: float, keys: list[str]) -> None:
    """Watches for so long."""
    received: dict[str, list[float]] = defaultdict(list)
    at: dict[str, int] = {}
    clients = [AsyncClient(address, key=key) for key in keys]
    tasks = [
        asyncio.create_task(watch(client, received, at))
        for client in clients
        for _ in range(PER_KEY)
    ]
    tasks[-1].cancel()
    tasks[-1] = asyncio.create_task(sleep_through(clients[-1]))
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await client.close()
    failed = [str(one) for one in ended if isinstance(one, MarketcalError)]
    print(json.dumps({"received": received, "at": at, "failed": failed}))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), sys.argv[3:]))
