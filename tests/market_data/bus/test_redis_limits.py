"""What a real Redis refuses for a while: without memory, without replicas, or as a replica."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.exceptions import ResponseError

from market_data.bus.redis_link import answering
from market_data.bus.redis_streams import RedisBus
from market_data.errors import BusError, BusUnavailable
from market_data.streaming.events import Codec, merged
from tests.market_data.bus.conftest import drain, enveloped, free_port, trade


def opened(url: str, **options: Any) -> RedisBus:
    """A bus with a prefix of its own."""
    given = {"partitions": 4, "bound": 4_000} | options
    return RedisBus(url, "limits", codec=Codec(), merge=merged, **given)


@pytest.fixture(scope="module")
def limited(start_redis: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Redis that never evicts, whose limits these tests may change."""
    port = free_port()
    folder = tmp_path_factory.mktemp("limited")
    start_redis(folder, port, "--appendonly", "no", "--maxmemory-policy", "noeviction")
    return f"redis://127.0.0.1:{port}/0"


LIMITS = [
    ({"maxmemory": "1"}, {"maxmemory": "0"}),
    ({"min-replicas-to-write": "1"}, {"min-replicas-to-write": "0"}),
]


@pytest.mark.parametrize(("limit", "lifted"), LIMITS, ids=["no memory", "no replica"])
async def test_a_redis_that_must_not_write_is_away_until_it_may(
    limited: str, limit: dict[str, str], lifted: dict[str, str]
) -> None:
    bus = opened(limited)
    consumer = await bus.subscribe("live", "worker")
    with Redis.from_url(limited) as client:
        for name, value in limit.items():
            client.config_set(name, value)
        try:
            with pytest.raises(BusUnavailable):
                await bus.publish(enveloped(trade("m1", 1)))
            with pytest.raises(BusUnavailable):
                await bus.subscribe("live", "worker")
        finally:
            for name, value in lifted.items():
                client.config_set(name, value)
    await bus.publish(enveloped(trade("m1", 1)))
    (taken,) = await drain(consumer, 1)
    await consumer.acknowledge([taken])
    await consumer.close()
    await bus.close()


async def test_a_redis_that_became_a_replica_is_away(
    start_redis: Callable[..., Any], tmp_path: Path
) -> None:
    port = free_port()
    start_redis(tmp_path, port, "--appendonly", "no")
    url = f"redis://127.0.0.1:{port}/0"
    bus = opened(url)
    await bus.publish(enveloped(trade("m1", 1)))
    with Redis.from_url(url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", str(free_port()))
        with pytest.raises(BusUnavailable):
            await bus.publish(enveloped(trade("m1", 2)))
        client.execute_command("REPLICAOF", "NO", "ONE")
    await bus.publish(enveloped(trade("m1", 2)))
    await bus.close()


async def test_a_refusal_that_does_not_pass_is_none_that_is_tried_again() -> None:
    for text in ("BUSYGROUP Consumer Group name already exists", "wrong number of arguments"):
        with pytest.raises(BusError) as caught, answering():
            raise ResponseError(text)
        assert not isinstance(caught.value, BusUnavailable)
    for text in ("BUSY Redis is busy running a script", "MISCONF Redis is configured to save"):
        with pytest.raises(BusUnavailable), answering():
            raise ResponseError(text)


@pytest.mark.parametrize("how", ["the group", "the stream"])
async def test_what_is_removed_of_one_stream_keeps_nothing_back_on_the_others(
    empty_redis: str, how: str
) -> None:
    bus = opened(empty_redis)
    consumer = await bus.subscribe("live", "worker")
    symbols = [f"m{number}" for number in range(12)]
    await bus.publish(enveloped(*(trade(symbol, 1) for symbol in symbols)))
    victim = bus._keys.streams[3]
    there = {bus._keys.bucket_of(f"polymarket:{symbol}") for symbol in symbols}
    assert there == {0, 1, 2, 3}
    with Redis.from_url(empty_redis) as client:
        lost = client.xlen(victim) if how == "the stream" else 0
        if how == "the stream":
            client.delete(victim)
        else:
            client.xgroup_destroy(victim, "live")
    assert await consumer.take(100, 0.01) == []
    lag = await bus.lag("live")
    assert lag.unacknowledged == 0
    taken = await drain(consumer, 12 - lost)
    assert len({one.envelope.event_id for one in taken}) == 12 - lost
    await consumer.acknowledge(taken)
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged) == (0, 0)
    await consumer.close()
    await bus.close()


async def test_a_worker_goes_on_where_redis_has_no_memory_left(limited: str) -> None:
    bus = opened(limited)
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(20))))
    with Redis.from_url(limited) as client:
        client.config_set("maxmemory", "1")
        try:
            taken = await drain(consumer, 20)
            await consumer.acknowledge(taken)
            assert (await bus.lag("live")).unacknowledged == 0
        finally:
            client.config_set("maxmemory", "0")
    await consumer.close()
    await bus.close()
