"""One simulated market: a log-odds walk on the tick grid, its book, and what it says of them.

The walk moves a target; the best prices follow it one tick per message, as order books do, and a
jump replaces the whole book. The second asset mirrors the first one. What happened is told to a
``Truth`` as it is written into frames.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import NamedTuple

import orjson

from market_data.replay import stream_simulate_text as text

_LIMIT = 4.6
"""Bound of the log-odds: prices stay within 0.01 and 0.99."""

_DEPTH = 10
_COARSE, _FINE = 10, 1
_P_TRADE, _P_EMPTY, _P_BOOK_AFTER_TRADE, _P_SEVERAL_FILLS, _P_NEW_SPREAD = (
    0.15, 0.001, 0.05, 0.03, 0.02,
)  # fmt: skip
_OTHER = {"BUY": "SELL", "SELL": "BUY"}


class Trade(NamedTuple):
    """One fill as the venue told it; ``nth`` counts equal fills of one frame from 0."""

    condition: str
    asset: str
    venue_ms: int
    price: str
    size: str
    side: str
    nth: int


class Best(NamedTuple):
    """The best prices of an asset from ``venue_ms`` on; "0" and "1" stand for an empty side."""

    asset: str
    venue_ms: int
    bid: str
    ask: str


class Resolution(NamedTuple):
    """How a market ended, and whether the stream withheld it."""

    condition: str
    venue_ms: int
    winning_asset: str
    is_withheld: bool


class Episode(NamedTuple):
    """A planted jump: mid prices of the first asset before and after it."""

    condition: str
    asset: str
    venue_ms: int
    mid_before: float
    mid_after: float


@dataclass(slots=True)
class Truth:
    """What really happened on a simulated day, in order of time.

    Attributes:
        assets: the two assets of each condition.
    """

    assets: dict[str, tuple[str, str]] = field(default_factory=dict)
    trades: list[Trade] = field(default_factory=list)
    best: list[Best] = field(default_factory=list)
    resolutions: list[Resolution] = field(default_factory=list)
    episodes: list[Episode] = field(default_factory=list)


class Listed(NamedTuple):
    """A market that is known already: its ids, and the price of its first asset."""

    gamma_id: str
    condition: str
    assets: tuple[str, str]
    price: float


class SimulatedMarket:
    """A market and its book; every method returns the frames that tell of what it did."""

    __slots__ = (
        "_ask", "_ask_depth", "_bid", "_bid_depth", "_last", "_last_ms", "_number", "_rng",
        "_sigma", "_spread", "_tick", "_truth", "_x", "assets", "condition", "gamma_id",
    )  # fmt: skip

    def __init__(
        self, index: int, *, rng: random.Random, sigma: float, truth: Truth | None, start_ms: int,
        listed: Listed | None = None,
    ) -> None:  # fmt: skip
        self.gamma_id = str(7_000_000 + index)
        self.condition = f"0x{rng.getrandbits(256):064x}"
        first, second = (str(10**76 + rng.getrandbits(250)) for _ in range(2))
        self.assets = (first, second)
        self._rng = rng
        self._sigma = sigma
        self._truth = truth
        self._x = rng.uniform(-1.5, 1.5)
        if self.is_extreme(index):
            self._x = rng.choice((-1, 1)) * rng.uniform(2.6, 3.1)
        if listed is not None:
            self.gamma_id, self.condition, self.assets = listed[:3]
            price = min(max(listed.price, 0.02), 0.98)
            self._x = math.log(price / (1.0 - price))
        self._spread = 1 + rng.randrange(3)
        self._tick = _COARSE
        self._last_ms = start_ms
        self._number = index << 64
        self._bid = self._ask = self._last = 500
        self._bid_depth = self._ask_depth = 0
        if truth is not None:
            truth.assets[self.condition] = self.assets

    @staticmethod
    def is_extreme(index: int) -> bool:
        """Whether a market begins near a limit of the prices, as every fifth does."""
        return index % 5 == 4

    @property
    def mid(self) -> float:
        """Middle of the best prices of the first asset, in [0, 1]."""
        return (self._bid + self._ask) / 2000

    @property
    def p(self) -> float:
        """The walk's probability of the first outcome."""
        return 1.0 / (1.0 + math.exp(-self._x))

    def rebook(self, venue_ms: int) -> list[bytes]:
        """A whole book about the walk's price, on both assets, and its best prices."""
        self._bid, self._ask = self._target()
        self._bid_depth = min(_DEPTH, self._bid // self._tick)
        self._ask_depth = min(_DEPTH, (1000 - self._ask) // self._tick)
        return [*self._books(venue_ms), *self._told_best(venue_ms)]

    def jump(self, venue_ms: int, logit: float) -> list[bytes]:
        """A move by ``logit`` towards the middle and beyond, that stays."""
        before = self.mid
        self._walk(venue_ms)
        self._x += -logit if self._x > 0 else logit
        frames = self.rebook(venue_ms)
        if self._truth is not None:
            episode = Episode(self.condition, self.assets[0], venue_ms, before, self.mid)
            self._truth.episodes.append(episode)
        return frames

    def step(self, venue_ms: int) -> list[bytes]:
        """Ordinary activity: the walk goes on, and one thing happens."""
        self._walk(venue_ms)
        if self._bid == 0 or self._ask == 1000:
            return self.rebook(venue_ms)
        if self._tick == _COARSE and not 0.04 <= self.p <= 0.96:
            return self._refine(venue_ms)
        chance = self._rng.random()
        if chance < _P_TRADE:
            return self.trade(venue_ms)
        if chance < _P_TRADE + _P_EMPTY:
            return self._empty(venue_ms)
        if chance < _P_TRADE + _P_EMPTY + _P_NEW_SPREAD:
            self._spread = 1 + int(self._rng.random() * 3)
        bid, ask = self._target()
        if abs(bid - self._bid) > 3 * self._tick:
            return self.rebook(venue_ms)
        if ask != self._ask and (ask > self._ask or ask > self._bid):
            return self._move_ask(venue_ms, up=ask > self._ask)
        if bid != self._bid:
            return self._move_bid(venue_ms, up=bid > self._bid)
        return self._deepen(venue_ms)

    def trade(self, venue_ms: int) -> list[bytes]:
        """One trade at a best price, now and then of several equal fills."""
        rng = self._rng
        if self._bid == 0 or self._ask == 1000:
            return self.rebook(venue_ms)
        side = "BUY" if rng.random() < 0.5 else "SELL"
        price = self._ask if side == "BUY" else self._bid
        self._last = price
        asset = self.assets[0]
        if rng.random() < 0.3:
            asset, side, price = self.assets[1], _OTHER[side], 1000 - price
        size = f"{1 + rng.random() * 499:.2f}"
        times = 1 if rng.random() >= _P_SEVERAL_FILLS else 2 + int(rng.random() * 2)
        self._number += 1
        if self._truth is not None:
            self._truth.trades.extend(
                Trade(self.condition, asset, venue_ms, text.PRICE[price], size, side, nth)
                for nth in range(times)
            )
        told = text.last_trade_price(
            self.condition, asset, (price, size, side),
            venue_ms=venue_ms, number=self._number, times=times,
        )  # fmt: skip
        after = self._books(venue_ms) if rng.random() < _P_BOOK_AFTER_TRADE else []
        return [told, *after]

    def gamma(self, venue_ms: int, *, winner: int | None = None) -> dict[str, object]:
        """The market's REST record at a time; ``winner`` is 0 or 1 once it has ended."""
        is_closed = winner is not None
        paid = [float(winner == 0), float(winner == 1)] if is_closed else [0.5, 0.5]
        now = datetime.fromtimestamp(venue_ms / 1e3, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        record: dict[str, object] = {
            "id": self.gamma_id,
            "question": f"Will simulated market {self.gamma_id} happen?",
            "conditionId": self.condition,
            "slug": f"simulated-{self.gamma_id}",
            "outcomes": '["Yes", "No"]',
            "outcomePrices": orjson.dumps([f"{price:g}" for price in paid]).decode(),
            "clobTokenIds": orjson.dumps(self.assets).decode(),
            "endDate": "2027-12-31T00:00:00Z",
            "createdAt": "2026-01-01T00:00:00Z",
            "updatedAt": now,
            "active": True,
            "closed": is_closed,
            "enableOrderBook": not is_closed,
            "orderPriceMinTickSize": self._tick / 1000,
            "events": [{"id": f"9{self.gamma_id}"}],
        }
        if is_closed:
            record |= {"closedTime": now, "umaResolutionStatus": "resolved"}
        return record

    def _walk(self, venue_ms: int) -> None:
        seconds = max(venue_ms - self._last_ms, 0) / 1000
        self._last_ms = venue_ms
        x = self._x + self._sigma * math.sqrt(seconds) * self._rng.gauss(0.0, 1.0)
        self._x = min(max(x, -_LIMIT), _LIMIT)

    def _target(self) -> tuple[int, int]:
        """Best bid and ask about the walk's price, one to three ticks apart."""
        tick, spread = self._tick, self._spread * self._tick
        bid = int((self.p * 1000 - spread / 2) / tick) * tick
        bid = min(max(bid, tick), 1000 - tick - spread)
        return bid, bid + spread

    def _refine(self, venue_ms: int) -> list[bytes]:
        self._tick = _FINE
        changes = [
            text.tick_size_change(self.condition, asset, _COARSE, _FINE, venue_ms=venue_ms)
            for asset in self.assets
        ]
        return changes + self.rebook(venue_ms)

    def _empty(self, venue_ms: int) -> list[bytes]:
        """One side of the book is gone until the market's next message."""
        if self._rng.random() < 0.5:
            self._bid, self._bid_depth = 0, 0
        else:
            self._ask, self._ask_depth = 1000, 0
        return [*self._books(venue_ms), *self._told_best(venue_ms)]

    def _move_bid(self, venue_ms: int, *, up: bool) -> list[bytes]:
        if up:
            self._bid += self._tick
            self._bid_depth += 1
            return self._changed(venue_ms, ("BUY", self._bid, self._size()))
        if self._bid_depth <= 2:
            return self.rebook(venue_ms)
        gone = self._bid
        self._bid -= self._tick
        self._bid_depth -= 1
        return self._changed(venue_ms, ("BUY", gone, "0"))

    def _move_ask(self, venue_ms: int, *, up: bool) -> list[bytes]:
        if not up:
            self._ask -= self._tick
            self._ask_depth += 1
            return self._changed(venue_ms, ("SELL", self._ask, self._size()))
        if self._ask_depth <= 2:
            return self.rebook(venue_ms)
        gone = self._ask
        self._ask += self._tick
        self._ask_depth -= 1
        return self._changed(venue_ms, ("SELL", gone, "0"))

    def _changed(self, venue_ms: int, level: tuple[str, int, str]) -> list[bytes]:
        return [self._level(venue_ms, level), *self._told_best(venue_ms)]

    def _deepen(self, venue_ms: int) -> list[bytes]:
        """Another size behind the best prices."""
        chance = self._rng.random()
        if chance < 0.5:
            price = self._bid - int(chance * 2 * self._bid_depth) * self._tick
            return [self._level(venue_ms, ("BUY", price, self._size()))]
        price = self._ask + int((chance * 2 - 1) * self._ask_depth) * self._tick
        return [self._level(venue_ms, ("SELL", price, self._size()))]

    def _level(self, venue_ms: int, level: tuple[str, int, str]) -> bytes:
        self._number += 1
        return text.price_change(
            self.condition, self.assets,
            level=level, best=(self._bid, self._ask), at=(venue_ms, self._number),
        )  # fmt: skip

    def _told_best(self, venue_ms: int) -> list[bytes]:
        bid, ask = self._bid, self._ask
        sides = ((self.assets[0], bid, ask), (self.assets[1], 1000 - ask, 1000 - bid))
        if self._truth is not None:
            self._truth.best.extend(
                Best(asset, venue_ms, text.PRICE[low], text.PRICE[high])
                for asset, low, high in sides
            )
        return [
            text.best_bid_ask(self.condition, asset, low, high, venue_ms=venue_ms)
            for asset, low, high in sides
        ]

    def _books(self, venue_ms: int) -> list[bytes]:
        tick = self._tick
        bids = [(self._bid - tick * k, self._size()) for k in range(self._bid_depth)]
        asks = [(self._ask + tick * k, self._size()) for k in range(self._ask_depth)]
        mirrored = (
            [(1000 - price, size) for price, size in asks],
            [(1000 - price, size) for price, size in bids],
        )
        self._number += 2
        return [
            text.book(
                self.condition, asset, sides,
                at=(venue_ms, self._number + k), tick=tick, last=abs(1000 * k - self._last),
            )
            for k, (asset, sides) in enumerate(
                zip(self.assets, ((bids[::-1], asks[::-1]), mirrored), strict=True)
            )
        ]  # fmt: skip

    def _size(self) -> str:
        return str(5 + int(self._rng.random() * 2000))
