"""Every message of the market channel, and everything that may be wrong with one."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market_data.streaming.events import (
    NewMarket,
    Quote,
    Resolved,
    TickSize,
    Trade,
)
from market_data.streaming.instruments import Instruments
from market_data.venues.polymarket.stream_parse import MarketChannelParser

YES, NO, MARKET = "700100", "700101", "0x1f"
MS = 1_789_460_500_120


@pytest.fixture
def parser() -> MarketChannelParser:
    return MarketChannelParser(Instruments.of_markets([("polymarket:7", (YES, NO))]).by_token)


def frame(value: Any) -> bytes:
    return json.dumps(value).encode()


def book(**changes: Any) -> dict[str, Any]:
    return {
        "event_type": "book", "asset_id": YES, "market": MARKET, "timestamp": str(MS),
        "hash": "3d1e", "bids": [{"price": "0.39", "size": "1200"}, {"price": "0.40", "size": "5"}],
        "asks": [{"price": ".44", "size": "90"}, {"price": "0.43", "size": "410"}],
    } | changes  # fmt: skip


def trade(**changes: Any) -> dict[str, Any]:
    return {
        "event_type": "last_trade_price", "asset_id": YES, "market": MARKET, "price": "0.43",
        "size": "125.75", "fee_rate_bps": "0", "side": "BUY", "timestamp": str(MS),
        "transaction_hash": "0x77",
    } | changes  # fmt: skip


def one(parser: MarketChannelParser, value: Any) -> Any:
    (event,) = parser.parse(frame(value), 9)
    return event


def test_a_book_gives_its_best_prices_whatever_the_order_of_its_levels(
    parser: MarketChannelParser,
) -> None:
    quote = one(parser, book())
    assert isinstance(quote, Quote)
    assert (quote.market_id, quote.ms, quote.recv_ms) == ("polymarket:7", MS, 9)
    assert (quote.bid, quote.bid_size, quote.ask, quote.ask_size) == (0.40, 5.0, 0.43, 410.0)
    turned = book(bids=book()["bids"][::-1], asks=book()["asks"][::-1])
    assert one(parser, turned) == quote


@pytest.mark.parametrize("side", ["bids", "asks"])
@pytest.mark.parametrize("prices", [[], ["0"], ["1"]], ids=["no-level", "zero", "one"])
def test_an_empty_side_has_no_price(parser: MarketChannelParser, side: str, prices: Any) -> None:
    quote = one(parser, book(**{side: [{"price": one, "size": "1"} for one in prices]}))
    assert math.isnan(quote.bid if side == "bids" else quote.ask)


def test_a_price_change_counts_once_for_both_outcomes(parser: MarketChannelParser) -> None:
    change = {"price": "0.41", "size": "500", "side": "BUY", "hash": "a1",
              "best_bid": "0.41", "best_ask": "0.43"}  # fmt: skip
    mirror = change | {"price": "0.59", "side": "SELL", "best_bid": "0.57", "best_ask": "0.59"}
    quote = one(parser, {
        "event_type": "price_change", "market": MARKET, "timestamp": str(MS),
        "price_changes": [change | {"asset_id": YES}, mirror | {"asset_id": NO}],
    })  # fmt: skip
    assert (quote.bid, quote.ask) == (0.41, 0.43)
    assert parser.counts["MIRRORED"] == 1


def test_sentinels_of_an_empty_side_are_no_prices(parser: MarketChannelParser) -> None:
    message = {"event_type": "best_bid_ask", "market": MARKET, "asset_id": YES, "best_bid": "0",
               "best_ask": "1", "spread": "1", "timestamp": str(MS)}  # fmt: skip
    quote = one(parser, message)
    assert math.isnan(quote.bid)
    assert math.isnan(quote.ask)


def test_a_trade_of_the_second_outcome_is_one_of_the_first(parser: MarketChannelParser) -> None:
    first, second = one(parser, trade()), one(parser, trade(asset_id=NO, price="0.57"))
    assert isinstance(first, Trade)
    assert (first.price, first.size, first.side) == (0.43, 125_750_000, 1)
    assert second.price == pytest.approx(0.43)
    assert second.side == -1


def test_equal_fills_of_one_frame_are_several_and_of_two_frames_the_same(
    parser: MarketChannelParser,
) -> None:
    fills = parser.parse(frame([trade(), trade(), trade()]), 1)
    assert len({fill.key for fill in fills}) == 3
    again = parser.parse(frame([trade(), trade(), trade()]), 2)
    assert [fill.key for fill in again] == [fill.key for fill in fills]
    assert one(parser, trade()).key == fills[0].key


def test_ticks_markets_and_outcomes_are_read(parser: MarketChannelParser) -> None:
    tick = {"event_type": "tick_size_change", "asset_id": YES, "market": MARKET,
            "old_tick_size": "0.01", "new_tick_size": "0.001", "timestamp": str(MS)}  # fmt: skip
    assert one(parser, tick) == TickSize("polymarket:7", MS, "s0.001", 9, 0.001)
    new = {"event_type": "new_market", "id": "1", "question": "Will it?", "market": "0x2e",
           "slug": "will-it", "assets_ids": ["8", "9"], "outcomes": ["Yes", "No"],
           "timestamp": str(MS), "tags": ["stocks"], "unheard_of": {"x": 1}}  # fmt: skip
    found = one(parser, new)
    assert isinstance(found, NewMarket)
    assert (found.market_id, found.token_ids) == ("polymarket:0x2e", ("8", "9"))
    over = {"event_type": "market_resolved", "id": "1", "market": MARKET, "assets_ids": [YES, NO],
            "winning_asset_id": NO, "winning_outcome": "Over", "timestamp": str(MS)}  # fmt: skip
    assert one(parser, over) == Resolved("polymarket:7", MS, f"r{NO}", 9, NO, "Over")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (b"{", "NOT_JSON"),
        (b"[{", "NOT_JSON"),
        (b"\xff\xfe", "NOT_JSON"),
        (frame(book(timestamp="soon")), "FIELDS_UNREADABLE"),
        (frame(book(bids="none")), "FIELDS_UNREADABLE"),
        (frame(book(timestamp="-5")), "TIME_UNREADABLE"),
        (frame(book(bids=[{"price": "1.2", "size": "1"}])), "PRICE_OUT_OF_RANGE"),
        (frame(trade(price="x")), "FIELDS_UNREADABLE"),
        (frame(trade(price="nan")), "PRICE_OUT_OF_RANGE"),
        (frame(trade(size="-1")), "SIZE_UNREADABLE"),
        (frame(trade(size="inf")), "SIZE_UNREADABLE"),
        (frame({"event_type": "new_market", "timestamp": str(MS)}), "MARKET_MISSING"),
    ],
)  # fmt: skip
def test_a_message_that_cannot_be_read_is_set_aside_with_its_reason(
    parser: MarketChannelParser, message: bytes, reason: str
) -> None:
    assert parser.parse(message, 1) == []
    assert [one.reason for one in parser.rejected] == [reason]
    assert parser.rejected[0].raw == message


def test_one_bad_message_does_not_harm_the_others_of_its_frame(parser: MarketChannelParser) -> None:
    events = parser.parse(frame([book(), trade(size="many"), book(timestamp={}), trade()]), 1)
    assert [type(event).__name__ for event in events] == ["Quote", "Trade"]
    assert len(parser.rejected) == 2


def test_what_is_not_known_is_counted_and_passed_over(parser: MarketChannelParser) -> None:
    unknown = [{"event_type": "comment", "text": "hi"}, book(asset_id="elsewhere"), {}]
    assert parser.parse(frame(unknown), 1) == []
    assert parser.counts == {"UNKNOWN_TYPE": 2, "UNKNOWN_INSTRUMENT": 1}
    assert not parser.rejected


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=200).map(str.encode))
def test_no_bytes_raise(raw: bytes) -> None:
    parser = MarketChannelParser({})
    assert parser.parse(raw, 1) == []


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["event_type", "asset_id", "bids", "price", "timestamp", "size"]), inner,
        max_size=4),
    max_leaves=12,
)  # fmt: skip


_FIELDS = ("asset_id", "bids", "asks", "timestamp", "price", "size", "price_changes", "hash")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["book", "price_change", "last_trade_price", "market_resolved"]),
    st.dictionaries(st.sampled_from(_FIELDS), _JSON),
)
def test_no_value_in_any_field_raises(kind: str, fields: dict[str, Any]) -> None:
    parser = MarketChannelParser(Instruments.of_markets([("polymarket:7", (YES, NO))]).by_token)
    for event in parser.parse(frame({"event_type": kind, "asset_id": YES} | fields), 1):
        assert 0 < event.ms < 1 << 53
