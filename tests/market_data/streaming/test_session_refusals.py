"""What a session makes of streams that are refused, or never say anything."""

from __future__ import annotations

import random

from market_data.streaming.actions import Fail
from market_data.streaming.session import Session
from market_data.venues.binance.settings import POLICY
from market_data.venues.binance.stream import CombinedStreams, kline, mark_price

ACK = b'{"result":null,"id":1}'


def asked(*names: str) -> Session:
    """A connection that has asked for these streams."""
    made = Session(CombinedStreams(), POLICY, rng=random.Random(1))
    made.want(names, 0.0)
    made.opened(0.0)
    made.take()
    return made


def test_a_connection_on_which_nothing_speaks_serves_nothing() -> None:
    names = (mark_price("BTCUSDT"), kline("BTCUSDT"))
    made = asked(*names)
    made.received(ACK, 0.1)
    for second in range(1, 21):
        made.tick(float(second))

    (failure,) = [action for action in made.take() if isinstance(action, Fail)]
    assert failure.instruments == names
    assert failure.is_all


def test_a_refusal_of_some_streams_leaves_the_others() -> None:
    names = [f"s{number}usdt@markPrice@1s" for number in range(300)]
    made = asked(*names)
    made.received(b'{"error":{"code":2,"msg":"Invalid request"},"id":2}', 0.5)

    (failure,) = [action for action in made.take() if isinstance(action, Fail)]
    assert failure.instruments == tuple(names[200:])
    assert not failure.is_all
    made.received(b'{"code":2,"msg":"Invalid request"}', 0.6)
    (failure,) = [action for action in made.take() if isinstance(action, Fail)]
    assert failure.instruments == tuple(names[:200])
    assert failure.is_all
