"""The same events give the same bars and alerts, whatever happens on the way."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
import sqlalchemy as sa

from market_data.streaming.bars import MINUTE_MS
from market_data.streaming.events import MICRO, Quote, Trade
from tests.flows.live.conftest import Day, Machine, disturbed


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, day: Day) -> Machine:
    """The day without any trouble."""
    machine = Machine(tmp_path_factory.mktemp("calm"))
    machine.know(day.markets)

    async def replay() -> None:
        await machine.publish(day.events)
        await machine.work()

    asyncio.run(replay())
    return machine


def test_the_day_has_bars_and_alerts_of_its_planted_jumps(calm: Machine, day: Day) -> None:
    found = {alert.market_id for alert in calm.alerts()}
    planted = {f"polymarket:{one.condition}" for one in day.truth.episodes}
    assert len(planted) == 4
    assert planted <= found
    assert len(calm.bars()) > 1_000


async def test_a_second_replay_is_the_same(calm: Machine, machine: Machine, day: Day) -> None:
    await machine.publish(day.events)
    await machine.work()
    assert machine.bars() == calm.bars()
    assert machine.alerts() == calm.alerts()
    assert str(machine.triggers()) == str(calm.triggers())  # NaN equals no NaN


async def test_duplicates_and_another_order_change_nothing(
    calm: Machine, machine: Machine, day: Day
) -> None:
    shaken = disturbed(day.events, seed=5)
    assert [one.ms for one in shaken] != sorted(one.ms for one in shaken)
    await machine.publish(shaken)
    worker = await machine.work()
    assert worker.stream.counts["DUPLICATE_TRADE"] > 100
    assert worker.stream.recent.duplicates > 1_000
    assert machine.bars() == calm.bars()
    assert machine.alerts() == calm.alerts()


async def test_a_loop_that_dies_again_and_again_changes_nothing(
    calm: Machine, machine: Machine, day: Day
) -> None:
    shaken = disturbed(day.events, seed=6)
    rng = random.Random(1)
    await machine.publish(shaken)
    await machine.work(die_at=[rng.randrange(len(shaken)) for _ in range(25)])
    assert machine.died >= 20
    assert machine.bars() == calm.bars()
    assert machine.alerts() == calm.alerts()


async def test_postgresql_holds_what_sqlite_does(
    calm: Machine, tmp_path: Path, day: Day, postgresql: str
) -> None:
    admin = sa.create_engine(postgresql, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as connection:
        connection.execute(sa.text("CREATE DATABASE live_worker"))
    machine = Machine(tmp_path, url=postgresql.replace("/postgres?", "/live_worker?"))
    machine.know(day.markets)
    await machine.publish(disturbed(day.events, seed=7))
    await machine.work(die_at=[3_000, 9_000])
    assert machine.bars() == calm.bars()
    assert machine.alerts() == calm.alerts()
    machine.engine.dispose()


async def test_an_event_that_cannot_be_folded_goes_aside_and_the_stream_goes_on(
    machine: Machine, day: Day
) -> None:
    poison = Trade("polymarket:x", "soon", "k", 0, 0.4, 1, 1)  # type: ignore[arg-type]
    await machine.publish([*day.events[:500], poison, *day.events[500:1_500]])
    worker = await machine.work()
    (letter,) = await machine.bus.dead_letters()
    assert letter.reason.startswith("TypeError")
    assert letter.attempts == 5
    assert worker.counts["events"] == 1_500


async def test_a_second_pass_over_the_same_events_changes_nothing(
    calm: Machine, machine: Machine, day: Day
) -> None:
    await machine.publish(day.events)
    await machine.work()
    await machine.publish(day.events[-2_000:])  # as after a venue that repeats itself
    await machine.work()
    assert machine.bars() == calm.bars()
    assert machine.alerts() == calm.alerts()


def test_no_trade_is_lost_and_none_counts_twice(calm: Machine, day: Day) -> None:
    true: Counter[tuple[str, int]] = Counter()
    counted: Counter[tuple[str, int]] = Counter()
    for trade in day.truth.trades:
        place = (f"polymarket:{trade.condition}", trade.venue_ms // MINUTE_MS * MINUTE_MS)
        true[place] += 1
    last = max(row[2] for row in calm.bars() if row[1] == MINUTE_MS)
    for market_id, interval, start, *_, trades, _vol in calm.bars():
        if interval == MINUTE_MS and trades and market_id.startswith("polymarket:"):
            counted[market_id, start] += trades
    assert counted == Counter({place: n for place, n in true.items() if place[1] <= last})


def test_events_of_every_kind_were_there(day: Day) -> None:
    kinds = {type(one).__name__ for one in day.events}
    assert kinds >= {"Quote", "Trade", "TickSize", "NewMarket", "Resolved", "Mark", "Kline"}
    assert any(one.bid != one.bid for one in day.events if isinstance(one, Quote))
    assert any(one.size % MICRO for one in day.events if isinstance(one, Trade))
