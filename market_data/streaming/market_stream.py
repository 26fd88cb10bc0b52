"""Events in, closed bars and triggers out: everything between parsing and deciding, without I/O.

Time is the venue's alone. A minute closes when an event comes that is later than its end by
``lateness_ms``, or when `MarketStream.advance` is told that it is over; what comes later still is
folded in and the bar comes again, until ``reopen_ms`` have passed. Bars and closings depend on the
events and not on their order or number, as long as none is later than that.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar, Minutes, OpenBar
from market_data.streaming.dedupe import Ledger, Recent
from market_data.streaming.events import (
    Event,
    Feed,
    Kline,
    Mark,
    NewMarket,
    OpenInterest,
    Quote,
    Resolved,
    TickSize,
    Trade,
    is_probability,
)
from market_data.streaming.live_market import LiveMarket
from market_data.streaming.volatility import (
    Diagnostics,
    Trigger,
    TriggerKind,
    Verdict,
    VolatilityRules,
    look_at_bar,
    look_at_marks,
    look_at_window,
)

_NAN = math.nan
LONG_MS = 6 * 3_600_000
"""A time without any event after which minutes are not closed one by one."""
_SAMPLE = 64
_DELAYS = 65
_VENUE_INTERVALS = {"1m": MINUTE_MS, "5m": FIVE_MS}


@dataclass(frozen=True, slots=True)
class StreamRules:
    """How events become bars.

    Attributes:
        lateness_ms: how long after its end a minute stays open.
        reopen_ms: how long after its end a minute may be opened again.
        recent: events without a count of their own that are remembered as seen.
        max_ahead_ms: how far ahead of its receipt an event may say that it happened; None for as
            far as it likes, where a recording is replayed.
        heeds_feed: whether markets of a stale feed fire nothing; not where a recording is replayed,
            whose result must not hang on the machine that replays it.
    """

    lateness_ms: int = 2_000
    reopen_ms: int = 300_000
    recent: int = 1 << 17
    max_ahead_ms: int | None = None
    heeds_feed: bool = True


@dataclass(frozen=True, slots=True)
class MinuteClosed:
    """A minute is over.

    Attributes:
        end_ms: its end.
        bars: of one minute, of the markets in which something happened.
        fives: of five minutes, where one ends here.
        revised: bars that were closed before and to which something was added.
    """

    end_ms: int
    bars: tuple[Bar, ...]
    fives: tuple[Bar, ...]
    revised: tuple[Bar, ...]


Signal = MinuteClosed | Trigger | TickSize | NewMarket | Resolved | OpenInterest | Bar
"""What comes out: a lone `Bar` is one that the venue made itself."""


class MarketStream:
    """Folds events of all markets.

    Attributes:
        markets: as they stand, by id.
        counts: events by what became of them: "LATE" (a bar was opened again), "TOO_LATE" (nothing
            was changed), "LATE_TRADE" and "TOO_LATE_TRADE" likewise, "DUPLICATE_TRADE", "AHEAD"
            (its time is in the future), "ONE_SIDED".
        signals: what came out and was not taken yet.
        watermark: latest time of an event; closed_until: end of the last closed minute.
    """

    def __init__(
        self, rules: StreamRules, volatility: VolatilityRules, ledger: Ledger | None = None
    ) -> None:
        self.rules = rules
        self.volatility = volatility
        self.markets: dict[str, LiveMarket] = {}
        self.counts: Counter[str] = Counter()
        self.signals: list[Signal] = []
        self.watermark = self.closed_until = 0
        self.suppressed = ""
        self.ledger = ledger or Ledger(2 * rules.reopen_ms)
        self.recent = Recent(rules.recent)
        self._roll_at = self._seen = self._oldest = 0
        self._delays: deque[int] = deque(maxlen=_DELAYS)
        self._min_move = volatility.min_move
        self._fold: dict[type, Callable[[Any], None]] = {
            Quote: self._quote, Trade: self._trade, Mark: self._mark, Kline: self._kline,
            TickSize: self._pass_on, NewMarket: self._pass_on, Resolved: self._pass_on,
            OpenInterest: self._pass_on, Feed: self._feed,
        }  # fmt: skip

    def apply(self, events: Iterable[Event]) -> None:
        """Folds events in; what comes of them is in ``signals``."""
        fold = self._fold
        for event in events:
            fold[type(event)](event)
            self._seen += 1
            if self._seen % _SAMPLE == 0:
                self._delays.append(event.recv_ms - event.ms)

    def take_signals(self) -> list[Signal]:
        """What came out since the last time, in order."""
        taken, self.signals = self.signals, []
        return taken

    def advance(self, now_ms: int) -> None:
        """Closes the minutes that ended ``lateness_ms`` or more before an instant."""
        if now_ms > self.watermark:
            self.watermark = now_ms
        if not self.closed_until:
            self._begin(now_ms)
        until = now_ms - self.rules.lateness_ms
        if until - self.closed_until > LONG_MS:
            self._leap(until)
        while self.closed_until + MINUTE_MS <= until:
            self._close(self.closed_until + MINUTE_MS)
        self._roll_at = self.closed_until + MINUTE_MS + self.rules.lateness_ms
        self.ledger.sweep(self.watermark)

    def _leap(self, until: int) -> None:
        """Closes the minutes of a long time in which something happened, and no others."""
        ends: set[int] = set()
        for market in self.markets.values():
            for start in market.minutes.starts(self.closed_until):
                ends |= {start + MINUTE_MS, start - start % FIVE_MS + FIVE_MS}
        for end in sorted(one for one in ends if one <= until):
            self._close(end)
        self.closed_until = max(self.closed_until, until - until % MINUTE_MS)

    def forget(self, before_ms: int) -> list[str]:
        """Gives up markets of which nothing was heard since an instant; which they were."""
        gone = [
            name
            for name, one in self.markets.items()
            if one.minutes.bar.end <= before_ms and one.ms < before_ms
        ]
        for name in gone:
            del self.markets[name]
        return gone

    def resume(self, closed_until: int, watermark: int) -> None:
        """Goes on behind a minute that was closed before; 0 is none."""
        if closed_until:
            self.watermark = watermark
            self._begin(closed_until)

    def _begin(self, ms: int) -> None:
        self.closed_until = ms - ms % MINUTE_MS
        self._roll_at = self.closed_until + MINUTE_MS + self.rules.lateness_ms

    def _quote(self, quote: Quote) -> None:
        ms, key = quote.ms, quote.key
        if not self.recent.is_new((quote.market_id, ms, key, quote.bid, quote.ask)):
            return
        if ms >= self._roll_at and not self._arrived(ms, quote.recv_ms):
            return
        market = self.markets.get(quote.market_id) or self._market(quote.market_id, ms)
        mid = (quote.bid + quote.ask) * 0.5
        is_newer = ms > market.ms or (ms == market.ms and key >= market.key)
        bar = market.minutes.bar
        if (
            mid == mid
            and bar.start <= ms < bar.end
            and bar.start >= self.closed_until
            and (quote.span is None)
        ):
            bar.quote(ms, key, mid)
        elif mid == mid or quote.span is not None:
            self._fold_elsewhere(market, quote, mid)
        else:
            self.counts["ONE_SIDED"] += 1
        if not is_newer:
            return
        market.ms, market.key, market.recv_ms = ms, key, quote.recv_ms
        market.bid, market.ask = quote.bid, quote.ask
        market.bid_size, market.ask_size = quote.bid_size, quote.ask_size
        if mid != market.mid:
            market.mid = mid
            if mid == mid and market.window.push(ms, mid) >= self._min_move:
                if ms < market.quiet_until:
                    market.merged += 1
                else:
                    age, rules = quote.recv_ms - ms, self.volatility
                    look = look_at_window(market.window, mid, market.book, rules, age)
                    self._judge(market, TriggerKind.MOVE, ms, look)

    def _fold_elsewhere(self, market: LiveMarket, quote: Quote, mid: float) -> None:
        """Folds into another minute than the latest, or several quotes at once.

        A book that has not changed for long comes with the time of its last change. Where it is
        newer than what is known, it is the price that stands now, and counts from the open minute.
        """
        bar = self._minute(market, quote.ms, "")
        if bar is None:
            if quote.ms > market.ms and mid == mid:
                now = market.minutes.at(self.closed_until)
                now.quote(self.closed_until, quote.key, mid)
            return
        before = bar.kept()
        if quote.span is None:
            bar.quote(quote.ms, quote.key, mid)
        else:
            bar.span(quote.span)
        if bar.start < self.closed_until and bar.kept() != before:
            market.minutes.revised.add(bar.start)

    def _trade(self, trade: Trade) -> None:
        ms = trade.ms
        if ms >= self._roll_at and not self._arrived(ms, trade.recv_ms):
            return
        market = self.markets.get(trade.market_id) or self._market(trade.market_id, ms)
        bar = self._minute(market, ms, "_TRADE")
        if bar is None:
            return
        if not self.ledger.is_new(trade.key, ms):
            self.counts["DUPLICATE_TRADE"] += 1
            return
        bar.trade(trade.size)
        if bar.start < self.closed_until:
            market.minutes.revised.add(bar.start)

    def _mark(self, mark: Mark) -> None:
        ms = mark.ms
        if not self.recent.is_new((mark.market_id, ms, mark.key)):
            return
        if ms >= self._roll_at and not self._arrived(ms, mark.recv_ms):
            return
        market = self.markets.get(mark.market_id) or self._market(mark.market_id, ms)
        bar = self._minute(market, ms, "")
        if bar is None:
            return
        before = bar.kept()
        bar.quote(ms, mark.key, mark.price)
        if bar.start < self.closed_until and bar.kept() != before:
            market.minutes.revised.add(bar.start)
        if ms < market.ms:
            return
        market.ms, market.key, market.mid = ms, mark.key, mark.price
        market.window.push(ms, mark.price)
        look = look_at_marks(market.window, mark.price, self.volatility, mark.recv_ms - ms)
        if look.verdict != Verdict.BELOW_THRESHOLD:
            self._judge(market, TriggerKind.MOVE, ms, look)

    def _kline(self, kline: Kline) -> None:
        interval = _VENUE_INTERVALS.get(kline.interval)
        if not kline.is_closed or interval is None:
            self.counts["OPEN_KLINE" if interval else "OTHER_INTERVAL"] += 1
            return
        if not self.recent.is_new((kline.market_id, kline.interval, kline.start_ms)):
            return
        self.signals.append(
            Bar(
                kline.market_id, interval, kline.start_ms, kline.open, kline.high, kline.low,
                kline.close, kline.volume, kline.trade_count, 0, _NAN,
            )
        )  # fmt: skip

    def _pass_on(self, event: TickSize | NewMarket | Resolved | OpenInterest) -> None:
        if self.recent.is_new((event.market_id, event.ms, event.key)):
            self.signals.append(event)

    def _feed(self, feed: Feed) -> None:
        """Markets that are stale fire nothing until they are fresh again."""
        self.counts["FEED_STALE" if feed.reason else "FEED_FRESH"] += 1
        if not self.rules.heeds_feed:
            return
        venue = feed.market_id.removesuffix("*")
        named = feed.markets or [one for one in self.markets if one.startswith(venue)]
        for market_id in named:
            if market_id in self.markets:
                self.markets[market_id].suppressed = feed.reason

    def _market(self, market_id: str, ms: int) -> LiveMarket:
        if not self.closed_until:
            self._begin(ms if self.rules.max_ahead_ms is None else max(ms, self._oldest))
        minutes = Minutes(market_id, ms - ms % MINUTE_MS)
        market = self.markets[market_id] = LiveMarket(minutes, self.volatility)
        return market

    def _arrived(self, ms: int, recv_ms: int) -> bool:
        """Closes what an event shows to be over; False where its time cannot be true."""
        ahead = self.rules.max_ahead_ms
        if ahead is not None:
            delay = self.delay_ms
            bound = ahead if delay is None else self.rules.lateness_ms - delay
            if ms > recv_ms + bound:
                self.counts["AHEAD"] += 1
                return False
            self._oldest = recv_ms - self.rules.reopen_ms
        self.advance(ms)
        return True

    @property
    def delay_ms(self) -> float | None:
        """How long after the venue's time events are received, the median of late ones; None before
        enough have come. It holds the difference of the clocks too, and may be below 0."""
        known = sorted(self._delays)
        return known[len(known) // 2] if len(known) >= _DELAYS // 8 else None

    def _minute(self, market: LiveMarket, ms: int, what: str) -> OpenBar | None:
        """The minute that an event belongs to; None where it was closed too long ago."""
        closed = self.closed_until
        if ms < closed:
            if ms - ms % MINUTE_MS < closed - self.rules.reopen_ms:
                self.counts[f"TOO_LATE{what}"] += 1
                return None
            self.counts[f"LATE{what}"] += 1
        return market.minutes.at(ms)

    def _close(self, end: int) -> None:
        """Closes the minute that ends at ``end``; its bars come by market id."""
        bars: list[Bar] = []
        fives: list[Bar] = []
        revised: list[Bar] = []
        start, is_five = end - MINUTE_MS, end % FIVE_MS == 0
        self.closed_until = end
        for market_id in sorted(self.markets):
            market = self.markets[market_id]
            minutes = market.minutes
            for late in sorted(minutes.revised):
                revised += _again(minutes, late, end)
            minutes.revised.clear()
            bar = minutes.closed(start)
            if bar is not None:
                bars.append(bar)
                self._look_at(market, bar)
            market.volumes.append(bar.volume if bar else 0)
            if is_five:
                five = minutes.closed_five(end - FIVE_MS)
                if five is not None:
                    fives.append(five)
            minutes.forget(end - self.rules.reopen_ms - FIVE_MS)
        self.signals.append(MinuteClosed(end, tuple(bars), tuple(fives), tuple(revised)))

    def _look_at(self, market: LiveMarket, bar: Bar) -> None:
        if math.isnan(bar.close) or not is_probability(bar.market_id):
            return
        kind, look = look_at_bar(bar, market.volumes, market.book, self.volatility)
        self._judge(market, kind, bar.end_ms, look)

    def _judge(self, market: LiveMarket, kind: TriggerKind, ms: int, look: Diagnostics) -> None:
        """Keeps what a look saw, and raises a trigger where it fired and none was lately."""
        if look.verdict == Verdict.FIRED:
            reason = market.suppressed or self.suppressed
            if reason:
                look = look.said(Verdict.SUPPRESSED, reason)
            elif ms < market.quiet_until:
                market.merged += 1
                look = look.said(Verdict.MERGED)
            else:
                market.quiet_until, before = ms + self.volatility.cooldown_ms, market.merged
                market.merged = 0
                trigger_id = f"{market.market_id}/{kind}/{ms}"
                self.signals.append(Trigger(trigger_id, market.market_id, kind, ms, look, before))
        market.diagnostics = look


def _again(minutes: Minutes, start: int, end: int) -> list[Bar]:
    """The bars, of one and of five minutes, that something late changed."""
    found = [minutes.closed(start)] if start < end - MINUTE_MS else []
    five = start - start % FIVE_MS
    if five + FIVE_MS < end:
        found.append(minutes.closed_five(five))
    return [one for one in found if one is not None]
