"""What a session asks for when things happen to its connection."""

from __future__ import annotations

import random

import orjson
import pytest

from market_data.errors import StreamLimit
from market_data.streaming.actions import Disconnect, Fail, Fresh, Resync, Send, Stale
from market_data.streaming.backoff import Backoff, BackoffPolicy
from market_data.streaming.dialect import Dialect, Policy
from market_data.streaming.session import Session, State
from market_data.venues.binance.settings import POLICY as BINANCE
from market_data.venues.binance.settings import BinanceSettings
from market_data.venues.binance.stream import CombinedStreams, kline, mark_price
from market_data.venues.polymarket.stream import POLICY as POLYMARKET
from market_data.venues.polymarket.stream import MarketChannel

QUIET = Policy(resync_every=0.0)
ACK = b'{"result":null,"id":1}'


def session(
    *instruments: str, policy: Policy = QUIET, dialect: Dialect | None = None, at: float = 0.0
) -> Session:
    made = Session(dialect or MarketChannel(), policy, rng=random.Random(1))
    made.want(instruments, at)
    made.opened(at)
    return made


def sent(made: Session) -> list[dict[str, object]]:
    return [orjson.loads(a.text) for a in made.take() if isinstance(a, Send)]


def reasons(made: Session, kind: type) -> list[str]:
    return [action.reason for action in made.take() if isinstance(action, kind)]


def test_subscribes_once_with_the_full_form_and_later_with_operations() -> None:
    made = session("a", "b")

    first = sent(made)
    made.want(["b", "c"], 1.0)
    later = sent(made)

    assert first == [
        {
            "type": "market", "assets_ids": ["a", "b"], "initial_dump": True, "level": 2,
            "custom_feature_enabled": True,
        }
    ]  # fmt: skip
    assert later == [
        {"operation": "unsubscribe", "assets_ids": ["a"], "custom_feature_enabled": True},
        {"operation": "subscribe", "assets_ids": ["c"], "custom_feature_enabled": True},
    ]


def test_wishes_of_a_closed_connection_wait_for_the_next_one() -> None:
    made = Session(MarketChannel(), QUIET, rng=random.Random(1))
    made.want(["a"], 0.0)
    assert made.take() == ()

    made.opened(1.0)
    assert [message["assets_ids"] for message in sent(made)] == [["a"]]
    made.closed(2.0, "reset")
    made.want(["b"], 2.5)
    assert sent(made) == []
    made.opened(3.0)

    assert [(m["type"], m["assets_ids"]) for m in sent(made)] == [("market", ["b"])]


def test_a_message_that_was_not_sent_in_time_does_not_reach_the_next_connection() -> None:
    made = session("a")
    made.closed(0.1, "reset before anything was sent")

    assert made.take() == ()


def test_refuses_more_instruments_than_a_connection_may_carry() -> None:
    made = session("a", policy=Policy(max_instruments=2))

    with pytest.raises(StreamLimit, match="instruments: 3 for one connection, at most 2"):
        made.want(["a", "b", "c"], 1.0)
    assert made.wanted == ("a",)


def test_pings_every_ten_seconds_and_gives_up_without_a_pong() -> None:
    made = session("a", policy=Policy(stale_after=0, dead_after=0, answer_within=0))
    made.take()

    assert made.next_tick(0.0) == 10.0
    made.tick(9.9)
    assert made.take() == ()
    made.tick(10.0)
    assert made.take() == (Send("PING"),)
    assert made.received("PONG", 10.2) is None
    made.tick(20.0)
    assert made.take() == (Send("PING"),)
    made.tick(27.9)
    assert made.take() == ()
    made.tick(28.0)
    assert made.take() == (Disconnect("NO_PONG"),)
    assert made.state is State.CLOSING


def test_a_frozen_feed_with_healthy_pongs_is_stale_and_then_given_up() -> None:
    made = session("a", "b")
    made.received(b"[]", 1.0)
    made.noted("a", 0, 1.0, is_snapshot=True)
    made.take()

    for second in range(2, 31):
        made.received(b"PONG", float(second))
        made.tick(float(second))
    assert "a" in made.fresh
    made.tick(31.0)
    actions = made.take()
    assert Stale(("a",), "CONNECTION_SILENT") in actions
    assert Resync(("a", "b"), "CONNECTION_SILENT") in actions
    made.received(b"PONG", 60.0)
    made.tick(60.9)
    assert reasons(made, Disconnect) == []
    made.tick(61.0)
    assert reasons(made, Disconnect) == ["SILENT"]


