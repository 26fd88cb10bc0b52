"""One run at a time for each symbol, and one more for all that came meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.control_store import write_ahead
from market_data.streaming.leases import Lease, Leases, Pending, TriggerMode, TriggerRules, Verdict

NOW = 1_780_000_000_000
SYMBOL = "polymarket:1"
EVENT, TIMER, MANUAL = TriggerMode.EVENT, TriggerMode.TIMER, TriggerMode.MANUAL


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty control store of either kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/control.db"
        return
    url = request.getfixturevalue("postgresql")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE IF EXISTS live_lease"))
    yield url
    engine.dispose()


@pytest.fixture
def engines(store: str) -> Iterator[list[sa.Engine]]:
    """Two engines on one store, as two processes have them."""
    made = [write_ahead(sa.create_engine(store)) for _ in range(2)]
    yield made
    for engine in made:
        engine.dispose()


@pytest.fixture
def memory() -> Iterator[sa.Engine]:
    """A store in memory, for laws of one owner."""
    engine = sa.create_engine(
        "sqlite://", poolclass=sa.StaticPool, connect_args={"check_same_thread": False}
    )
    yield engine
    engine.dispose()


def test_of_owners_that_race_exactly_one_gets_the_lease(engines: list[sa.Engine]) -> None:
    leases = [Leases(engine) for engine in engines]
    fences = []
    with ThreadPoolExecutor(8) as pool:
        for turn in range(12):
            start = threading.Barrier(8)

            def race(place: int, turn: int = turn, start: threading.Barrier = start) -> Any:
                start.wait(10)
                at = NOW + turn * 1_000
                return leases[place % 2].acquire(SYMBOL, f"owner {place}", at, 900)

            won = [one for one in pool.map(race, range(8)) if one is not None]
            assert len(won) == 1
            fences.append(won[0].fence)
    assert fences == list(range(1, 13))


def test_triggers_that_race_make_one_run_and_one_pending_run(engines: list[sa.Engine]) -> None:
    leases = [Leases(engine) for engine in engines]
    start = threading.Barrier(8)

    def race(place: int) -> Any:
        start.wait(10)
        return leases[place % 2].ask(
            SYMBOL, EVENT, NOW + place, owner=f"owner {place}", now_ms=NOW + 10
        )

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(race, range(8)))
    (ran,) = [one for one in answers if one.verdict is Verdict.RUNS]
    others = [one for one in answers if one.verdict is Verdict.MERGED_WHILE_RUNNING]
    assert len(others) == 7
    assert ran.lease is not None
    assert ran.pending is not None
    latest = max(NOW + place for place in range(8) if NOW + place != ran.pending.ms)
    assert leases[0].release(ran.lease) == Pending(SYMBOL, 7, latest, EVENT)
    assert leases[1].release(ran.lease) is None


def test_a_holder_that_was_followed_neither_renews_nor_writes_nor_takes_what_waits(
    engines: list[sa.Engine],
) -> None:
    ours, theirs = (Leases(engine) for engine in engines)
    first = ours.acquire(SYMBOL, "one", NOW, 1_000)
    assert first == Lease(SYMBOL, "one", 1, NOW + 1_000)
    assert theirs.acquire(SYMBOL, "two", NOW + 999, 1_000) is None
    assert ours.acquire(SYMBOL, "one", NOW + 999, 1_000) is None
    renewed = ours.renew(first, NOW + 999, 1_000)
    assert renewed == Lease(SYMBOL, "one", 1, NOW + 1_999)
    assert theirs.acquire(SYMBOL, "two", NOW + 1_500, 1_000) is None
    assert ours.renew(first, NOW + 1_999, 1_000) is None
    second = theirs.acquire(SYMBOL, "two", NOW + 1_999, 1_000)
    assert second is not None
    assert second.fence == 2
    theirs.ask(SYMBOL, EVENT, NOW + 2_000, owner="three", now_ms=NOW + 2_000)
    assert ours.release(first) is None
    assert ours.renew(first, NOW + 2_000, 1_000) is None
    with engines[0].begin() as connection:
        assert not ours.is_held(connection, first)
        assert ours.is_held(connection, second)
    assert theirs.release(second) == Pending(SYMBOL, 1, NOW + 2_000, EVENT)


def test_one_symbol_does_not_keep_another_from_running(memory: sa.Engine) -> None:
    leases = Leases(memory)
    assert leases.acquire("polymarket:1", "one", NOW, 1_000) is not None
    assert leases.acquire("polymarket:2", "two", NOW, 1_000) is not None


def test_a_trigger_within_the_cooldown_waits_and_a_manual_one_does_not(memory: sa.Engine) -> None:
    leases = Leases(memory, TriggerRules(cooldown_ms=60_000))

    def ask(mode: TriggerMode, after_ms: int) -> Any:
        at = NOW + after_ms
        return leases.ask(SYMBOL, mode, at, owner="one", now_ms=at + 5)

    first = ask(EVENT, 0)
    assert (first.verdict, first.pending.count) == (Verdict.RUNS, 1)
    assert leases.release(first.lease) is None
    late = ask(EVENT, 59_999)
    assert late.verdict is Verdict.MERGED_IN_COOLDOWN
    assert late.lease is None
    assert "runs again" in late.reason
    assert leases.due(NOW + 59_999, NOW + 59_999) == []
    assert leases.due(NOW + 60_000, NOW + 60_000) == [Pending(SYMBOL, 1, NOW + 59_999, EVENT)]
    by_hand = ask(MANUAL, 59_999)
    assert by_hand.verdict is Verdict.RUNS
    assert by_hand.pending == Pending(SYMBOL, 2, NOW + 59_999, MANUAL)
    assert leases.due(NOW + 60_000, NOW + 600_000) == []
    assert leases.release(by_hand.lease) is None
    assert ask(EVENT, 60_000).verdict is Verdict.MERGED_IN_COOLDOWN
    assert ask(TIMER, 119_999).pending == Pending(SYMBOL, 3 - 1, NOW + 119_999, TIMER)


def test_an_old_trigger_is_dropped_with_its_reason(memory: sa.Engine) -> None:
    leases = Leases(memory, TriggerRules(max_age_ms=1_000))
    old = leases.ask(SYMBOL, EVENT, NOW - 1_001, owner="one", now_ms=NOW)
    assert (old.verdict, old.lease, old.pending) == (Verdict.TOO_OLD, None, None)
    assert "1001 ms old" in old.reason
    assert leases.due(NOW, NOW) == []
    just = leases.ask(SYMBOL, EVENT, NOW - 1_000, owner="one", now_ms=NOW)
    assert just.verdict is Verdict.RUNS


@given(
    st.lists(st.tuples(st.sampled_from(TriggerMode), st.integers(0, 50)), min_size=1, max_size=12)
)
@settings(max_examples=60)
def test_all_triggers_during_a_run_are_one_pending_run_with_their_count_and_latest_time(
    triggers: list[tuple[TriggerMode, int]],
) -> None:
    engine = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    leases = Leases(engine)
    lease = leases.acquire(SYMBOL, "one", NOW, 10_000)
    assert lease is not None
    for mode, after_ms in triggers:
        asked = leases.ask(SYMBOL, mode, NOW + after_ms, owner="two", now_ms=NOW + 60)
        assert asked.verdict is Verdict.MERGED_WHILE_RUNNING
    pending = leases.release(lease)
    latest = max(after_ms for _, after_ms in triggers)
    last = [mode for mode, after_ms in triggers if after_ms == latest][-1]
    assert pending == Pending(SYMBOL, len(triggers), NOW + latest, last)
    assert leases.due(NOW, NOW) == []
    engine.dispose()


@pytest.mark.parametrize(
    ("named", "wrong"),
    [
        ("symbol", {"symbol": ""}),
        ("owner", {"owner": ""}),
        ("ttl_ms", {"ttl_ms": 0}),
    ],
)
def test_refuses_what_is_no_lease(memory: sa.Engine, named: str, wrong: dict[str, Any]) -> None:
    given_ones = {"symbol": SYMBOL, "owner": "one", "now_ms": NOW, "ttl_ms": 5} | wrong
    with pytest.raises(ValueError, match=f"^{named}:"):
        Leases(memory).acquire(**given_ones)


@pytest.mark.parametrize("field", ["cooldown_ms", "max_age_ms", "ttl_ms"])
def test_refuses_rules_that_make_no_sense(field: str) -> None:
    with pytest.raises(ValueError, match=f"^{field}:"):
        TriggerRules(**{field: -1})
