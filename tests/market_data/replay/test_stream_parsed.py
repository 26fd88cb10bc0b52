"""What is simulated is read by the parsers of the live path, whole and exactly."""

from __future__ import annotations

from collections import Counter

from market_data.replay.stream_simulate import StreamDay, simulate_day
from market_data.streaming.events import MICRO, Event, Kline, Quote, Resolved, Trade
from market_data.streaming.instruments import Instruments
from market_data.venues.binance.stream_parse import FuturesParser
from market_data.venues.polymarket.stream_parse import MarketChannelParser

DAY = StreamDay(
    seed=8, n_conditions=10, n_new=1, duration_s=1200, updates_per_second=20, resolved_share=0.4,
    n_jumps=1,
)  # fmt: skip
RECORDS, TRUTH = simulate_day(DAY)


def parsed(channel: str) -> tuple[list[Event], MarketChannelParser | FuturesParser]:
    tokens = Instruments.of_markets(list(TRUTH.assets.items())).by_token
    parser = MarketChannelParser(tokens) if channel == "polymarket" else FuturesParser()
    events = [
        event
        for record in RECORDS
        if record.channel == channel
        for event in parser.parse(record.frame, record.recv_ms)
    ]
    return events, parser


def test_every_simulated_frame_is_understood() -> None:
    for channel in ("polymarket", "binance"):
        _, parser = parsed(channel)
        assert parser.rejected == []
        assert not {"UNKNOWN_TYPE", "UNKNOWN_INSTRUMENT"} & set(parser.counts)


def test_every_trade_that_happened_is_an_event_of_its_own() -> None:
    events, _ = parsed("polymarket")
    trades = [event for event in events if isinstance(event, Trade)]

    first = {pair[0] for pair in TRUTH.assets.values()}
    happened = [
        (
            trade.condition,
            trade.venue_ms,
            round(float(trade.price) if trade.asset in first else 1 - float(trade.price), 3),
            round(float(trade.size) * MICRO),
            1 if (trade.side == "BUY") == (trade.asset in first) else -1,
        )
        for trade in TRUTH.trades
    ]
    assert [(t.market_id, t.ms, round(t.price, 3), t.size, t.side) for t in trades] == happened
    assert len({(t.market_id, t.key) for t in trades}) == len(TRUTH.trades)


def test_the_best_prices_that_held_are_the_quotes() -> None:
    events, _ = parsed("polymarket")
    quotes = [event for event in events if isinstance(event, Quote)]
    condition = {pair[0]: name for name, pair in TRUTH.assets.items()}
    told = {(q.market_id, q.ms, round(q.bid, 3), round(q.ask, 3)) for q in quotes}

    for best in TRUTH.best:
        if best.asset in condition and best.bid != "0" and best.ask != "1":
            row = (condition[best.asset], best.venue_ms, float(best.bid), float(best.ask))
            assert row in told


def test_resolutions_that_were_not_withheld_and_closed_candles_are_events() -> None:
    events, _ = parsed("polymarket")
    resolved = {event.market_id: event.winner for event in events if isinstance(event, Resolved)}
    assert resolved == {
        r.condition: r.winning_asset for r in TRUTH.resolutions if not r.is_withheld
    }

    candles, _ = parsed("binance")
    closed = Counter(
        (event.market_id, event.start_ms)
        for event in candles
        if isinstance(event, Kline) and event.is_closed
    )
    assert len(closed) == 19
    assert set(closed.values()) == {2}, "one of the symbol, one of its continuous contract"
