"""Which bus an address names, and what is said of an address that names none."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest

from market_data.bus.in_process import InProcessBus
from market_data.bus.kafka import KafkaBus
from market_data.bus.opening import BusPlan, open_bus
from market_data.bus.pubsub import PubSubBus
from market_data.bus.redis_streams import RedisBus
from market_data.errors import BusError
from tests.market_data.bus.conftest import drain, enveloped, trade


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("memory:", InProcessBus),
        ("redis://127.0.0.1:6379/2?prefix=mine", RedisBus),
        ("rediss://:word@127.0.0.1:6379", RedisBus),
        ("kafka://127.0.0.1:9092/events", KafkaBus),
        ("pubsub://project/events?emulator=127.0.0.1:8085", PubSubBus),
    ],
)
async def test_an_address_names_its_bus_and_nothing_is_connected_yet(url: str, kind: type) -> None:
    bus = open_bus(BusPlan(url), time.monotonic)
    assert type(bus) is kind
    await bus.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("", "no bus is called ''"),
        ("amqp://host/queue", "no bus is called 'amqp'"),
        ("redis:", "lacks its host"),
        ("redis://host:port/0", "cannot be read"),
        ("redis://host:99999/0", "cannot be read"),
        ("redis://host/zero", "no number of a Redis database"),
        ("redis://:secret-word@host/0?color=red", "has no option 'color'"),
        ("redis://:secret-word@host/0?color", "options cannot be read"),
        ("kafka://host/topic", "lacks its port"),
        ("kafka://host:9092", "lacks its topic"),
        ("kafka://host:9092/a/b", "lacks its topic"),
        ("pubsub://project", "lacks its topic"),
        ("pubsub:///topic", "lacks its host or project"),
    ],
)
def test_an_address_that_names_none_is_told_with_its_setting(url: str, told: str) -> None:
    with pytest.raises(BusError, match=r"^stream\.bus_url: ") as caught:
        open_bus(BusPlan(url), time.monotonic)
    assert told in str(caught.value)
    assert "secret-word" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "url", "extra"),
    [
        ("redis", "redis://127.0.0.1", "stream"),
        ("aiokafka", "kafka://127.0.0.1:9092/events", "kafka"),
        ("google.pubsub_v1", "pubsub://project/events", "pubsub"),
    ],
)
def test_the_default_needs_no_client_and_others_say_what_to_install(
    package: str, url: str, extra: str
) -> None:
    script = (
        "import sys, time\n"
        f"sys.modules[{package!r}] = None\n"
        "from market_data.bus.opening import BusPlan, open_bus\n"
        "open_bus(BusPlan('memory:'), time.monotonic)\n"
        "there = {name for name, module in sys.modules.items() if module}\n"
        "assert not {'redis', 'aiokafka', 'google.pubsub_v1'} & there\n"
        "try:\n"
        f"    open_bus(BusPlan({url!r}), time.monotonic)\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, error)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert ran.stdout.startswith("BusError stream.bus_url: ")
    assert f"marketcal-platform[{extra}]" in ran.stdout


async def test_a_bus_of_an_address_carries_what_the_live_path_publishes(empty_redis: str) -> None:
    bus = open_bus(BusPlan(f"{empty_redis}?prefix=mine"), time.monotonic)
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(trade("m1", 1)))
    (taken,) = await drain(consumer, 1)
    assert taken.envelope.body == trade("m1", 1)
    await consumer.close()
    await bus.close()
