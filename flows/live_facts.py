"""What is known of a market beside its stream: trust, wording, open interest, tick, event."""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Iterable
from dataclasses import dataclass, field

import polars as pl

from market_data.lake import Lake

HOUR_MS = 3_600_000
_OLDEST_READING_MS = 6 * HOUR_MS
_NAN = math.nan


@dataclass(slots=True)
class MarketFacts:
    """Facts of one market; NaN is unknown.

    Attributes:
        event_id: what it belongs to; "" where unknown.
        tick_size: of its price, as the registry has it; told_tick: as the stream said later.
        trust: score in [0, 100]; ambiguity: of its question, in [0, 1].
        open_interest: (UTC milliseconds, USD) by time.
    """

    event_id: str = ""
    tick_size: float = _NAN
    told_tick: float = _NAN
    trust: float = _NAN
    ambiguity: float = _NAN
    open_interest: list[tuple[int, float]] = field(default_factory=list)

    @property
    def tick(self) -> float:
        """The smallest price step, as it was said last."""
        return self.tick_size if math.isnan(self.told_tick) else self.told_tick

    def open_interest_change(self, at_ms: int) -> float:
        """Change over the hour before an instant as a ratio; NaN without a reading near both ends.

        A reading holds until the next one, for at most six hours.
        """
        now, before = self._reading(at_ms), self._reading(at_ms - HOUR_MS)
        return now / before - 1.0 if before > 0.0 else _NAN

    def _reading(self, at_ms: int) -> float:
        place = bisect_right(self.open_interest, (at_ms, math.inf)) - 1
        if place < 0 or at_ms - self.open_interest[place][0] > _OLDEST_READING_MS:
            return _NAN
        return self.open_interest[place][1]

    def add_open_interest(self, ms: int, usd: float) -> None:
        """Takes a reading; one of the same instant is there already."""
        if (ms, usd) not in self.open_interest[-8:]:
            insort(self.open_interest, (ms, usd))
            oldest = ms - 2 * _OLDEST_READING_MS
            while self.open_interest and self.open_interest[0][0] < oldest:
                del self.open_interest[0]


class Facts:
    """Facts by market."""

    def __init__(self) -> None:
        self._markets: dict[str, MarketFacts] = {}

    def of(self, market_id: str) -> MarketFacts:
        """Facts of a market; all unknown where nobody has said anything."""
        found = self._markets.get(market_id)
        if found is None:
            found = self._markets[market_id] = MarketFacts()
        return found

    def read(self, lake: Lake, market_ids: Iterable[str]) -> None:
        """Takes over what the lake's tables say of markets; blocking."""
        wanted = pl.col("market_id").is_in(list(market_ids))
        for market_id, event_id, tick in _rows(
            lake.read("market_registry", wanted), "event_id", "tick_size"
        ):
            facts = self.of(market_id)
            facts.event_id = event_id or ""
            facts.tick_size = _NAN if tick is None else tick
        newest = lake.scan("trust_score").filter(wanted).sort("ts").group_by("market_id").last()
        for market_id, score in _rows(newest.collect(), "score"):
            self.of(market_id).trust = _NAN if score is None else score
        judged = _current(lake.read("question_quality", wanted))
        for market_id, ambiguity in _rows(judged, "ambiguity"):
            self.of(market_id).ambiguity = _NAN if ambiguity is None else ambiguity
        known = pl.col("open_interest").is_not_null()
        snapshots = lake.read(
            "market_snapshot", wanted & known, columns=("market_id", "ts", "open_interest")
        ).with_columns(pl.col("ts").dt.epoch("ms"))
        for market_id, ms, usd in _rows(snapshots.sort("ts"), "ts", "open_interest"):
            self.of(market_id).add_open_interest(ms, usd)


def _current(judged: pl.DataFrame) -> pl.DataFrame:
    """The judgements of questions as they are worded now, those of a model after the rules'."""
    rules = judged.filter(pl.col("scored_by") == "RULES").select("market_id", "text_digest")
    now = judged.join(rules, on=("market_id", "text_digest"), how="semi")
    return now.sort(pl.col("scored_by") == "MODEL", "llm_model")


def _rows(frame: pl.DataFrame, *columns: str) -> Iterable[tuple]:  # type: ignore[type-arg]
    return frame.select("market_id", *columns).iter_rows()
