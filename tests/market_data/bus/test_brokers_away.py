"""What Kafka's and Pub/Sub's buses do while nobody answers them, and after that."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from google.auth import exceptions as auth

from market_data.bus.kafka import KafkaBus
from market_data.bus.pubsub import PubSubBus, answering
from market_data.bus.pubsub_consumer import PubSubConsumer
from market_data.errors import BusError, BusUnavailable
from market_data.streaming.events import Codec
from tests.market_data.bus.conftest import DEADLINE, drain, enveloped, free_port, trade
from tests.market_data.bus.fake_kafka import FakeKafka
from tests.market_data.bus.fake_pubsub import FakePubSub


def to_kafka(port: int, **options: Any) -> KafkaBus:
    """A bus to a broker on loopback."""
    return KafkaBus(f"127.0.0.1:{port}", "events", codec=Codec(), clock=time.monotonic, **options)


async def test_a_kafka_that_is_away_is_said_to_be_away() -> None:
    bus = to_kafka(free_port())
    for call in (bus.publish(enveloped(trade("m1", 1))), bus.subscribe("live", "worker")):
        with pytest.raises(BusUnavailable, match="Kafka does not answer"):
            await call
    with pytest.raises(BusError, match="has a consumer"):
        await bus.lag("live")
    await bus.close()


async def test_a_kafka_that_comes_back_loses_nothing_that_was_published() -> None:
    broker = FakeKafka()
    await broker.start()
    bus = to_kafka(broker.port, answer_seconds=0.5)
    await bus.publish(enveloped(*(trade("m1", n) for n in range(5))))
    await broker.stop()
    with pytest.raises(BusUnavailable):
        await bus.publish(enveloped(trade("m1", 5)))
    await broker.start()
    async with asyncio.timeout(DEADLINE):
        while True:
            with suppress(BusUnavailable):
                await bus.publish(enveloped(*(trade("m1", n) for n in range(5, 8))))
                break
    consumer = await bus.subscribe("live", "worker")
    taken = await drain(consumer, 8)
    assert [one.envelope.body.ms for one in taken] == list(range(8))
    await bus.close()
    await broker.stop()


async def test_a_consumer_of_kafka_that_lost_its_partitions_says_so_and_commits_nothing() -> None:
    broker = FakeKafka()
    await broker.start()
    bus = to_kafka(broker.port)
    first = await bus.subscribe("live", "one")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(4))))
    taken = await drain(first, 4)
    first.revoked(set(first._client.assignment()))
    with pytest.raises(BusUnavailable, match="given out anew"):
        await first.acknowledge(taken)
    with pytest.raises(BusUnavailable, match="given out anew"):
        await first.take(1, 0)
    assert broker.committed == {}
    await first.close()
    second = await bus.subscribe("live", "two")
    assert [one.envelope.body.ms for one in await drain(second, 4)] == [0, 1, 2, 3]
    await bus.close()
    await broker.stop()


async def test_kafka_tells_for_how_long_the_oldest_has_waited() -> None:
    now = [100.0]
    broker = FakeKafka()
    await broker.start()
    bus = KafkaBus(
        f"127.0.0.1:{broker.port}", "events", codec=Codec(), clock=lambda: now[0]
    )  # fmt: skip
    consumer = await bus.subscribe("live", "worker")
    assert (await bus.lag("live")).oldest_seconds == 0.0
    await bus.publish(enveloped(trade("m1", 1)))
    await bus.lag("live")
    now[0] += 7.0
    await bus.publish(enveloped(trade("m1", 2)))
    assert (await bus.lag("live")).oldest_seconds == 7.0
    await drain(consumer, 1, limit=1)
    now[0] += 1.0
    lag = await bus.lag("live")
    assert (lag.waiting, lag.oldest_seconds) == (1, 1.0)
    await drain(consumer, 1)
    assert (await bus.lag("live")).oldest_seconds == 0.0
    await bus.close()
    await broker.stop()


async def test_a_pubsub_that_is_away_is_said_to_be_away_and_is_used_again_later() -> None:
    fake = FakePubSub()
    await fake.start()
    fake.is_away = True
    bus = PubSubBus(
        "project", "events", codec=Codec(), clock=time.monotonic, groups=["live"],
        emulator=f"127.0.0.1:{fake.port}",
    )  # fmt: skip
    with pytest.raises(BusUnavailable, match="Pub/Sub does not answer"):
        await bus.publish(enveloped(trade("m1", 1)))
    fake.is_away = False
    await bus.publish(enveloped(trade("m1", 1)))
    consumer = await bus.subscribe("live", "worker")
    (taken,) = await drain(consumer, 1)
    fake.is_away = True
    with pytest.raises(BusUnavailable):
        await consumer.acknowledge([taken])
    fake.is_away = False
    await consumer.acknowledge([taken])
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged) == (0, 0)
    await bus.close()
    await fake.stop()


async def test_what_pubsub_delivers_twice_while_it_is_in_hand_is_in_hand_once() -> None:
    fake = FakePubSub()
    await fake.start()
    bus = PubSubBus(
        "project", "events", codec=Codec(), clock=time.monotonic, groups=["live"],
        emulator=f"127.0.0.1:{fake.port}",
    )  # fmt: skip
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(trade("m1", 1), trade("m1", 2)))
    taken = await drain(consumer, 2)
    fake.expire()
    assert await consumer.take(10, 0.5) == []
    await consumer.acknowledge(taken)
    fake.expire()
    assert await consumer.take(10, 0.05) == []
    await bus.close()
    await fake.stop()


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (None, [("id", b"1"), ("symbol", b"s"), ("kind", b"trade"), ("coalesce", b"")]),
        (b"x", [("id", b"1"), ("symbol", None), ("kind", b"trade"), ("coalesce", b"")]),
        (None, []),
    ],
    ids=["no body", "no symbol", "nothing"],
)
async def test_a_record_of_kafka_with_nothing_in_it_is_a_dead_letter(
    body: bytes | None, headers: list[tuple[str, bytes | None]]
) -> None:
    broker = FakeKafka()
    await broker.start()
    bus = to_kafka(broker.port)
    consumer = await bus.subscribe("live", "worker")
    producer = await bus._started()
    await producer.send_and_wait("events", body, key=b"polymarket:m1", headers=headers)
    await bus.publish(enveloped(trade("m1", 1)))
    (taken,) = await drain(consumer, 1)
    assert taken.envelope.body.ms == 1
    (letter,) = await bus.dead_letters()
    assert letter.reason.startswith("UNREADABLE")
    assert letter.symbol == "polymarket:m1"
    await bus.close()
    await broker.stop()


async def test_a_pubsub_that_will_not_extend_deadlines_is_heard_at_the_next_call() -> None:
    fake = FakePubSub()
    await fake.start()
    bus = PubSubBus(
        "project", "events", codec=Codec(), clock=time.monotonic, groups=["live"],
        emulator=f"127.0.0.1:{fake.port}",
    )  # fmt: skip
    _, subscriber = await bus._ready()
    consumer = PubSubConsumer(
        subscriber, bus._subscription("live"), codec=Codec(), clock=time.monotonic, attempts=3,
        bury=lambda letter: bus._bury("live", letter), answering=answering, extend_seconds=0.01,
    )  # fmt: skip
    await bus.publish(enveloped(trade("m1", 1)))
    (taken,) = await drain(consumer, 1)
    fake.refuses_to_extend = True

    async def take_on() -> None:
        while True:
            await consumer.take(1, 0.01)

    with pytest.raises(BusError, match="not yours"):
        await asyncio.wait_for(take_on(), DEADLINE)
    with pytest.raises(BusError, match="not yours"):
        await consumer.acknowledge([taken])
    await consumer.close()
    await bus.close()
    await fake.stop()


@pytest.mark.parametrize(
    ("error", "may_pass"),
    [
        (auth.TransportError("the metadata server is away"), True),
        (auth.RefreshError("again", retryable=True), True),
        (auth.RefreshError("revoked"), False),
        (auth.DefaultCredentialsError("none found"), False),
    ],
)
def test_credentials_that_cannot_be_had_are_an_error_of_the_bus(
    error: auth.GoogleAuthError, may_pass: bool
) -> None:
    with pytest.raises(BusError, match="credentials") as caught, answering():
        raise error
    assert isinstance(caught.value, BusUnavailable) == may_pass
