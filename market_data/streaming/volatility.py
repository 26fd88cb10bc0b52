"""Volatility triggers: a market has moved, or is traded, far more than it was.

Moves are measured in probability and in log-odds, against the range of a sliding window: a spike
that returns within the window counts. Each look leaves diagnostics, whether it fired or not.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from market_data.streaming.bars import Bar

_EPS = 1e-4


class TriggerKind(StrEnum):
    """What fired."""

    MOVE = "MOVE"
    """The mid ranged too far within the window."""
    BAR_RANGE = "BAR_RANGE"
    """The mid ranged too far within a closed minute."""
    VOLUME = "VOLUME"
    """A closed minute traded many times what minutes before it did."""
    TIMER = "TIMER"
    """It was time."""
    MANUAL = "MANUAL"
    """Somebody asked."""


class Verdict(StrEnum):
    """Why a look fired, or did not."""

    FIRED = "FIRED"
    MERGED = "MERGED"
    """It would have fired, and went into the trigger of less than a cooldown ago."""
    BELOW_THRESHOLD = "BELOW_THRESHOLD"
    TOO_FEW_SAMPLES = "TOO_FEW_SAMPLES"
    SPREAD_TOO_WIDE = "SPREAD_TOO_WIDE"
    DEPTH_TOO_THIN = "DEPTH_TOO_THIN"
    ONE_SIDED_BOOK = "ONE_SIDED_BOOK"
    SUPPRESSED = "SUPPRESSED"
    """The feed is stale or the reader too far behind; the state says which."""


@dataclass(frozen=True, slots=True)
class VolatilityRules:
    """When a market counts as moving.

    Attributes:
        window_ms: length of the sliding window.
        min_move: range within the window that fires, in probability.
        min_move_logit: the same in log-odds; both must be passed.
        min_relative: range over the lowest price that fires, of what is no probability.
        bar_range: range within a closed minute that fires, in probability.
        volume_ratio: volume of a closed minute over the mean of the minutes before it that fires.
        min_history: minutes before that a ratio needs.
        history: minutes that the mean is over.
        min_samples: quotes in the window, or the minute, that a move needs.
        max_spread: widest spread at which a mid means something.
        min_depth: contracts at each best price, where the message says; less is an empty book.
        cooldown_ms: triggers within it, of the venue's time, merge into the one before.
    """

    window_ms: int = 60_000
    min_move: float = 0.03
    min_move_logit: float = 0.15
    min_relative: float = 0.01
    bar_range: float = 0.03
    volume_ratio: float = 5.0
    min_history: int = 10
    history: int = 60
    min_samples: int = 3
    max_spread: float = 0.05
    min_depth: float = 10.0
    cooldown_ms: int = 300_000


class Diagnostics(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What a look saw.

    Attributes:
        range_pp, range_logit: range of the mid, in probability and log-odds.
        delta_pp: now against the earlier one of the highest and the lowest mid of the window.
        threshold: what the deciding number was held against.
        volume, mean_volume, volume_ratio: contracts; NaN where not looked at.
        samples: quotes seen.
        spread, depth: of the book now; NaN where unknown.
        age_ms: receipt after the venue's time.
        verdict: why it fired or not; reason: what suppressed it, or "".
    """

    range_pp: float
    range_logit: float
    delta_pp: float
    threshold: float
    volume: float
    mean_volume: float
    volume_ratio: float
    samples: int
    spread: float
    depth: float
    age_ms: int
    verdict: str
    reason: str = ""

    def said(self, verdict: Verdict, reason: str = "") -> Diagnostics:
        """The same look with another verdict."""
        return msgspec.structs.replace(self, verdict=verdict, reason=reason)


