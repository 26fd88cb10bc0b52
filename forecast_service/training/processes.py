"""Simulated markets: prices that are martingales, seen through ticks, inertia and missing quotes.

A market's price is the probability that a diffusing quantity ends beyond a strike (or inside a
band), given what has happened so far. Information comes at an uneven pace: quiet and busy regimes,
stochastic volatility, the day's rhythm, bursts. Near the event such prices drift to 0 or 1 by
themselves. What a venue records of them is rounded, sticky, noisy and incomplete.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import signal, special

from forecast_service.transform import FloatArray

Rng = np.random.Generator
FLOOR = 0.0005
CADENCES = np.array([60.0, 300.0, 300.0, 900.0, 3600.0, 3600.0, 86_400.0])


@dataclass(frozen=True, slots=True, eq=False)
class Simulated:
    """Simulated markets.

    Attributes:
        prices: [N, T] float32 in [FLOOR, 1 - FLOOR], NaN = missing.
        steps_to_event: [N, T] float32; NaN where the event is beyond what is known.
        step_seconds: [N] float32, length of a step: the day's rhythm follows from it.
    """

    prices: NDArray[np.float32]
    steps_to_event: NDArray[np.float32]
    step_seconds: NDArray[np.float32]


def simulate(rng: Rng, *, series: int, length: int) -> Simulated:
    """``series`` markets of ``length`` steps."""
    step_seconds = rng.choice(CADENCES, series)
    pace = _pace(rng, step_seconds, length)
    ends = rng.random(series) < 0.55
    end = np.where(ends, rng.integers(length // 3, length + 1, series), length)
    places = np.arange(length)
    pace = np.where(places < end[:, None], pace, 0.0)
    total = pace.sum(axis=1, keepdims=True)
    beyond = np.where(ends, 0.0, np.exp(rng.uniform(-1.0, 4.5, series)))[:, None] * total
    shocks = rng.standard_normal((series, length))
    heavy = rng.random((series, 1)) < 0.3
    shocks = np.where(heavy, shocks * np.sqrt(3.0 / rng.chisquare(5.0, (series, length))), shocks)
    state = np.cumsum(np.sqrt(pace) * shocks, axis=1)
    remaining = np.sqrt(total - np.cumsum(pace, axis=1) + beyond + 1e-9 * total + 1e-30)
    price = _probability(rng, state, remaining, np.sqrt(total + beyond))
    observed = _recorded(rng, price)
    observed = np.where(places <= end[:, None] + rng.integers(0, 24, (series, 1)), observed, np.nan)
    to_event = np.where(ends[:, None], end[:, None] - 1.0 - places, np.nan)
    to_event = np.where(to_event >= 0, to_event, np.nan)
    return Simulated(
        observed.astype(np.float32), to_event.astype(np.float32), step_seconds.astype(np.float32)
    )


def _pace(rng: Rng, step_seconds: FloatArray, length: int) -> FloatArray:
    """[N, T] information per step, > 0."""
    series = step_seconds.size
    shape = (series, length)
    column = (series, 1)
    speed = np.exp(rng.uniform(np.log(0.002), np.log(0.08), column))
    noise = rng.standard_normal((length + 200, series))
    persistence = 0.98
    slow = signal.lfilter([np.sqrt(1 - persistence**2)], [1.0, -persistence], noise, axis=0)[200:].T
    level = np.exp(slow * rng.uniform(0.0, 1.2, column))
    period = np.maximum(86_400.0 / step_seconds[:, None], 2.0)
    rhythm = np.exp(
        rng.uniform(0.0, 2.0, column)
        * np.sin(2 * np.pi * (np.arange(length) / period + rng.random(column)))
    )
    switches = rng.random(shape) < np.exp(rng.uniform(np.log(0.002), np.log(0.03), column))
    busy = (np.cumsum(switches, axis=1) + rng.integers(0, 2, column)) % 2
    contrast = np.exp(rng.uniform(0.0, 3.5, column)) * (rng.random(column) < 0.7) + 1.0
    bursts = (rng.random(shape) < np.exp(rng.uniform(np.log(0.0005), np.log(0.03), column))) * (
        rng.gamma(1.0, 1.0, shape) * np.exp(rng.uniform(0.0, 5.0, column))
    )
    # An event in play: nearly nothing before it begins, much while it lasts.
    begins = rng.uniform(0.3, 1.2, column) * length
    in_play = np.where(np.arange(length) > begins, np.exp(rng.uniform(1.0, 5.0, column)), 1.0)
    in_play = np.where(rng.random(column) < 0.35, in_play, 1.0)
    deviation = speed * level * rhythm * np.where(busy == 1, contrast, 1.0) * in_play
    return np.asarray(np.square(deviation) * (1.0 + bursts))


def _probability(
    rng: Rng, state: FloatArray, remaining: FloatArray, whole: FloatArray
) -> FloatArray:
    """[N, T] probability that the state ends above a strike, or inside a band."""
    series = state.shape[0]
    strike = rng.normal(0.0, 1.3, (series, 1)) * whole
    width = np.exp(rng.uniform(np.log(0.4), np.log(2.0), (series, 1))) * whole
    above = special.ndtr((state - strike) / remaining)
    inside = above - special.ndtr((state - strike - width) / remaining)
    price = np.where(rng.random((series, 1)) < 0.35, inside, above)
    return np.asarray(np.where(rng.random((series, 1)) < 0.5, price, 1.0 - price))


def _recorded(rng: Rng, price: FloatArray) -> FloatArray:
    """What a venue's quotes show of a price: noise, inertia, ticks, missing stretches."""
    series, length = price.shape
    column = (series, 1)
    room = 2.0 * np.sqrt(price * (1.0 - price))
    seen = price + _wander(rng, price, room) + room * _spikes(rng, price.shape)
    updated = rng.random(price.shape) < np.where(
        rng.random(column) < 0.6, rng.uniform(0.02, 1.0, column), 1.0
    )
    moved = np.abs(np.diff(seen, axis=1, prepend=seen[:, :1])) > rng.uniform(0.002, 0.05, column)
    updated |= moved & (rng.random(column) < 0.7)
    updated[:, 0] = True
    last = np.maximum.accumulate(np.where(updated, np.arange(length), 0), axis=1)
    seen = np.take_along_axis(seen, last, axis=1)
    tick = rng.choice([0.01, 0.005, 0.001, 0.0005, 1e-6], column, p=[0.3, 0.3, 0.2, 0.1, 0.1])
    fine_edges = rng.random(column) < 0.5
    tick = np.where(fine_edges & ((seen < 0.04) | (seen > 0.96)), np.minimum(tick, 0.001), tick)
    flicker = np.where(rng.random(column) < 0.5, np.exp(rng.uniform(-3.0, 0.0, column)), 0.0)
    flickers = rng.random(price.shape) < rng.uniform(0.01, 0.5, column)
    seen = seen + flickers * flicker * np.maximum(tick, 0.0005) * rng.standard_normal(price.shape)
    seen = np.clip(np.round(seen / tick) * tick, FLOOR, 1.0 - FLOOR)
    gaps = rng.random(price.shape) < np.exp(rng.uniform(np.log(1e-5), np.log(5e-3), column))
    lasting = rng.geometric(0.05, price.shape)
    until = np.maximum.accumulate(np.where(gaps, np.arange(length) + lasting, -1), axis=1)
    return np.where(until > np.arange(length), np.nan, seen)