def test_silence_while_the_caller_does_not_read_is_not_the_venues() -> None:
    made = session("a")
    made.received(b"{}", 0.0)
    made.noted("a", 0, 0.0, is_snapshot=True)
    made.tick(10.0)
    made.take()

    made.held(100.0)
    made.tick(110.0)

    assert [a for a in made.take() if not isinstance(a, Send)] == []
    made.tick(118.0)
    assert reasons(made, Disconnect) == ["NO_PONG"]


def test_an_asset_is_fresh_from_its_snapshot_on() -> None:
    made = session("a")
    made.take()

    made.noted("a", 1000, 1.0)
    assert (made.take(), made.fresh) == ((), frozenset())
    made.noted("a", 900, 1.5, is_snapshot=True)
    assert made.take() == (Fresh(("a",)),)
    made.noted("stranger", 1000, 2.0, is_snapshot=True)
    assert made.fresh == {"a"}


def test_an_asset_without_a_snapshot_is_read_over_rest() -> None:
    made = session("a", "b")
    made.received(b"{}", 1.0)
    made.noted("b", 0, 1.0, is_snapshot=True)
    made.take()

    made.tick(15.0)

    assert Resync(("a",), "NO_SNAPSHOT") in made.take()
    made.tick(16.0)
    assert reasons(made, Resync) == []


def test_an_asset_that_nothing_is_said_of_is_stale_while_others_are_not() -> None:
    made = session("a", "b", policy=Policy(instrument_stale_after=100.0, resync_every=0.0))
    for name in ("a", "b"):
        made.noted(name, 0, 0.0, is_snapshot=True)
    for second in range(0, 100, 5):
        made.received(b"{}", float(second))
        made.received(b"PONG", float(second))
        made.noted("b", 0, float(second))
        made.tick(float(second))
    made.take()

    made.received(b"{}", 100.0)
    made.tick(100.0)

    actions = made.take()
    assert Stale(("a",), "INSTRUMENT_SILENT") in actions
    assert Resync(("a",), "INSTRUMENT_SILENT") in actions
    made.noted("a", 0, 101.0)
    assert made.take() == (Fresh(("a",)),)


def test_a_disconnection_is_a_gap_for_what_was_known_before() -> None:
    made = session("a", "b")
    made.noted("a", 0, 1.0, is_snapshot=True)
    made.take()

    made.closed(2.0, "reset")
    assert made.take() == (Stale(("a",), "DISCONNECTED"),)
    made.opened(3.0)

    actions = made.take()
    assert Resync(("a",), "GAP") in actions
    assert made.fresh == frozenset()


def test_a_jump_of_the_venues_clock_is_a_gap_and_an_old_snapshot_is_not() -> None:
    made = session("a", "b")
    made.noted("a", 1_000_000, 0.0, is_snapshot=True)
    made.noted("a", 9_000_000, 0.1)
    made.noted("b", 5_000_000, 0.2, is_snapshot=True)
    made.noted("a", 9_060_000, 0.3)
    assert reasons(made, Resync) == []

    made.noted("b", 9_120_001, 0.4)

    assert reasons(made, Resync) == ["GAP"]


def test_everything_is_read_over_rest_at_an_interval() -> None:
    made = session("a", policy=Policy(resync_every=5.0, answer_within=0.0))
    made.take()

    made.tick(5.0)
    assert made.take() == (Resync(("a",), "INTERVAL"),)
    made.tick(9.9)
    assert made.take() == ()


def test_the_wait_grows_until_a_connection_was_useful() -> None:
    policy = BackoffPolicy(first_seconds=1.0, cap_seconds=8.0)
    made = Session(MarketChannel(), Policy(backoff=policy), rng=random.Random(3))

    waits = []
    for _ in range(6):
        made.opened(0.0)
        waits.append(made.closed(0.0, "at once"))
    made.opened(0.0)
    made.received(b"PONG", 0.0)
    after_pong = made.closed(0.0, "a heartbeat is not useful")
    made.opened(0.0)
    made.received(b"{}", 0.0)
    after_data = made.closed(0.0, "useful")

    for wait, longest in zip(waits, [1, 2, 4, 8, 8, 8], strict=True):
        assert longest / 2 <= wait <= longest
    assert after_pong >= 4.0
    assert 0.5 <= after_data <= 1.0


def test_a_connection_that_the_caller_gave_up_was_not_useful() -> None:
    made = session("a", policy=Policy(backoff=BackoffPolicy(1.0, 64.0)))
    waits = []
    for _ in range(5):
        made.received(b"{}", 0.0)
        made.give_up("FRAME_REJECTED")
        assert "FRAME_REJECTED" in reasons(made, Disconnect)
        waits.append(made.closed(0.0, "FRAME_REJECTED"))
        made.opened(0.0)

    assert waits == sorted(waits)
    assert waits[-1] >= 8.0


