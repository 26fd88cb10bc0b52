"""Training samples: windows of simulated and recorded markets, mixed and varied."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from forecast_service.training.layout import CONTEXT, KNOTS
from forecast_service.training.processes import simulate
from forecast_service.training.recorded import RecordedSeries

Rng = np.random.Generator
Float32 = NDArray[np.float32]
_KNOTS = np.array(KNOTS)
_BEYOND = int(_KNOTS[-1])
LENGTH = 1000
"""Steps of a simulated market: the longest context and about as much again."""
CHUNK = 4000
"""Simulated markets that are made, and replaced, at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """A batch of windows.

    Attributes:
        context: [B, CONTEXT] float32 prices, NaN = missing, the last one finite.
        target: [B, KNOTS] float32 prices at the knots, NaN = missing.
        steps_to_event: [B] float32, NaN = unknown.
        step_seconds: [B] float32, length of a step.
    """

    context: Float32
    target: Float32
    steps_to_event: Float32
    step_seconds: Float32


class Source(Protocol):
    """Something that windows can be drawn from."""

    def draw(self, rng: Rng, count: int) -> Samples:
        """``count`` windows."""
        ...


class SimulatedMarkets:
    """A stock of simulated markets; `renew` replaces its oldest part."""

    def __init__(self, rng: Rng, chunks: int) -> None:
        self._prices = np.full((chunks * CHUNK, CONTEXT + LENGTH + _BEYOND), np.nan, np.float32)
        self._to_event = np.full((chunks * CHUNK, LENGTH), np.nan, np.float32)
        self._step_seconds = np.full(chunks * CHUNK, np.nan, np.float32)
        self._oldest = 0
        for _ in range(chunks):
            self.renew(rng)

    def renew(self, rng: Rng) -> None:
        """Simulates `CHUNK` markets in place of the oldest ones."""
        made = simulate(rng, series=CHUNK, length=LENGTH)
        rows = slice(self._oldest, self._oldest + CHUNK)
        self._prices[rows, CONTEXT : CONTEXT + LENGTH] = made.prices
        self._to_event[rows] = made.steps_to_event
        self._step_seconds[rows] = made.step_seconds
        self._oldest = (self._oldest + CHUNK) % len(self._prices)

    def draw(self, rng: Rng, count: int) -> Samples:
        """Windows at random origins where a price was seen."""
        row = rng.integers(0, len(self._prices), 2 * count)
        origin = rng.integers(12, LENGTH - 1, 2 * count)
        seen = np.flatnonzero(np.isfinite(self._prices[row, origin + CONTEXT]))[:count]
        row, origin = row[seen], origin[seen]
        return Samples(
            self._prices[row[:, None], (origin + 1)[:, None] + np.arange(CONTEXT)],
            self._prices[row[:, None], (origin + CONTEXT)[:, None] + _KNOTS],
            self._to_event[row, origin],
            self._step_seconds[row],
        )


class RecordedMarkets:
    """Recorded markets of one cadence up to an instant; what is later is no part of them."""

    def __init__(self, series: Sequence[RecordedSeries], until: float) -> None:
        self._step = float(series[0].step)
        parts: list[Float32] = []
        origins: list[NDArray[np.int64]] = []
        offset = 0
        for item in series:
            values = item.values[: max(int((until - item.start) // item.step), 0)]
            finite = np.flatnonzero(np.isfinite(values[:-12]))
            finite = finite[finite >= 8]
            if not finite.size:
                continue
            parts.append(np.pad(values, (CONTEXT, _BEYOND), constant_values=np.nan))
            origins.append(offset + CONTEXT + finite)
            offset += parts[-1].size
        self._flat = np.concatenate(parts).astype(np.float32)
        self._origins = np.concatenate(origins)

    def draw(self, rng: Rng, count: int) -> Samples:
        """Windows at random origins where a price was seen."""
        origin = self._origins[rng.integers(0, self._origins.size, count)]
        return Samples(
            self._flat[(origin + 1)[:, None] + np.arange(-CONTEXT, 0)],
            self._flat[origin[:, None] + _KNOTS],
            np.full(count, np.nan, np.float32),
            np.full(count, self._step, np.float32),
        )


def mix(rng: Rng, parts: Sequence[Samples]) -> Samples:
    """One batch of several, varied: shorter contexts, unknown events, YES and NO exchanged."""
    context = np.concatenate([part.context for part in parts])
    target = np.concatenate([part.target for part in parts])
    to_event = np.concatenate([part.steps_to_event for part in parts])
    count = len(context)
    kind = rng.random(count)
    length = np.where(kind < 0.45, 288, CONTEXT)
    length = np.where(kind > 0.75, rng.integers(12, 288, count), length)
    context = np.where(np.arange(CONTEXT) >= CONTEXT - length[:, None], context, np.float32(np.nan))
    to_event = np.where(rng.random(count) < 0.5, np.float32(np.nan), to_event)
    exchanged = rng.random(count) < 0.5
    context[exchanged] = 1.0 - context[exchanged]
    target[exchanged] = 1.0 - target[exchanged]
    step_seconds = np.concatenate([part.step_seconds for part in parts])
    return Samples(context, target, to_event, step_seconds)


def filled(context: Float32) -> tuple[Float32, Float32]:
    """Contexts without holes, and the mask of what was observed.

    Args:
        context: [B, T] prices, NaN = missing, at least one finite per row.

    Returns:
        [B, T] prices, missing ones filled with the one before (the first one at the start), and
        [B, T] 1 where a price was observed, else 0.
    """
    seen = np.isfinite(context)
    places = np.maximum.accumulate(np.where(seen, np.arange(context.shape[1]), -1), axis=1)
    places = np.where(places < 0, seen.argmax(axis=1)[:, None], places)
    return np.take_along_axis(context, places, axis=1), seen.astype(np.float32)