def _wander(rng: Rng, price: FloatArray, room: FloatArray) -> FloatArray:
    """[N, T] a passing error of price: bounce of quotes, moves that lag behind or go too far."""
    series, length = price.shape
    column = (series, 1)
    sizes = np.where(rng.random(column) < 0.7, np.exp(rng.uniform(-7.5, -2.5, column)), 0.0)
    memory = np.where(rng.random(series) < 0.4, 0.0, 1.0 - np.exp(rng.uniform(-4.0, -0.3, series)))
    shocks = rng.standard_normal(price.shape) * sizes * np.sqrt(1.0 - memory**2)[:, None]
    rare = rng.random(column) < 0.5
    shocks *= room * np.where(rare, 3.0 * (rng.random(price.shape) < 1.0 / 9.0), 1.0)
    overreaction = np.where(rng.random(column) < 0.5, rng.uniform(-0.5, 0.6, column), 0.0)
    shocks[:, 1:] += overreaction * np.diff(price, axis=1)
    error = np.empty(price.shape)
    level = shocks[:, 0]
    for step in range(length):
        level = memory * level + shocks[:, step]
        error[:, step] = level
    return error


def _spikes(rng: Rng, shape: tuple[int, int]) -> FloatArray:
    """[N, T] quotes that leave for some steps and come back: a book swept, then filled again."""
    column = (shape[0], 1)
    starts = rng.random(shape) < np.exp(rng.uniform(np.log(5e-5), np.log(0.02), column))
    starts &= rng.random(column) < 0.6
    lasting = rng.geometric(np.exp(rng.uniform(np.log(0.04), 0.0, column)), shape)
    heights = rng.standard_normal(shape) * np.exp(rng.uniform(-5.0, -1.5, column))
    places = np.arange(shape[1])
    began = np.maximum.accumulate(np.where(starts, places, -1), axis=1)
    held = np.maximum(began, 0)
    inside = (began >= 0) & (places < began + np.take_along_axis(lasting, held, axis=1))
    return np.where(inside, np.take_along_axis(heights, held, axis=1), 0.0)
