"""The simulated day: its frames tell exactly what its truth holds."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import Any

import orjson
import pytest

from market_data.replay.stream_capture import Record
from market_data.replay.stream_simulate import StreamDay, simulate_day, simulate_records
from market_data.replay.stream_state import ReplayState
from market_data.venues.polymarket.parse import parse_market

DAY = StreamDay(
    seed=3, n_conditions=12, n_new=2, duration_s=3600, updates_per_second=20, resolved_share=0.5,
    n_jumps=3, sigma=0.012,
)  # fmt: skip
RECORDS, TRUTH = simulate_day(DAY)


def messages(channel: str = "polymarket") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for record in RECORDS:
        if record.channel == channel:
            value = orjson.loads(record.frame)
            found += value if isinstance(value, list) else [value]
    return found


MESSAGES = messages()


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [message for message in MESSAGES if message["event_type"] == kind]


def test_the_same_day_is_the_same_and_another_seed_is_another() -> None:
    again, truth = simulate_day(DAY)

    assert (again, truth) == (RECORDS, TRUTH)
    assert list(simulate_records(DAY)) == RECORDS
    assert simulate_day(StreamDay(seed=4, n_conditions=12, duration_s=60))[0] != RECORDS


def test_every_type_of_both_venues_is_there() -> None:
    kinds = Counter(message["event_type"] for message in MESSAGES)
    futures = Counter(message["data"]["e"] for message in messages("binance"))

    assert kinds.keys() == {
        "book", "price_change", "best_bid_ask", "last_trade_price", "tick_size_change",
        "new_market", "market_resolved",
    }  # fmt: skip
    assert futures["markPriceUpdate"] == 3600
    assert futures["continuous_kline"] == 59
    closed = [m["data"]["k"] for m in messages("binance") if m["stream"] == "btcusdt@kline_1m"]
    assert sum(candle["x"] for candle in closed) == 59
    assert all(float(c["l"]) <= min(float(c["o"]), float(c["c"])) <= float(c["h"]) for c in closed)
    continuous = next(m["data"] for m in messages("binance") if "ps" in m["data"])
    assert "s" not in continuous
    assert "s" not in continuous["k"]


def test_records_are_in_order_and_frames_are_short() -> None:
    times = [record.recv_ms for record in RECORDS]

    assert times == sorted(times)
    for record in RECORDS:
        if record.channel == "polymarket" and b'"book"' not in record.frame:
            fills = record.frame.count(b"last_trade_price") or 1
            assert len(record.frame) <= 700 * fills


def test_the_trades_told_are_the_trades_that_happened() -> None:
    told: list[tuple[str, ...]] = []
    for record in RECORDS:
        value = orjson.loads(record.frame)
        seen: Counter[bytes] = Counter()
        for m in value if isinstance(value, list) else [value]:
            if m.get("event_type") == "last_trade_price":
                same = orjson.dumps(m)
                told.append(
                    (m["market"], m["asset_id"], m["timestamp"], m["price"], m["size"], m["side"],
                     str(seen[same]))
                )  # fmt: skip
                seen[same] += 1

    assert told == [tuple(map(str, trade)) for trade in TRUTH.trades]
    assert any(trade.nth == 2 for trade in TRUTH.trades)


def test_the_best_prices_told_are_those_that_held_and_follow_from_the_book() -> None:
    told = [
        (m["asset_id"], int(m["timestamp"]), m["best_bid"], m["best_ask"])
        for m in of_kind("best_bid_ask")
    ]
    assert told == [tuple(best) for best in TRUTH.best]

    state, checked = ReplayState(), 0
    for record in RECORDS:
        state.apply(record)
        if record.channel != "polymarket" or b'"best_bid_ask"' not in record.frame:
            continue
        message = orjson.loads(record.frame)
        book = orjson.loads(state.book(message["asset_id"]) or b"")
        bids, asks = ([float(level["price"]) for level in book[side]] for side in ("bids", "asks"))
        assert max(bids, default=0.0) == float(message["best_bid"])
        assert min(asks, default=1.0) == float(message["best_ask"])
        assert max(bids, default=0.0) < min(asks, default=1.0)
        checked += 1
    assert checked > 2_000


def test_outcomes_mirror_each_other_and_empty_sides_show_sentinels() -> None:
    pairs = {a: b for pair in TRUTH.assets.values() for a, b in (pair, pair[::-1])}
    for change in of_kind("price_change"):
        first, second = change["price_changes"]
        assert pairs[first["asset_id"]] == second["asset_id"]
        assert float(first["price"]) + float(second["price"]) == pytest.approx(1.0)
        assert {first["side"], second["side"]} == {"BUY", "SELL"}
        assert float(first["best_bid"]) + float(second["best_ask"]) == pytest.approx(1.0)
    sentinels = [m for m in of_kind("best_bid_ask") if m["best_bid"] == "0" or m["best_ask"] == "1"]
    assert sentinels


def test_prices_stay_on_the_tick_and_spreads_are_one_to_three_ticks() -> None:
    fine = {m["asset_id"]: int(m["timestamp"]) for m in of_kind("tick_size_change")}
    assert fine
    for m in of_kind("price_change"):
        for change in m["price_changes"]:
            is_fine = int(m["timestamp"]) >= fine.get(change["asset_id"], 1 << 62)
            tick = 1 if is_fine else 10
            milli = float(change["price"]) * 1000
            assert milli == pytest.approx(round(milli / tick) * tick)


def test_a_planted_jump_is_large_and_stays() -> None:
    assert len(TRUTH.episodes) == 3
    assert len({episode.condition for episode in TRUTH.episodes}) == 3
    resolved = {resolution.condition for resolution in TRUTH.resolutions}
    for episode in TRUTH.episodes:
        assert episode.condition not in resolved
        assert abs(episode.mid_after - episode.mid_before) > 0.15
        burst = [
            trade
            for trade in TRUTH.trades
            if trade.condition == episode.condition
            and 0 < trade.venue_ms - episode.venue_ms <= 12 * 400
        ]
        assert len(burst) >= 10
        later = [
            (float(best.bid) + float(best.ask)) / 2
            for best in TRUTH.best
            if best.asset == episode.asset
            and 1000 < best.venue_ms - episode.venue_ms < 60_000
            and (best.bid, best.ask) != ("0", "1")
            and float(best.ask) - float(best.bid) < 0.1
        ]
        half = abs(episode.mid_after - episode.mid_before) / 2
        assert all(abs(mid - episode.mid_after) < half for mid in later)


def test_a_withheld_resolution_is_told_by_rest_alone() -> None:
    told = {m["market"]: m["winning_asset_id"] for m in of_kind("market_resolved")}
    closed = {
        market["conditionId"]: market
        for market in messages("gamma")
        if market["closed"]
    }  # fmt: skip

    assert len(TRUTH.resolutions) == 6
    assert sum(resolution.is_withheld for resolution in TRUTH.resolutions) == 3
    for resolution in TRUTH.resolutions:
        assert (resolution.condition in told) != resolution.is_withheld
        market = closed[resolution.condition]
        assets = orjson.loads(market["clobTokenIds"])
        paid = orjson.loads(market["outcomePrices"])
        assert assets[paid.index("1")] == resolution.winning_asset
        after = [t for t in TRUTH.trades if t.condition == resolution.condition]
        assert all(trade.venue_ms <= resolution.venue_ms for trade in after)


def test_market_records_are_such_as_the_venue_sends() -> None:
    for market in messages("gamma"):
        row = parse_market(market)
        assert row.token_ids
        assert row.condition_id in TRUTH.assets


def test_markets_that_are_announced_later_begin_with_their_announcement() -> None:
    announced = of_kind("new_market")
    assert len(announced) == 2
    for message in announced:
        first = next(m for m in MESSAGES if m.get("market") == message["market"])
        assert first is message


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("conditions=3", "unknown field 'conditions'"),
        ("resolved_share=2", "resolved_share must be in"),
        ("n_conditions=0", "n_conditions must be positive"),
        ("n_conditions=2,n_jumps=3", "n_jumps: 3 for fewer markets"),
        ("seed=x", "invalid literal"),
    ],
)
def test_refuses_a_day_that_cannot_be(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        StreamDay.parse(spec)


def test_frames_are_made_one_by_one() -> None:
    endless = StreamDay(n_conditions=50, duration_s=1e9, updates_per_second=1000)

    first = list(itertools.islice(simulate_records(endless), 1000))

    assert all(isinstance(record, Record) for record in first)


@pytest.mark.soak
def test_frames_are_made_faster_than_anything_reads_them() -> None:
    endless = StreamDay(n_conditions=500, duration_s=1e9, updates_per_second=1000)
    began, count = time.perf_counter(), 1_000_000

    for _ in itertools.islice(simulate_records(endless), count):
        pass

    rate = count / (time.perf_counter() - began)
    print(f"{rate:,.0f} frames/s")
    assert rate > 50_000
