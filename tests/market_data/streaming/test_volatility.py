"""When a market counts as moving."""

from __future__ import annotations

import math
import random
from collections import deque

import pytest

from market_data.streaming.bars import MINUTE_MS
from market_data.streaming.events import Feed, Mark, Quote, Trade
from market_data.streaming.market_stream import MarketStream, StreamRules
from market_data.streaming.volatility import (
    Trigger,
    TriggerKind,
    Verdict,
    VolatilityRules,
    Window,
)

START = 1_790_000_100_000 // 300_000 * 300_000
RULES = VolatilityRules(min_samples=1)


def quote(ms: int, mid: float, *, spread: float = 0.01, size: float = 100.0) -> Quote:
    at = START + ms
    return Quote("m", at, f"k{mid}", at, mid - spread / 2, mid + spread / 2, size, size)


def triggers(stream: MarketStream) -> list[Trigger]:
    return [one for one in stream.take_signals() if isinstance(one, Trigger)]


def stream(rules: VolatilityRules = RULES) -> MarketStream:
    return MarketStream(StreamRules(), rules)


def verdict(of: MarketStream) -> str:
    look = of.markets["m"].diagnostics
    assert look is not None
    return look.verdict


def test_the_range_of_a_window_is_that_of_its_mids() -> None:
    rng, window, seen = random.Random(4), Window(1_000), deque[tuple[int, float]]()
    ms = 0
    for _ in range(3_000):
        ms += rng.randrange(60)
        seen.append((ms, rng.randrange(100) / 100))
        while seen[0][0] <= ms - 1_000:
            seen.popleft()
        mids = [mid for _, mid in seen]
        assert window.push(*seen[-1]) == max(mids) - min(mids)


def test_a_spike_that_returns_within_the_window_fires() -> None:
    one = stream(VolatilityRules(min_samples=1, cooldown_ms=0))
    one.apply([quote(0, 0.50), quote(1_000, 0.60), quote(2_000, 0.50)])
    fired = triggers(one)
    assert [trigger.kind for trigger in fired] == [TriggerKind.MOVE, TriggerKind.MOVE]
    assert fired[1].diagnostics.delta_pp == pytest.approx(-0.1)  # back from the high
    assert fired[1].diagnostics.range_pp == pytest.approx(0.1)


def test_a_move_needs_both_probability_and_log_odds() -> None:
    small = stream()
    small.apply([quote(0, 0.50), quote(1_000, 0.52)])
    assert not triggers(small)
    flat = stream(VolatilityRules(min_samples=1, min_move_logit=1.0))
    flat.apply([quote(0, 0.50), quote(1_000, 0.60)])
    assert not triggers(flat)
    assert verdict(flat) == Verdict.BELOW_THRESHOLD


@pytest.mark.parametrize(
    ("last", "why"),
    [
        (quote(1_000, 0.6, spread=0.2), Verdict.SPREAD_TOO_WIDE),
        (quote(1_000, 0.6, size=1.0), Verdict.DEPTH_TOO_THIN),
    ],
    ids=["spread", "depth"],
)
def test_an_empty_book_does_not_fire_and_says_why(last: Quote, why: Verdict) -> None:
    one = stream()
    one.apply([quote(0, 0.5), last])
    assert not triggers(one)
    assert verdict(one) == why


def test_too_few_quotes_do_not_fire() -> None:
    one = stream(VolatilityRules(min_samples=5))
    one.apply([quote(0, 0.5), quote(1_000, 0.6)])
    assert verdict(one) == Verdict.TOO_FEW_SAMPLES


def test_triggers_within_the_cooldown_merge_in_event_time() -> None:
    one = stream()
    one.apply([quote(0, 0.5), *(quote(1_000 + i * 100, 0.6 + i / 100) for i in range(5))])
    assert len(triggers(one)) == 1
    assert one.markets["m"].merged == 4
    one.apply([quote(400_000, 0.2), quote(401_000, 0.4)])
    (later,) = [trigger for trigger in triggers(one) if trigger.kind == TriggerKind.MOVE]
    assert later.merged == 5  # the closed minute's range too


def test_a_stale_feed_fires_nothing_and_says_so() -> None:
    one = stream()
    one.apply([quote(0, 0.5), Feed("x:*", START, "f", START, ("m",), "CONNECTION_SILENT")])
    one.apply([quote(1_000, 0.7)])
    assert not triggers(one)
    look = one.markets["m"].diagnostics
    assert look is not None
    assert (look.verdict, look.reason) == (Verdict.SUPPRESSED, "CONNECTION_SILENT")
    one.apply([Feed("x:*", START, "g", START, ("m",), ""), quote(2_000, 0.8)])
    assert len(triggers(one)) == 1


def test_a_late_quote_never_fires() -> None:
    one = stream()
    one.apply([quote(0, 0.5), quote(2_000, 0.5), quote(1_000, 0.9)])
    assert not triggers(one)
    assert one.markets["m"].mid == 0.5


def test_volume_fires_against_the_minutes_before_it_and_not_without_history() -> None:
    def minutes(quiet: int) -> list[Trigger]:
        one = stream()
        sizes = [1_000_000] * quiet + [50_000_000]
        for number, size in enumerate(sizes):
            at = START + number * MINUTE_MS + 1_000
            one.apply([quote(number * MINUTE_MS + 500, 0.5)])
            one.apply([Trade("m", at, f"t{number}", at, 0.5, size, 1)])
        one.advance(START + len(sizes) * MINUTE_MS + 2_000)
        return triggers(one)

    assert [trigger.kind for trigger in minutes(12)] == [TriggerKind.VOLUME]
    assert not minutes(5)


def test_a_futures_contract_moves_by_its_relative_range() -> None:
    one = stream()

    def mark(ms: int, price: float) -> Mark:
        at = START + ms
        return Mark("binance:ETHUSDT@mark", at, f"m{ms}", at, price, math.nan, math.nan)

    one.apply([mark(0, 3_000.0), mark(1_000, 3_010.0)])
    assert not triggers(one)
    one.apply([mark(2_000, 3_040.0)])
    (fired,) = triggers(one)
    assert fired.diagnostics.range_pp == pytest.approx(3_040 / 3_000 - 1)
