"""Laws of sessions: whatever happens, in whatever order."""

from __future__ import annotations

import random

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.streaming.actions import Action, Disconnect, Send
from market_data.streaming.dialect import Dialect, Policy, shards
from market_data.streaming.session import Session, State
from market_data.venues.binance.stream import CombinedStreams
from market_data.venues.polymarket.stream import MarketChannel

NAMES = [f"n{number}" for number in range(6)]
POLICY = Policy(
    ping_every=4.0, pong_within=3.0, ack_within=6.0, answer_within=5.0, stale_after=7.0,
    dead_after=15.0, instrument_stale_after=11.0, resync_every=9.0, gap_ms=1000, life=60.0,
)  # fmt: skip
FRAMES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=40),
    st.sampled_from(
        [b"PONG", "PONG", b"[]", b"{}", b'{"result":null,"id":1}', b'{"error":{"code":1},"id":2}',
         b'{"stream":"n1","data":{}}', b'{"error":"x"}', b'{"result":null,"id":"1"}']
    ),
)  # fmt: skip
EVENTS = st.lists(
    st.tuples(
        st.floats(0.0, 6.0),
        st.one_of(
            st.tuples(st.just("opened")),
            st.tuples(st.just("closed")),
            st.tuples(st.just("tick")),
            st.tuples(st.just("give_up")),
            st.tuples(st.just("received"), FRAMES),
            st.tuples(st.just("held"), st.floats(-1.0, 5.0)),
            st.tuples(st.just("noted"), st.sampled_from(NAMES), st.integers(-10, 10**14)),
            st.tuples(st.just("confirmed"), st.sampled_from(NAMES)),
            st.tuples(st.just("contradicted")),
            st.tuples(st.just("want"), st.lists(st.sampled_from(NAMES), max_size=6)),
        ),
    ),
    max_size=60,
)
DIALECTS = st.sampled_from([MarketChannel(), CombinedStreams()])


def feed(made: Session, event: tuple, now: float) -> None:
    name, *arguments = event
    match name:
        case "opened":
            made.opened(now)
        case "closed":
            assert made.closed(now, "closed") > 0
        case "tick":
            made.tick(now)
            assert made.next_tick(now) > now
        case "give_up":
            made.give_up("ENOUGH")
        case "confirmed":
            made.confirmed(arguments[0], now)
        case "contradicted":
            made.contradicted()
        case "held":
            made.held(arguments[0])
        case "received":
            made.received(arguments[0], now)
        case "noted":
            made.noted(*arguments, now)
        case _:
            made.want(arguments[0], now)


def subscribed_by(actions: tuple[Action, ...]) -> list[str]:
    """The instruments that a peer has subscribed after reading the messages."""
    names: dict[str, None] = {}
    for action in actions:
        if not isinstance(action, Send) or action.text == "PING":
            continue
        message = orjson.loads(action.text)
        asked = message.get("assets_ids") or message.get("params")
        how = str(message.get("operation") or message.get("method") or message.get("type")).lower()
        for name in asked:
            names.pop(name, None) if how == "unsubscribe" else names.setdefault(name)
    return sorted(names)


@settings(max_examples=300)
@given(dialect=DIALECTS, events=EVENTS)
def test_any_order_of_events_keeps_the_peer_at_what_is_wanted(
    dialect: Dialect, events: list[tuple[float, tuple]]
) -> None:
    made = Session(dialect, POLICY, rng=random.Random(1))
    now, told, is_over = 0.0, (), True
    for wait, event in events:
        now += wait
        feed(made, event, now)
        actions = made.take()
        if event[0] == "opened" and is_over:
            told = ()
        if made.state is State.IDLE:
            assert not any(isinstance(action, Send | Disconnect) for action in actions)
        told += actions
        is_over = made.state is State.IDLE
        assert made.fresh <= set(made.subscribed)
        if made.state in (State.OPEN, State.LIVE):
            assert subscribed_by(told) == sorted(made.wanted) == sorted(made.subscribed)


@settings(max_examples=150)
@given(events=EVENTS)
def test_heartbeats_keep_their_distance_and_a_lost_one_is_noticed(
    events: list[tuple[float, tuple]],
) -> None:
    made = Session(MarketChannel(), POLICY, rng=random.Random(1))
    now, last = 0.0, -100.0
    for wait, event in events:
        now += wait
        if event[0] == "opened" and made.state is State.IDLE:
            last = now
        feed(made, event, now)
        pings = sum(action == Send("PING") for action in made.take())
        assert pings <= 1
        if pings:
            assert now - last >= POLICY.ping_every
            last = now


@given(dialect=DIALECTS, seed=st.integers(0, 1000))
def test_a_loop_that_ticks_when_told_never_spins(dialect: Dialect, seed: int) -> None:
    rng = random.Random(seed)
    made = Session(dialect, POLICY, rng=rng)
    made.want(NAMES, 0.0)
    made.opened(0.0)
    now, ticks = 0.0, 0
    while now < 40.0 and made.state is not State.CLOSING:
        now = min(made.next_tick(now), now + 40.0)
        made.tick(now)
        made.take()
        if rng.random() < 0.7:
            made.received(b"PONG", now)
            made.received(b'{"stream":"n1","data":{}}', now)
        ticks += 1
    assert ticks < 200


@settings(max_examples=500)
@given(frame=st.binary(max_size=200))
def test_no_frame_is_too_strange_to_read(frame: bytes) -> None:
    for dialect in (MarketChannel(), CombinedStreams()):
        dialect.read(frame)


@given(names=st.lists(st.sampled_from(NAMES)), size=st.integers(1, 4))
def test_shards_hold_each_instrument_once_and_are_full_but_the_last(
    names: list[str], size: int
) -> None:
    parts = shards(names, size)

    assert [name for part in parts for name in part] == list(dict.fromkeys(names))
    assert all(len(part) == size for part in parts[:-1])
    assert all(0 < len(part) <= size for part in parts)


def test_refuses_shards_without_room() -> None:
    with pytest.raises(ValueError, match="size must be at least 1"):
        shards(["a"], 0)