def test_waits_are_spread_by_the_generator_that_is_given() -> None:
    draws = {Backoff(BackoffPolicy(), random.Random(seed)).draw() for seed in range(50)}

    assert len(draws) == 50
    assert min(draws) >= 0.25
    assert max(draws) <= 0.5


def test_streams_are_asked_for_in_messages_with_ids_that_are_acknowledged() -> None:
    names = [f"s{number}usdt@markPrice@1s" for number in range(450)]
    made = session(*names, policy=BINANCE, dialect=CombinedStreams())

    messages = sent(made)

    assert [m["id"] for m in messages] == [1, 2, 3]
    assert {m["method"] for m in messages} == {"SUBSCRIBE"}
    assert [name for m in messages for name in m["params"]] == names  # type: ignore[attr-defined]
    for number in (1, 2, 3):
        assert made.received(f'{{"result":null,"id":{number}}}', 1.0) is None
    made.received(b'{"stream":"s1usdt@markPrice@1s","data":{}}', 9.0)
    made.tick(10.0)
    assert reasons(made, Disconnect) == []


def test_a_subscription_without_acknowledgement_costs_the_connection() -> None:
    made = session(mark_price("BTCUSDT"), policy=BINANCE, dialect=CombinedStreams())

    made.tick(10.0)

    assert reasons(made, Disconnect) == ["NO_ACK"]


@pytest.mark.parametrize(
    "answer",
    [
        b'{"error":{"code":2,"msg":"Invalid request"},"id":1}',
        b'{"code":2,"msg":"Invalid request","id":1}',
    ],
)
def test_a_refused_stream_is_named(answer: bytes) -> None:
    made = session("nobody@kline_1m", policy=BINANCE, dialect=CombinedStreams())
    made.take()

    assert made.received(answer, 0.5) is None

    (failure,) = made.take()
    assert failure == Fail(
        ("nobody@kline_1m",),
        "REJECTED",
        "the venue refused nobody@kline_1m: Invalid request (code 2)",
        is_all=True,
    )


def test_a_stream_that_stays_silent_after_its_acknowledgement_fails_by_name() -> None:
    made = session(
        mark_price("BTCUSDT"), kline("BTCUSDT"), mark_price("NOSUCH"), kline("NOSUCH"),
        policy=BINANCE, dialect=CombinedStreams(),
    )  # fmt: skip
    made.received(ACK, 0.1)
    for second in range(1, 20):
        made.received(b'{"stream":"btcusdt@markPrice@1s","data":{}}', float(second))
    made.take()

    made.tick(20.0)

    (failure,) = [action for action in made.take() if isinstance(action, Fail)]
    assert failure.instruments == ("nosuch@markPrice@1s",)
    assert (failure.reason, failure.is_all) == ("NO_EVENT", False)
    assert "nosuch@markPrice@1s within 20 s" in failure.detail
    made.received(b'{"stream":"nosuch@markPrice@1s","data":{}}', 21.0)
    assert Fresh(("nosuch@markPrice@1s",)) in made.take()


def test_a_stream_that_spoke_once_does_not_fail_after_a_reconnection() -> None:
    name = mark_price("BTCUSDT")
    made = session(name, policy=Policy(answer_within=5.0), dialect=CombinedStreams())
    made.received(f'{{"stream":"{name}","data":{{}}}}', 1.0)
    made.closed(2.0, "reset")
    made.opened(3.0)
    made.received(b'{"result":null,"id":2}', 3.1)
    made.take()

    made.tick(9.0)

    assert made.take() == (Resync((name,), "NO_SNAPSHOT"),)


def test_a_connection_is_replaced_before_the_venue_ends_it() -> None:
    made = session(mark_price("BTCUSDT"), policy=BINANCE, dialect=CombinedStreams())
    made.received(ACK, 0.1)
    now = 0.0
    while now < 86_400 and made.state is not State.CLOSING:
        now += 5.0
        made.received(b'{"stream":"btcusdt@markPrice@1s","data":{}}', now)
        made.tick(now)

    assert now == 86_400 - 1800
    assert reasons(made, Disconnect) == ["LIFE"]


def test_candles_and_marks_stand_on_the_base_of_their_category() -> None:
    assert BinanceSettings().combined_url.endswith("/market/stream")
    assert (POLYMARKET.ping_every, POLYMARKET.max_instruments) == (10.0, 500)


@pytest.mark.parametrize(
    "frame", [b"", b"{", b"[]", b"3", b'{"id":1}', b'{"result":', b'{"e":"x","result":null}' * 99]
)
def test_what_is_no_answer_is_data(frame: bytes) -> None:
    made = session("x", policy=BINANCE, dialect=CombinedStreams())

    assert made.received(frame, 1.0) == frame
