"""What only Redis can show: leases of streams, an end of the server under load, lost groups."""

from __future__ import annotations

import asyncio
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from market_data.bus.redis_streams import RedisBus
from market_data.errors import BusTakenOver, BusUnavailable
from market_data.streaming.events import Codec, merged
from tests.market_data.bus.conftest import DEADLINE, drain, enveloped, free_port, quote, trade


def opened(url: str, **options: Any) -> RedisBus:
    """A bus with a prefix that the tests of this file share."""
    given = {"partitions": 4, "bound": 4_000, "lease_seconds": 0.3} | options
    return RedisBus(url, "only", codec=Codec(), merge=merged, **given)


async def published(bus: RedisBus, numbers: range) -> None:
    """Publishes trades, and again where Redis is away, as the publisher of the live path does."""
    async with asyncio.timeout(DEADLINE):
        while True:
            try:
                return await bus.publish(enveloped(*(trade(f"m{n % 5}", n) for n in numbers)))
            except BusUnavailable:
                await asyncio.sleep(0.01)


async def test_a_stream_has_one_consumer_and_another_follows_when_it_is_silent(
    empty_redis: str,
) -> None:
    bus = opened(empty_redis)
    first = await bus.subscribe("live", "one")
    with pytest.raises(BusUnavailable, match="hold every stream"):
        await bus.subscribe("live", "two")
    first._upkeep.cancel()
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(BusUnavailable):
                second = await bus.subscribe("live", "two")
                break
            await asyncio.sleep(0.01)
    await bus.publish(enveloped(trade("m1", 1)))
    with pytest.raises(BusUnavailable, match="lease"):
        await first.take(1, 0)
    while len(second.buckets) < 4:
        await second.take(0, 0.01)
    (taken,) = await drain(second, 1)
    assert taken.attempt == 1
    await second.close()
    await bus.close()


async def test_a_living_consumer_keeps_its_streams_beyond_the_length_of_a_lease(
    empty_redis: str,
) -> None:
    bus = opened(empty_redis, lease_seconds=0.15)
    first = await bus.subscribe("live", "one")
    loop = asyncio.get_running_loop()
    end = loop.time() + 0.5
    while loop.time() < end:
        with pytest.raises(BusUnavailable):
            await bus.subscribe("live", "two")
        assert await first.take(1, 0.02) == []
    await first.close()
    await bus.close()


async def test_what_a_displaced_consumer_still_does_changes_nothing(empty_redis: str) -> None:
    bus = opened(empty_redis)
    first = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(4))))
    taken = await drain(first, 4)
    second = await bus.subscribe("live", "worker")
    for late in (
        first.acknowledge(taken), first.refuse(taken[0], "late"), first.put_aside(taken[0], "late"),
        first.take(1, 0),
    ):  # fmt: skip
        with pytest.raises(BusTakenOver, match="worker"):
            await late
    again = await drain(second, 4)
    assert [one.envelope.body.ms for one in again] == [0, 1, 2, 3]
    await first.close()
    assert await second.take(1, 0.01) == []
    await second.acknowledge(again)
    assert await bus.dead_letters() == []
    await second.close()
    await bus.close()


async def test_an_acknowledged_entry_takes_no_room_in_redis(empty_redis: str) -> None:
    bus = opened(empty_redis)
    consumer = await bus.subscribe("live", "worker")
    await published(bus, range(200))
    taken = await drain(consumer, 200)
    with Redis.from_url(empty_redis) as client:
        sizes = [client.xlen(key) for key in client.keys("only:events:*")]
        assert sum(sizes) == 200
        await consumer.acknowledge(taken[1:])
        await consumer.acknowledge(taken[:1])
        assert [client.xlen(key) for key in client.keys("only:events:*")] == [0] * len(sizes)
    await consumer.close()
    await bus.close()


async def test_an_attempt_outlives_the_consumer_that_refused(empty_redis: str) -> None:
    bus = opened(empty_redis)
    first = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(trade("m1", 1)))
    (taken,) = await drain(first, 1)
    await first.refuse(taken, "once")
    second = await bus.subscribe("live", "worker")
    (taken,) = await drain(second, 1)
    assert taken.attempt == 3
    await second.close()
    await bus.close()


async def test_a_group_that_someone_removed_is_made_again(empty_redis: str) -> None:
    bus = opened(empty_redis)
    consumer = await bus.subscribe("live", "worker")
    with Redis.from_url(empty_redis) as client:
        for key in client.keys("only:events:*"):
            client.delete(key)
    await published(bus, range(20))
    assert len(await drain(consumer, 20)) == 20
    await consumer.close()
    await bus.close()


async def test_quotes_that_wait_in_a_publisher_leave_it_when_there_is_room(
    empty_redis: str,
) -> None:
    bus = opened(empty_redis, partitions=1, bound=10)
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(10))))
    await bus.publish(enveloped(quote("m1", 100, 0.3)))
    await bus.publish(enveloped(quote("m1", 101, 0.6), quote("m1", 102, 0.5)))
    lag = await bus.lag("live")
    assert (lag.waiting, lag.coalesced) == (10, 2)
    await consumer.acknowledge(await drain(consumer, 10))
    (merged_one,) = await drain(consumer, 1)
    assert merged_one.envelope.body.span.count == 3
    assert merged_one.envelope.body.span.high == pytest.approx(0.61)
    await consumer.close()
    await bus.close()


