"""What every bus promises, asked of each of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict

import pytest

from market_data.bus.port import Delivery
from market_data.streaming.events import Quote, Trade
from tests.market_data.bus.conftest import DEADLINE, Adapter, drain, enveloped, quote, trade

SYMBOLS = [f"m{number}" for number in range(7)]


def by_symbol(deliveries: list[Delivery]) -> dict[str, list[int]]:
    """The times of the events of each symbol, in the order of their delivery."""
    found = defaultdict(list)
    for one in deliveries:
        found[one.envelope.symbol.partition(":")[2]].append(one.envelope.body.ms)
    return dict(found)


def needs(adapter: Adapter, what: str) -> None:
    """Skips what this bus cannot show."""
    if not getattr(adapter, what):
        pytest.skip(f"{adapter.name} has no part in this: {what}")


async def test_what_is_published_is_taken_once_and_in_the_order_of_its_symbol(
    adapter: Adapter,
) -> None:
    bus = adapter.open()
    consumer = await bus.subscribe("live", "worker")
    sent = enveloped(*(trade(SYMBOLS[n % 7], n) for n in range(700)))
    for start in range(0, 700, 130):
        await bus.publish(sent[start : start + 130])
    taken = await drain(consumer, 700, limit=90)
    assert Counter(one.envelope.event_id for one in taken) == Counter(one.event_id for one in sent)
    assert by_symbol(taken) == {
        symbol: list(range(place, 700, 7)) for place, symbol in enumerate(SYMBOLS)
    }
    assert await consumer.take(10, 0.05) == []
    await consumer.close()


async def test_one_consumer_of_a_backlog_gets_it_in_the_order_of_all_symbols(
    adapter: Adapter,
) -> None:
    needs(adapter, "orders_all")
    bus = adapter.open()
    first = await bus.subscribe("live", "worker")
    rng = random.Random(5)
    symbols = [SYMBOLS[min(rng.randrange(7), rng.randrange(7))] for _ in range(900)]
    for start in range(0, 900, 300):
        part = enumerate(symbols[start : start + 300], start)
        await bus.publish(enveloped(*(trade(symbol, n) for n, symbol in part)))
    taken = await drain(first, 400, limit=37)
    assert [one.envelope.body.ms for one in taken] == list(range(400))
    await first.acknowledge(taken[:100])
    await first.close()
    second = await bus.subscribe("live", "worker")
    again = await drain(second, 800, limit=211)
    assert [one.envelope.body.ms for one in again] == list(range(100, 900))
    await second.close()


async def test_an_envelope_is_the_same_after_its_way(adapter: Adapter) -> None:
    bus = adapter.open()
    consumer = await bus.subscribe("live", "worker")
    sent = enveloped(quote("ü\u2028:1", 1), trade("m1", 2), quote("m1", 3, float("nan")))
    await bus.publish(sent)
    taken = {one.envelope.event_id: one for one in await drain(consumer, 3)}
    for one in sent:
        got = taken[one.event_id]
        assert (got.envelope.symbol, got.envelope.kind, got.envelope.coalesce) == (
            one.symbol, one.kind, one.coalesce,
        )  # fmt: skip
        assert repr(got.envelope.body) == repr(one.body)
        assert got.attempt == 1
    await consumer.close()


async def test_what_a_dead_consumer_held_comes_again_in_its_order(adapter: Adapter) -> None:
    bus = adapter.open()
    first = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade(SYMBOLS[n % 3], n) for n in range(60))))
    taken = await drain(first, 40)
    done = [one for one in taken if one.envelope.symbol.endswith("m1")]
    done = done[:4] if adapter.acknowledges_singly else []
    await first.acknowledge(done)
    await adapter.die(first)
    second = await adapter.open().subscribe("live", "worker")
    again = await drain(second, 60 - len(done))
    expected = {symbol: list(range(place, 60, 3)) for place, symbol in enumerate(SYMBOLS[:3])}
    expected["m1"] = expected["m1"][len(done) :]
    assert by_symbol(again) == expected
    if adapter.counts_deaths:
        before = {one.envelope.event_id for one in taken}
        for one in again:
            assert one.attempt == (2 if one.envelope.event_id in before else 1)
    await second.acknowledge(again)
    assert await second.take(10, 0.05) == []
    await second.close()


async def test_what_was_acknowledged_never_comes_again(adapter: Adapter) -> None:
    bus = adapter.open()
    first = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade(SYMBOLS[n % 5], n) for n in range(50))))
    taken = await drain(first, 50)
    await first.acknowledge(taken)
    await first.acknowledge(taken)
    await first.close()
    second = await adapter.open().subscribe("live", "other")
    assert await second.take(10, 0.1) == []
    await bus.publish(enveloped(trade("m0", 1_000)))
    assert by_symbol(await drain(second, 1)) == {"m0": [1_000]}
    await second.close()


async def test_closing_gives_back_what_was_taken(adapter: Adapter) -> None:
    bus = adapter.open()
    first = await bus.subscribe("live", "one")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(10))))
    await drain(first, 6)
    await first.close()
    second = await adapter.open().subscribe("live", "two")
    assert by_symbol(await drain(second, 10)) == {"m1": list(range(10))}
    await second.close()


async def test_what_is_refused_holds_back_its_symbol_and_no_other(adapter: Adapter) -> None:
    bus = adapter.open()
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade(SYMBOLS[n % 2], n) for n in range(12))))
    taken = await drain(consumer, 12)
    third = next(one for one in taken if one.envelope.body.ms == 4)
    await consumer.refuse(third, "not now")
    await consumer.refuse(
        next(one for one in taken if one.envelope.body.ms == 8), "given back already"
    )
    again = await drain(consumer, 4)
    assert by_symbol(again) == {"m0": [4, 6, 8, 10]}
    assert [one.attempt for one in again] == [2, 1, 1, 1]
    assert await consumer.take(10, 0.05) == []
    await consumer.acknowledge([*taken, *again])
    assert (await bus.lag("live")).unacknowledged == 0
    await consumer.close()


async def test_what_is_refused_too_often_goes_aside_and_the_stream_goes_on(
    adapter: Adapter,
) -> None:
    bus = adapter.open(attempts=3)
    consumer = await bus.subscribe("live", "worker")
    sent = enveloped(trade("m1", 1), trade("m1", 2))
    await bus.publish(sent)
    for attempt in (1, 2, 3):
        (bad,) = await drain(consumer, 1, limit=1)
        assert (bad.envelope.body.ms, bad.attempt) == (1, attempt)
        await consumer.refuse(bad, f"reason {attempt}")
    (good,) = await drain(consumer, 1)
    assert good.envelope.body.ms == 2
    await consumer.acknowledge([good])
    (letter,) = await bus.dead_letters()
    assert (letter.event_id, letter.symbol) == (sent[0].event_id, "polymarket:m1")
    assert (letter.kind, letter.reason, letter.attempts) == ("trade", "reason 3", 3)
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged, lag.dead) == (0, 0, 1)
    await consumer.close()


async def test_what_is_put_aside_is_a_letter_at_once_and_never_comes_again(
    adapter: Adapter,
) -> None:
    bus = adapter.open()
    first = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(trade("m1", 1), trade("m1", 2), trade("m2", 3)))
    taken = await drain(first, 3)
    await first.put_aside(next(one for one in taken if one.envelope.body.ms == 1), "no use")
    await first.put_aside(next(one for one in taken if one.envelope.body.ms == 3), "neither")
    assert [one.reason for one in await bus.dead_letters()] == ["neither", "no use"]
    assert [one.reason for one in await bus.dead_letters(1)] == ["neither"]
    await first.close()
    second = await adapter.open().subscribe("live", "worker")
    assert by_symbol(await drain(second, 1)) == {"m1": [2]}
    if adapter.acknowledges_singly:
        assert await second.take(10, 0.05) == []
    await second.close()


async def test_bytes_that_are_no_event_go_aside_and_the_stream_goes_on(adapter: Adapter) -> None:
    needs(adapter, "knows_poison")
    bus = adapter.open()
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(trade("m1", 1)))
    await adapter.poison("m1")
    await bus.publish(enveloped(trade("m1", 2)))
    taken = await drain(consumer, 2)
    assert by_symbol(taken) == {"m1": [1, 2]}
    await consumer.acknowledge(taken)
    (letter,) = await bus.dead_letters()
    assert letter.reason.startswith("UNREADABLE")
    assert letter.body == b"\x00no event"
    await consumer.close()


async def test_a_full_bus_makes_its_publisher_wait_until_there_is_room(adapter: Adapter) -> None:
    needs(adapter, "is_bounded")
    bus = adapter.open(bound=10)
    consumer = await bus.subscribe("live", "worker")
    publishing = asyncio.create_task(bus.publish(enveloped(*(trade("m1", n) for n in range(25)))))
    done, _ = await asyncio.wait([publishing], timeout=0.15)
    assert not done
    lag = await bus.lag("live")
    assert lag.waiting == 10
    taken = []
    while len(taken) < 25:
        some = await drain(consumer, 5, limit=5)
        await consumer.acknowledge(some)
        taken += some
    await asyncio.wait_for(publishing, DEADLINE)
    assert by_symbol(taken) == {"m1": list(range(25))}
    await consumer.close()


async def test_under_pressure_quotes_merge_with_their_span_and_trades_never(
    adapter: Adapter,
) -> None:
    needs(adapter, "is_bounded")
    bus = adapter.open(bound=10)
    consumer = await bus.subscribe("live", "worker")
    await bus.publish(enveloped(*(trade("m1", n) for n in range(10))))
    bids = [0.40, 0.52, 0.31, 0.44]
    async with asyncio.timeout(DEADLINE):
        pressed = [quote("m1", 100 + n, bid) for n, bid in enumerate(bids)]
        publishing = asyncio.create_task(bus.publish(enveloped(*pressed, trade("m1", 200))))
        taken: list[Delivery] = []
        while sum(isinstance(one.envelope.body, Trade) for one in taken) < 11:
            some = await consumer.take(3, 0.2)
            await consumer.acknowledge(some)
            taken += some
        await publishing
    while some := await consumer.take(10, 0.05):
        taken += some
    trades = [one.envelope.body.ms for one in taken if isinstance(one.envelope.body, Trade)]
    assert trades == [*range(10), 200]
    quotes = [one.envelope.body for one in taken if isinstance(one.envelope.body, Quote)]
    assert sum(one.span.count if one.span else 1 for one in quotes) == len(bids)
    assert quotes[-1].ms == 103
    highs = [one.span.high if one.span else one.bid + 0.01 for one in quotes]
    lows = [one.span.low if one.span else one.bid + 0.01 for one in quotes]
    assert (max(highs), min(lows)) == (pytest.approx(0.53), pytest.approx(0.32))
    await consumer.close()


async def test_lag_counts_what_waits_and_what_is_in_hand(adapter: Adapter) -> None:
    needs(adapter, "counts_waiting")
    bus = adapter.open()
    consumer = await bus.subscribe("live", "worker")
    assert (await bus.lag("live")).waiting == 0
    await bus.publish(enveloped(*(trade(SYMBOLS[n % 4], n) for n in range(20))))
    taken = await drain(consumer, 8, limit=8)
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged) == (12, 8)
    assert 0.0 <= lag.oldest_seconds < DEADLINE
    await consumer.acknowledge(taken[2:5])
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged) == (12, 5)
    rest = await drain(consumer, 12)
    await consumer.acknowledge([*rest, *taken])
    lag = await bus.lag("live")
    assert (lag.waiting, lag.unacknowledged, lag.oldest_seconds) == (0, 0, 0.0)
    await consumer.close()


async def test_two_groups_each_get_everything(adapter: Adapter) -> None:
    needs(adapter, "has_groups")
    bus = adapter.open(groups=("live", "audit"))
    live = await bus.subscribe("live", "worker")
    audit = await bus.subscribe("audit", "worker")
    await bus.publish(enveloped(*(trade(SYMBOLS[n % 3], n) for n in range(30))))
    ours = await drain(live, 30)
    await live.acknowledge(ours)
    theirs = await drain(audit, 30)
    assert by_symbol(ours) == by_symbol(theirs)
    assert (await bus.lag("audit")).unacknowledged == 30
    await live.close()
    await audit.close()
