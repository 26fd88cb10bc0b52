"""Closed minutes against forecasts: the part that the stream and the batch have in common.

It is given closed bars in order of time, keeps what forecasts and gates look back on, asks for
bands at each closed five minutes, and lets the alert engine judge each bar. Where the bars come
from, and what becomes of the alerts, is not its business.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable

from calibration_service.alerts.engine import step
from calibration_service.alerts.policy import AlertPolicy
from calibration_service.alerts.state import MarketState
from calibration_service.alerts.values import Alert, Observation
from flows.live_bands import BandBook
from flows.live_checkpoint import Watched
from flows.live_facts import Facts
from flows.live_history import KEPT_MS, History
from market_data.streaming.bars import FIVE_MS, MINUTE_MS, Bar
from market_data.streaming.events import OpenInterest, Resolved, TickSize, is_probability
from market_data.streaming.market_stream import MinuteClosed

OLD_BAND_MS = 6 * FIVE_MS
"""A market in which nothing happens gets a new band when its last one is as old as this."""


def _is_done(watched: Watched, now_ms: int) -> bool:
    if watched.resolved_ms is not None:
        return watched.resolved_ms < now_ms - KEPT_MS
    return watched.alerts.breach is None


def _never(_market_id: str) -> str:
    """Suppresses nothing."""
    return ""


class Judge:
    """Judges closed minutes.

    Args:
        policy: thresholds of alerts.
        bands: forecasts for gates.
        facts: what is known of markets beside their prices.
        suppressed: why a market may raise nothing now; "" where it may.

    Attributes:
        watched: what is known of each market from bar to bar.
        touched: markets whose state has changed since somebody took note.
        counts: resolutions by how they were found; closed minutes that were judged, and those of
            them in which a price stood outside its band or was not back for long enough.
    """

    def __init__(
        self,
        policy: AlertPolicy,
        bands: BandBook,
        facts: Facts,
        suppressed: Callable[[str], str] = _never,
    ) -> None:
        self._policy = policy
        self.bands = bands
        self.facts = facts
        self._suppressed = suppressed
        self._muted = frozenset(policy.selection.muted)
        self.history = History()
        self.watched: dict[str, Watched] = {}
        self.touched: set[str] = set()
        self.counts: Counter[str] = Counter()

    def state_of(self, market_id: str) -> Watched:
        """What is known of a market; nothing of one that is new."""
        found = self.watched.get(market_id)
        if found is None:
            found = self.watched[market_id] = Watched(MarketState(market_id))
        return found

    def learn(self, said: TickSize | OpenInterest | Resolved) -> None:
        """Takes note of what a venue said beside prices."""
        if isinstance(said, TickSize):
            self.facts.of(said.market_id).told_tick = said.tick_size
            self.touched.add(said.market_id)
        elif isinstance(said, OpenInterest):
            self.facts.of(said.market_id).add_open_interest(said.ms, said.usd)
            self.touched.add(said.market_id)
        else:
            self._resolve(said)

    def _resolve(self, resolved: Resolved) -> None:
        watched = self.state_of(resolved.market_id)
        if watched.resolved_ms is None:
            watched.resolved_ms, watched.winner = resolved.ms, resolved.winner
            self.counts[f"resolved_by_{resolved.source}"] += 1
            self.touched.add(resolved.market_id)

    async def minute(self, closed: MinuteClosed) -> list[Alert]:
        """Judges a closed minute, with the bands of the five-minute bar before it.

        `look_ahead` comes after it.
        """
        self.history.add((*closed.revised, *closed.bars, *closed.fives))
        await self.bands.settle()
        self.touched.update(name for name, _ in self.bands.take_fresh())
        raised = [alert for bar in closed.bars for alert in self._judge(bar)]  # by market id
        quiet = self._pending() - {bar.market_id for bar in closed.bars}
        for market_id in sorted(quiet):
            raised += self._judge_quiet(market_id, closed.end_ms)
        return raised

    def look_ahead(self, end_ms: int) -> None:
        """Asks for bands where a five-minute bar ends; after `minute`, whose alerts come first."""
        if end_ms % FIVE_MS == 0:
            self.forget(end_ms)
            self.forecast(end_ms)

    def forget(self, now_ms: int) -> None:
        """Gives up bars, and markets that nothing is looked back on any more.

        These are markets without a bar for 26 hours: resolved ones as long after that, others
        where no breach is under way. One whose state somebody has not taken note of stays.
        """
        self.history.forget(now_ms)
        gone = [
            name
            for name, one in self.watched.items()
            if not (name in self.touched or self.history.has(name)) and _is_done(one, now_ms)
        ]
        for market_id in gone:
            del self.watched[market_id]
        self.bands.forget(gone)

    def _pending(self) -> set[str]:
        """Markets with a breach under way, which a minute without events carries on too."""
        return {name for name, one in self.watched.items() if one.alerts.breach is not None}

    def _judge_quiet(self, market_id: str, at_ms: int) -> tuple[Alert, ...]:
        """A minute in which nothing was said: the price stands where it stood."""
        price = self.watched[market_id].alerts.last_price
        if price is None:
            return ()
        bar = Bar(market_id, MINUTE_MS, at_ms - MINUTE_MS, *(price,) * 4, 0, 0, 0, 0.0)
        return self._judge(bar)

    def _judge(self, bar: Bar) -> tuple[Alert, ...]:
        if not is_probability(bar.market_id) or bar.market_id in self._muted:
            return ()
        watched = self.state_of(bar.market_id)
        if watched.is_over(bar.end_ms):
            return ()
        outcome = step(watched.alerts, self._observation(bar), self._policy)
        watched.alerts = outcome.state
        self.counts["judged"] += 1
        self.counts["outside"] += outcome.state.breach is not None
        self.touched.add(bar.market_id)
        return outcome.alerts

    def _observation(self, bar: Bar) -> Observation:
        facts = self.facts.of(bar.market_id)
        recent, mean, hours = self.history.volumes(bar.market_id, bar.end_ms)
        return Observation(
            market_id=bar.market_id,
            at_ms=bar.end_ms,
            price=bar.close,
            high=bar.high,
            low=bar.low,
            band=self.bands.before(bar.market_id, bar.end_ms),
            volume_60m=recent,
            mean_hourly_volume_24h=mean,
            volume_history_hours=hours,
            open_interest_change_60m=facts.open_interest_change(bar.end_ms),
            ambiguity=facts.ambiguity,
            trust=facts.trust,
            tick_size=facts.tick,
            suppressed=self._suppressed(bar.market_id),
        )

    def forecast(self, issued_ms: int) -> None:
        """Asks for bands of the markets that need one."""
        self.bands.begin(
            issued_ms,
            {name: self.history.closes(name, issued_ms) for name in self._needing(issued_ms)},
        )

    def refresh(self, market_id: str, at_ms: int) -> None:
        """Asks for the band of the last closed five minutes of a market that has an older one.

        For a market that begins to move after a quiet time: what is asked for hangs on the venue's
        time alone.
        """
        if not is_probability(market_id):
            return
        issued_ms = at_ms - at_ms % FIVE_MS
        state = self.state_of(market_id)
        if self.bands.age_ms(market_id, issued_ms) > 0 and not state.is_over(issued_ms):
            self.bands.begin(issued_ms, {market_id: self.history.closes(market_id, issued_ms)})

    def _needing(self, issued_ms: int) -> Iterable[str]:
        """Markets in which something happened, or whose band is old."""
        for market_id in self.history.market_ids():
            if self.state_of(market_id).is_over(issued_ms) or market_id in self._muted:
                continue
            is_old = self.bands.age_ms(market_id, issued_ms) >= OLD_BAND_MS
            if is_old or self.history.has_five(market_id, issued_ms):
                yield market_id