async def test_a_redis_that_is_away_is_said_to_be_away_and_without_its_password() -> None:
    bus = opened(f"redis://:secret-word@127.0.0.1:{free_port()}/0")
    for call in (
        bus.publish(enveloped(trade("m1", 1))), bus.subscribe("live", "worker"), bus.lag("live"),
        bus.dead_letters(),
    ):  # fmt: skip
        with pytest.raises(BusUnavailable, match="Redis does not answer") as caught:
            await call
        assert "secret-word" not in str(caught.value)
    await bus.close()


class Bench:
    """A publisher and a worker that go on through every end of Redis.

    Attributes:
        accepted: numbers that `publish` returned for.
        effects: numbers that were worked on, by symbol, in order, with repetitions.
        acknowledged: identities whose acknowledgement came back.
        again: those of them that came again.
    """

    def __init__(self, url: str) -> None:
        self.publisher = opened(url, bound=400)
        self.worker = opened(url)
        self.accepted: list[int] = []
        self.effects: dict[str, list[int]] = defaultdict(list)
        self.acknowledged: set[str] = set()
        self.again: list[str] = []
        self.stop = False
        self.is_done = False

    async def publish(self) -> None:
        number = 0
        while not self.stop:
            part = range(number, number + 20)
            await published(self.publisher, part)
            self.accepted += part
            number += 20

    async def work(self) -> None:
        while not self.is_done:
            with suppress(BusUnavailable):
                await self._work_once()
            await asyncio.sleep(0.01)

    async def _work_once(self) -> None:
        consumer = await self.worker.subscribe("live", "worker")
        try:
            while not self.is_done:
                taken = await consumer.take(37, 0.05)
                for one in taken:
                    self.effects[one.envelope.symbol].append(one.envelope.body.ms)
                    if one.attempt > 1 and one.envelope.event_id in self.acknowledged:
                        self.again.append(one.envelope.event_id)
                await consumer.acknowledge(taken)
                self.acknowledged.update(one.envelope.event_id for one in taken)
        finally:
            await consumer.close()

    async def caught_up(self) -> None:
        """Waits until nothing waits and nothing is in hand."""
        async with asyncio.timeout(DEADLINE):
            while True:
                lag = await self.worker.lag("live")
                if (lag.waiting, lag.unacknowledged) == (0, 0):
                    return
                await asyncio.sleep(0.01)


def is_in_order(numbers: list[int]) -> bool:
    """Whether each number that is new is above all before it: repetitions go back, never ahead."""
    seen: set[int] = set()
    firsts = [n for n in numbers if not (n in seen or seen.add(n))]
    return firsts == sorted(firsts)


async def test_a_redis_that_is_killed_under_load_loses_nothing(
    start_redis: Callable[..., Any], tmp_path: Path, until: Callable[..., None]
) -> None:
    port = free_port()
    options = ("--appendonly", "yes", "--appendfsync", "always")
    process = await asyncio.to_thread(start_redis, tmp_path, port, *options)
    bench = Bench(f"redis://127.0.0.1:{port}/0")
    publishing = asyncio.create_task(bench.publish())
    working = asyncio.create_task(bench.work())
    for kill in range(1, 4):
        await asyncio.to_thread(until, lambda so_many=300 * kill: len(bench.accepted) >= so_many)
        process.send_signal(signal.SIGKILL)
        await asyncio.to_thread(process.wait)
        process = await asyncio.to_thread(start_redis, tmp_path, port, *options)
    bench.stop = True
    await asyncio.wait_for(publishing, DEADLINE)
    await bench.caught_up()
    bench.is_done = True
    await asyncio.wait_for(working, DEADLINE)
    done = {number for numbers in bench.effects.values() for number in numbers}
    assert done == set(bench.accepted)
    assert bench.again == []
    for symbol, numbers in bench.effects.items():
        assert is_in_order(numbers), symbol
    await bench.publisher.close()
    await bench.worker.close()


async def test_of_two_consumers_none_works_while_the_other_holds(empty_redis: str) -> None:
    """Two consumers of different names, one of which is silenced again and again."""
    buses = [opened(empty_redis, lease_seconds=0.1) for _ in range(2)]
    publisher = opened(empty_redis)
    done: dict[str, list[int]] = defaultdict(list)
    turns: list[str] = []

    async def work(bus: RedisBus, name: str) -> None:
        consumer = await bus.subscribe("live", f"{name} {len(turns)}")
        turns.append(name)
        try:
            for _ in range(5):
                taken = await consumer.take(20, 0.01)
                for one in taken:
                    done[one.envelope.symbol].append(one.envelope.body.ms)
                await consumer.acknowledge(taken)
        finally:
            consumer._upkeep.cancel()  # and silent: what it holds, it holds to the end

    async def go_on(bus: RedisBus, name: str) -> None:
        while sum(len(set(one)) for one in done.values()) < 600:
            with suppress(BusUnavailable):
                await work(bus, name)
                await asyncio.sleep(0.2)
            await asyncio.sleep(0.005)

    await published(publisher, range(600))
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(go_on(buses[0], "one"), go_on(buses[1], "two"))
    for place in range(5):
        numbers = done[f"polymarket:m{place}"]
        assert set(numbers) == set(range(place, 600, 5))
        assert is_in_order(numbers)
    assert set(turns) == {"one", "two"}
    for bus in (*buses, publisher):
        await bus.close()