class Trigger(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """A market is to be looked at.

    Attributes:
        trigger_id: derived from market, kind and the venue's time, so the same one has one id.
        ms: the venue's time of what fired.
        merged: looks that would have fired within the cooldown of the trigger before it.
    """

    trigger_id: str
    market_id: str
    kind: str
    ms: int
    diagnostics: Diagnostics
    merged: int = 0


class Window:
    """The highest and the lowest mid of the last ``window_ms``, exactly, in constant time each.

    Attributes:
        samples: mids since the window last held a single one.

    >>> window = Window(1_000)
    >>> [window.push(ms, mid) for ms, mid in ((0, 0.5), (400, 0.75), (900, 0.5), (1_500, 0.5))]
    [0.0, 0.25, 0.25, 0.0]
    """

    __slots__ = ("_highs", "_lows", "_window_ms", "samples")

    def __init__(self, window_ms: int) -> None:
        self._window_ms = window_ms
        self._highs: deque[tuple[int, float]] = deque()
        self._lows: deque[tuple[int, float]] = deque()
        self.samples = 0

    def push(self, ms: int, mid: float) -> float:
        """Takes a mid, not older than those before, and gives the range of the window."""
        highs, lows = self._highs, self._lows
        while highs and highs[-1][1] <= mid:
            highs.pop()
        while lows and lows[-1][1] >= mid:
            lows.pop()
        pair = (ms, mid)
        highs.append(pair)
        lows.append(pair)
        oldest = ms - self._window_ms
        while highs[0][0] <= oldest:
            highs.popleft()
        while lows[0][0] <= oldest:
            lows.popleft()
        self.samples = 1 if highs[0] is lows[0] else self.samples + 1
        return highs[0][1] - lows[0][1]

    @property
    def high(self) -> float:
        """Highest mid."""
        return self._highs[0][1]

    @property
    def low(self) -> float:
        """Lowest mid."""
        return self._lows[0][1]

    @property
    def earlier(self) -> float:
        """The highest or the lowest mid, whichever came first."""
        return min(self._highs[0], self._lows[0])[1]


def logit(price: float) -> float:
    """Log-odds of a price, clipped to [1e-4, 1 − 1e-4].

    >>> logit(0.5)
    0.0
    """
    clipped = min(max(price, _EPS), 1.0 - _EPS)
    return math.log(clipped / (1.0 - clipped))


def look_at_marks(window: Window, price: float, rules: VolatilityRules, age_ms: int) -> Diagnostics:
    """Judges a window of prices that are no probabilities, by relative range."""
    moved = window.high / window.low - 1.0
    verdict = Verdict.FIRED if moved >= rules.min_relative else Verdict.BELOW_THRESHOLD
    if verdict is Verdict.FIRED and window.samples < rules.min_samples:
        verdict = Verdict.TOO_FEW_SAMPLES
    return Diagnostics(
        moved, math.log(window.high / window.low), price / window.earlier - 1.0, rules.min_relative,
        math.nan, math.nan, math.nan, window.samples, math.nan, math.nan, age_ms, verdict,
    )  # fmt: skip


def look_at_window(
    window: Window, mid: float, book: Book, rules: VolatilityRules, age_ms: int
) -> Diagnostics:
    """Judges a window of probabilities as it stands."""
    range_logit = logit(window.high) - logit(window.low)
    moved = window.high - window.low
    verdict = book.verdict(rules)
    if moved < rules.min_move or range_logit < rules.min_move_logit:
        verdict = Verdict.BELOW_THRESHOLD
    elif window.samples < rules.min_samples:
        verdict = Verdict.TOO_FEW_SAMPLES
    return Diagnostics(
        moved, range_logit, mid - window.earlier, rules.min_move, math.nan, math.nan, math.nan,
        window.samples, book.spread, book.depth, age_ms, verdict,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Book:
    """The best prices of a market now; NaN where a side is empty or a size not known."""

    bid: float
    ask: float
    bid_size: float
    ask_size: float

    @property
    def spread(self) -> float:
        """Ask minus bid."""
        return self.ask - self.bid

    @property
    def depth(self) -> float:
        """The smaller size of the two; NaN where neither is known."""
        known = [one for one in (self.bid_size, self.ask_size) if one == one]
        return min(known) if known else math.nan

    def verdict(self, rules: VolatilityRules) -> Verdict:
        """`Verdict.FIRED` where its mid means something."""
        if math.isnan(self.bid) or math.isnan(self.ask):
            return Verdict.ONE_SIDED_BOOK
        if self.spread > rules.max_spread:
            return Verdict.SPREAD_TOO_WIDE
        if self.depth < rules.min_depth:
            return Verdict.DEPTH_TOO_THIN
        return Verdict.FIRED


def look_at_bar(
    bar: Bar, volumes: deque[int], book: Book, rules: VolatilityRules
) -> tuple[TriggerKind, Diagnostics]:
    """Judges a closed minute by its range, and by its volume against the minutes before it.

    Args:
        volumes: of the minutes before, millionths of a contract, empty minutes as zeros.
    """
    ranged = bar.high - bar.low if bar.quote_count else 0.0
    mean = sum(volumes) / len(volumes) if volumes else math.nan
    ratio = bar.volume / mean if mean and mean == mean else math.nan
    kind, threshold, verdict = TriggerKind.BAR_RANGE, rules.bar_range, book.verdict(rules)
    if ranged >= rules.bar_range:
        if bar.quote_count < rules.min_samples:
            verdict = Verdict.TOO_FEW_SAMPLES
    elif ratio >= rules.volume_ratio:
        kind, threshold = TriggerKind.VOLUME, rules.volume_ratio
        if len(volumes) < rules.min_history:
            verdict = Verdict.TOO_FEW_SAMPLES
    else:
        verdict = Verdict.BELOW_THRESHOLD
    spread_logit = logit(bar.high) - logit(bar.low) if bar.quote_count else 0.0
    return kind, Diagnostics(
        ranged, spread_logit, bar.close - bar.open, threshold, bar.contracts, mean / 1e6, ratio,
        bar.quote_count, book.spread, book.depth, 0, verdict,
    )  # fmt: skip
