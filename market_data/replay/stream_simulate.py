"""A simulated day of streams whose truth is known.

Deterministic: the same ``StreamDay`` gives the same records and the same truth. Records are made as
they are asked for, so a day may have millions.

>>> day = StreamDay(n_conditions=2, duration_s=60, n_jumps=0, symbols="")
>>> records, truth = simulate_day(day)
>>> len(truth.assets), records[0].channel
(2, 'gamma')
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from operator import itemgetter

import orjson

from market_data.replay import stream_simulate_text as text
from market_data.replay.stream_capture import Record
from market_data.replay.stream_simulate_binance import binance_records
from market_data.replay.stream_simulate_market import Listed, Resolution, SimulatedMarket, Truth

_BURST_SPACING_MS = 400
_GAMMA_LAG_MS = 1_000


@dataclass(frozen=True, slots=True)
class StreamDay:
    """What is simulated.

    Attributes:
        seed: of everything that is drawn.
        n_conditions: markets from the start, two assets each.
        n_new: markets that are announced during the day.
        start_ms, duration_s: when it begins (Unix ms), and for how many seconds it lasts.
        updates_per_second: of all markets together; one update is 1 to 4 frames.
        resolved_share: of the first markets end during the day.
        withheld_share: of those are not told by the stream, only by REST.
        n_jumps: planted jumps, each in a market of its own that stays open.
        jump_logit: their size in log-odds.
        jumps_after: share of the day before the first of them can be.
        burst_trades: trades within seconds of a jump.
        sigma: deviation of the log-odds after one second.
        symbols: of the futures venue, separated by "+".
        listed: markets of an archive, in place of as many invented ones.
    """

    seed: int = 0
    n_conditions: int = 20
    n_new: int = 0
    start_ms: int = 1_789_430_400_000
    duration_s: float = 86_400.0
    updates_per_second: float = 20.0
    resolved_share: float = 0.0
    withheld_share: float = 0.5
    n_jumps: int = 3
    jump_logit: float = 1.2
    jumps_after: float = 0.4
    burst_trades: int = 12
    sigma: float = 0.003
    symbols: str = "BTCUSDT"
    listed: tuple[Listed, ...] = ()

    def __post_init__(self) -> None:
        for name in ("resolved_share", "withheld_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("n_conditions", "duration_s", "updates_per_second"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.n_jumps > self.n_conditions - self.n_resolved:
            raise ValueError(f"n_jumps: {self.n_jumps} for fewer markets that stay open")

    @property
    def n_resolved(self) -> int:
        """Markets that end during the day."""
        return round(self.resolved_share * self.n_conditions)

    @property
    def end_ms(self) -> int:
        """When the day is over, Unix ms."""
        return self.start_ms + int(self.duration_s * 1000)

    @classmethod
    def parse(cls, spec: str) -> StreamDay:
        """Read ``field=value,…``; raises ValueError naming an unknown or malformed part.

        >>> StreamDay.parse("n_conditions=3,seed=7").seed
        7
        """
        kinds: dict[str, Callable[[str], object]] = {
            f.name: {"int": int, "float": float, "str": str}[str(f.type)]
            for f in fields(cls)
            if f.name != "listed"
        }
        values: dict[str, object] = {}
        for part in filter(None, (p.strip() for p in spec.split(","))):
            name, _, value = part.partition("=")
            if name not in kinds:
                raise ValueError(f"unknown field {name!r}; known: {', '.join(sorted(kinds))}")
            values[name] = kinds[name](value)
        return cls(**values)  # type: ignore[arg-type]


def simulate_day(day: StreamDay) -> tuple[list[Record], Truth]:
    """All records of a day, and what really happened."""
    truth = Truth()
    return list(simulate_records(day, truth=truth)), truth


def simulate_records(day: StreamDay, *, truth: Truth | None = None) -> Iterator[Record]:
    """The records of a day one by one, in order of ``recv_ms``; ``truth`` is filled meanwhile."""
    markets = _PredictionVenue(day, truth).records()
    symbols = tuple(filter(None, day.symbols.split("+")))
    if not symbols:
        return markets
    futures = binance_records(
        symbols, start_ms=day.start_ms, end_ms=day.end_ms, seed=day.seed
    )  # fmt: skip
    return heapq.merge(markets, futures, key=itemgetter(0))


@dataclass(frozen=True, slots=True, order=True)
class _Planned:
    """Something that happens at a given time; ``order`` breaks ties."""

    venue_ms: int
    order: int
    kind: str = field(compare=False)
    market: SimulatedMarket = field(compare=False)
    is_withheld: bool = field(default=False, compare=False)


class _PredictionVenue:
    """The markets of a day, and the plan of what happens to them."""

    def __init__(self, day: StreamDay, truth: Truth | None) -> None:
        self._day = day
        self._truth = truth
        self._rng = random.Random(f"markets {day.seed}")
        self._received_ms = day.start_ms
        self._plan: list[_Planned] = []
        self._live: list[SimulatedMarket] = []
        self._make_plan()

    def _make_plan(self) -> None:
        day, rng = self._day, self._rng
        markets = [self._market(index) for index in range(day.n_conditions + day.n_new)]
        first, late = markets[: day.n_conditions], markets[day.n_conditions :]
        for market in first:
            self._add(day.start_ms, "list", market)
        for market in late:
            self._add(self._moment(0.1, 0.6), "announce", market)
        resolved = rng.sample(range(len(first)), day.n_resolved)
        still_open = [index for index in range(len(first)) if index not in resolved]
        rng.shuffle(still_open)
        still_open.sort(key=SimulatedMarket.is_extreme)  # a jump near a limit would be a small one
        withheld = round(day.withheld_share * day.n_resolved)
        for rank, index in enumerate(resolved):
            self._add(self._moment(0.4, 0.9), "resolve", first[index], is_withheld=rank < withheld)
        for index in still_open[: day.n_jumps]:
            at = self._moment(day.jumps_after, 0.9)
            self._add(at, "jump", first[index])
            for number in range(1, day.burst_trades + 1):
                self._add(at + number * _BURST_SPACING_MS, "trade", first[index])

    def _market(self, index: int) -> SimulatedMarket:
        day = self._day
        return SimulatedMarket(
            index, rng=self._rng, sigma=day.sigma, truth=self._truth, start_ms=day.start_ms,
            listed=day.listed[index] if index < len(day.listed) else None,
        )  # fmt: skip

    def _moment(self, low: float, high: float) -> int:
        day = self._day
        return day.start_ms + int(self._rng.uniform(low, high) * day.duration_s * 1000)

    def _add(
        self, venue_ms: int, kind: str, market: SimulatedMarket, *, is_withheld: bool = False
    ) -> None:
        planned = _Planned(venue_ms, len(self._plan), kind, market, is_withheld)
        heapq.heappush(self._plan, planned)

    def records(self) -> Iterator[Record]:
        """Everything that the venue says, in order of receipt."""
        rng, live, end_ms = self._rng, self._live, self._day.end_ms
        at, per_ms = float(self._day.start_ms), self._day.updates_per_second / 1000
        yield from self._due(self._day.start_ms)
        while True:
            at += rng.expovariate(per_ms)
            if at >= end_ms:
                break
            venue_ms = int(at)
            if self._plan and self._plan[0].venue_ms <= venue_ms:
                yield from self._due(venue_ms)
            if live:
                frames = live[int(rng.random() * len(live))].step(venue_ms)
                received = self._receive(venue_ms)
                for frame in frames:
                    yield Record(received, "polymarket", frame)
        yield from self._due(end_ms)

    def _receive(self, venue_ms: int) -> int:
        self._received_ms = max(self._received_ms, venue_ms + 20 + int(self._rng.random() * 60))
        return self._received_ms

    def _due(self, venue_ms: int) -> Iterator[Record]:
        while self._plan and self._plan[0].venue_ms <= venue_ms:
            planned = heapq.heappop(self._plan)
            for channel, frame in self._happen(planned):
                yield Record(self._receive(planned.venue_ms), channel, frame)

    def _happen(self, planned: _Planned) -> list[tuple[str, bytes]]:
        market, at = planned.market, planned.venue_ms
        if planned.kind == "jump":
            return _told(market.jump(at, self._day.jump_logit))
        if planned.kind == "trade":
            return _told(market.trade(at))
        if planned.kind == "resolve":
            return self._resolve(market, at, planned.is_withheld)
        self._live.append(market)
        record = market.gamma(at)
        frames = [text.new_market(record, market.assets, venue_ms=at)]
        told = _told(frames if planned.kind == "announce" else [])
        return [("gamma", orjson.dumps(record)), *told, *_told(market.rebook(at))]

    def _resolve(
        self, market: SimulatedMarket, at: int, is_withheld: bool
    ) -> list[tuple[str, bytes]]:
        winner = int(self._rng.random() >= market.p)
        self._live.remove(market)
        if self._truth is not None:
            self._truth.resolutions.append(
                Resolution(market.condition, at, market.assets[winner], is_withheld)
            )
        record = market.gamma(at + _GAMMA_LAG_MS, winner=winner)
        told = [text.market_resolved(record, market.assets, winner, venue_ms=at)]
        return [*_told([] if is_withheld else told), ("gamma", orjson.dumps(record))]


def _told(frames: list[bytes]) -> list[tuple[str, bytes]]:
    return [("polymarket", frame) for frame in frames]
