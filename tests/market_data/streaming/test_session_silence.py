"""What a session makes of silence: a quiet market, or a frozen feed."""

from __future__ import annotations

import random

from market_data.streaming.actions import Disconnect, Fresh, Resync, Stale
from market_data.streaming.dialect import Policy
from market_data.streaming.session import Session, State
from market_data.venues.polymarket.stream import MarketChannel

PATIENT = Policy(resync_every=0.0, pong_within=1e9)


def reasons(made: Session, kind: type) -> list[str]:
    return [action.reason for action in made.take() if isinstance(action, kind)]


def silent(*, known: str = "ab") -> Session:
    """A connection that has fallen silent at 30 s."""
    made = Session(MarketChannel(), PATIENT, rng=random.Random(1))
    made.want(known, 0.0)
    made.opened(0.0)
    made.received(b"[]", 0.0)
    for name in known:
        made.noted(name, 0, 0.0, is_snapshot=True)
    made.tick(30.0)
    assert Resync(tuple(known), "CONNECTION_SILENT") in made.take()
    return made


def test_a_book_over_rest_makes_nothing_fresh_while_the_connection_is_silent() -> None:
    made = silent()
    made.noted("a", 5, 30.1, is_snapshot=True)
    assert made.fresh == frozenset()
    made.take()

    made.received(b"[]", 31.0)
    made.noted("b", 6, 31.0)
    assert made.take() == (Resync(("a", "b"), "GAP"), Fresh(("b",)))
    made.noted("a", 7, 31.1, is_snapshot=True)
    assert made.take() == (Fresh(("a",)),)


def test_a_silence_that_rest_confirms_is_quiet_and_keeps_the_connection_for_ten_minutes() -> None:
    made = silent()
    now, asked = 30.0, 0
    while now < 599.0:
        for name in "ab":
            made.noted(name, 5, now, is_snapshot=True)
            made.confirmed(name, now)
        assert made.fresh == {"a", "b"}
        now += 1.0
        made.tick(now)
        actions = made.take()
        asked += Resync(("a", "b"), "CONNECTION_SILENT") in actions
        assert not [one for one in actions if isinstance(one, Stale | Disconnect)]
    assert asked == 18
    made.tick(600.0)
    assert reasons(made, Disconnect) == ["SILENT"]


def test_a_silence_that_rest_confirms_no_more_is_stale_again() -> None:
    made = silent()
    made.confirmed("a", 30.5)
    made.take()
    made.tick(60.0)
    assert reasons(made, Stale) == []
    made.tick(90.0)
    assert made.state is State.OPEN or made.state is State.LIVE
    assert reasons(made, Stale) == ["CONNECTION_SILENT"]
    made.tick(90.5)
    assert reasons(made, Disconnect) == ["SILENT"]


def test_a_feed_that_rest_contradicts_is_frozen_whatever_else_it_confirms() -> None:
    made = silent()
    made.confirmed("a", 30.1)
    made.contradicted()
    made.confirmed("b", 30.2)
    assert made.fresh == frozenset()
    assert made.take()[-1] == Stale(("a",), "CONNECTION_SILENT")
    made.tick(60.0)
    assert reasons(made, Disconnect) == ["SILENT"]


def test_connections_that_bring_snapshots_alone_are_replaced_less_and_less_often() -> None:
    made = Session(MarketChannel(), PATIENT, rng=random.Random(1))
    made.want(["a"], 0.0)
    now, lengths = 0.0, []
    for _ in range(6):
        made.opened(now)
        made.received(b"[]", now)
        made.noted("a", 0, now, is_snapshot=True)
        began = now
        while made.state is not State.CLOSING:
            now = made.next_tick(now)
            made.tick(now)
        lengths.append(round(now - began))
        made.closed(now, "SILENT")
    assert lengths == [60, 120, 240, 480, 600, 600]
    made.opened(now)
    made.noted("a", 5, now)
    assert made._silence.dead_at() == now + 60.0
