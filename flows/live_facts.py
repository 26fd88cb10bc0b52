"""What is known of a market beside its stream: trust, wording, open interest, tick, event.

What the lake says is read in a thread (`read_facts`) and taken over by the loop (`Facts.apply`),
which puts new values in the place of old ones: whoever holds readings never sees them change.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

import polars as pl

from market_data.lake import Lake

HOUR_MS = 3_600_000
_OLDEST_READING_MS = 6 * HOUR_MS
KEPT_MS = 2 * _OLDEST_READING_MS
"""Readings of open interest that are older than this before the newest one are given up."""
_NAN = math.nan
_LAST_DAY = "9999-12-31"
Reading = tuple[int, float]
"""UTC milliseconds and USD."""


@dataclass(slots=True)
class MarketFacts:
    """Facts of one market; NaN is unknown.

    Attributes:
        event_id: what it belongs to; "" where unknown.
        tick_size: of its price, as the registry has it; told_tick: as the stream said later.
        trust: score in [0, 100]; ambiguity: of its question, in [0, 1].
        open_interest: (UTC milliseconds, USD) by time, each once; never changed in place.
    """

    event_id: str = ""
    tick_size: float = _NAN
    told_tick: float = _NAN
    trust: float = _NAN
    ambiguity: float = _NAN
    open_interest: list[Reading] = field(default_factory=list)

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
        """Takes a reading; one that is there already, or is no number, changes nothing."""
        self.take_readings(((ms, usd),))

    def take_readings(self, readings: Iterable[Reading]) -> None:
        """Takes readings in any order, see `add_open_interest`."""
        found = list(self.open_interest)
        for one in readings:
            place = bisect_left(found, one)
            if math.isfinite(one[1]) and found[place : place + 1] != [one]:
                found.insert(place, one)
        oldest = found[-1][0] - KEPT_MS if found else 0
        self.open_interest = found[bisect_left(found, (oldest, -math.inf)) :]


@dataclass(frozen=True, slots=True)
class FactsUpdate:
    """What the lake says of markets, by market.

    Attributes:
        registry: event and tick size.
        trust: scores. ambiguity: of questions.
        open_interest: readings by time.
    """

    registry: Mapping[str, tuple[str, float]]
    trust: Mapping[str, float]
    ambiguity: Mapping[str, float]
    open_interest: Mapping[str, Sequence[Reading]]


class Facts:
    """Facts by market."""

    def __init__(self) -> None:
        self._markets: dict[str, MarketFacts] = {}

    def of(self, market_id: str) -> MarketFacts:
        """Facts of a market; all unknown where nobody has said anything."""
        found = self._markets.get(market_id)
        return found if found is not None else self._markets.setdefault(market_id, MarketFacts())

    def since_ms(self) -> int | None:
        """From when on readings of open interest are still to be read; None before the first."""
        newest = [one.open_interest[-1][0] for one in list(self._markets.values())
                  if one.open_interest]  # fmt: skip
        return max(newest) - KEPT_MS if newest else None

    def apply(self, update: FactsUpdate) -> None:
        """Takes over what was read; on the loop, whose judge looks at facts."""
        for market_id, (event_id, tick) in update.registry.items():
            facts = self.of(market_id)
            facts.event_id, facts.tick_size = event_id, tick
        for market_id, score in update.trust.items():
            self.of(market_id).trust = score
        for market_id, ambiguity in update.ambiguity.items():
            self.of(market_id).ambiguity = ambiguity
        for market_id, readings in update.open_interest.items():
            self.of(market_id).take_readings(readings)

    def read(self, lake: Lake, market_ids: Iterable[str]) -> None:
        """Reads and takes over at once, where nobody else looks at the facts; blocking."""
        self.apply(read_facts(lake, market_ids, self.since_ms()))


def read_facts(lake: Lake, market_ids: Iterable[str], since_ms: int | None) -> FactsUpdate:
    """What the lake's tables say of markets now; blocking.

    Args:
        lake: where they are.
        market_ids: the markets.
        since_ms: oldest reading of open interest that is wanted, see `Facts.since_ms`; None for
            the last two days that have any.
    """
    wanted = pl.col("market_id").is_in(list(market_ids))
    registry = _rows(lake.read("market_registry", wanted), "event_id", "tick_size")
    newest = lake.scan("trust_score").filter(wanted).sort("ts").group_by("market_id").last()
    judged = current(lake.read("question_quality", wanted))
    readings: defaultdict[str, list[Reading]] = defaultdict(list)
    for market_id, ms, usd in readings_since(lake, wanted, since_ms):
        readings[market_id].append((ms, usd))
    return FactsUpdate(
        {name: (event_id or "", number(tick)) for name, event_id, tick in registry},
        {name: number(score) for name, score in _rows(newest.collect(), "score")},
        {name: number(ambiguity) for name, ambiguity in _rows(judged, "ambiguity")},
        readings,
    )


def readings_since(
    lake: Lake, wanted: pl.Expr, since_ms: int | None, until_ms: int | None = None
) -> Iterable[tuple[str, int, float]]:
    """Market, UTC milliseconds and USD of the snapshots of a time, by time."""
    if since_ms is None:
        first = _last_days(lake)
    else:
        first = f"{datetime.fromtimestamp(since_ms / 1_000, UTC):%Y-%m-%d}"
        wanted &= pl.col("ts").dt.epoch("ms") >= since_ms
    if until_ms is not None:
        wanted &= pl.col("ts").dt.epoch("ms") <= until_ms
    found = lake.read(
        "market_snapshot", wanted & pl.col("open_interest").is_not_null(),
        columns=("market_id", "ts", "open_interest"), days=(first, _LAST_DAY),
    ).with_columns(pl.col("ts").dt.epoch("ms"))  # fmt: skip
    return _rows(found.sort("ts", "market_id"), "ts", "open_interest")


def _last_days(lake: Lake) -> str:
    """The day before the last one that has snapshots."""
    days = list(lake.files("market_snapshot"))
    return str(date.fromisoformat(days[-1]) - timedelta(days=1)) if days else _LAST_DAY


def current(judged: pl.DataFrame) -> pl.DataFrame:
    """The judgements of questions as they are worded now, those of a model after the rules'."""
    rules = judged.filter(pl.col("scored_by") == "RULES").select("market_id", "text_digest")
    now = judged.join(rules, on=("market_id", "text_digest"), how="semi")
    return now.sort(pl.col("scored_by") == "MODEL", "llm_model")


def number(found: float | None) -> float:
    """A number of a table; NaN for null."""
    return _NAN if found is None else found


def _rows(frame: pl.DataFrame, *columns: str) -> Iterable[tuple]:  # type: ignore[type-arg]
    return frame.select("market_id", *columns).iter_rows()
