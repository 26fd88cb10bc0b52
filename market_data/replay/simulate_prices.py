"""Price paths through a known price at T-24h, and the open interest beneath them.

A path is a logit random walk with jumps and dead stretches, run backwards from the T-24h price
into the past, and a noisy bridge from it to the outcome afterwards. Prices are rounded to the
tick, so most steps of a fine path do not move, as in recorded data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit

from market_data.replay.simulate import DAY, OPEN, RESOLVED, SimulationConfig, Truth

if TYPE_CHECKING:
    from numpy.typing import NDArray

_OPEN_INTEREST_USD = ((200.0, 8_000.0), (12_000.0, 90_000.0), (120_000.0, 2_000_000.0))
_SPLIT_WEIGHTS = np.array([0.5, 0.3, 0.35])
_MERGE_WEIGHT = 0.15


@dataclass(frozen=True, slots=True)
class Paths:
    """Histories of the YES side.

    Attributes:
        t: [N, S] int64 UTC seconds, strictly increasing along S.
        p: [N, S] float64 in (0, 1), multiples of the tick.
        cut: the column that stands exactly at T-24h (closed markets).
    """

    t: NDArray[np.int64]
    p: NDArray[np.float64]
    cut: int


@dataclass(frozen=True, slots=True)
class Flows:
    """Collateral flows of N markets, micro-USDC int64 and UTC seconds int64.

    Attributes:
        split_t, split_amount: [N, 3]; merge_t, merge_amount: [N].
        redeem_t: [N], 0 where nothing was redeemed; redeem_amount: [N].
    """

    split_t: NDArray[np.int64]
    split_amount: NDArray[np.int64]
    merge_t: NDArray[np.int64]
    merge_amount: NDArray[np.int64]
    redeem_t: NDArray[np.int64]
    redeem_amount: NDArray[np.int64]


def offsets(points: int) -> NDArray[np.int64]:
    """[points] int64 seconds relative to resolution; −24 h and −1 h are in it, the last is after.

    >>> offsets(4).tolist()
    [-172800, -86400, -3600, 600]
    """
    if points >= 48:
        cadence = 300 if points >= 400 else 3600
        before = -cadence * np.arange(points - 1, 0, -1)
    else:
        late = max(1, (points - 2) // 3)
        early = points - 1 - late
        far = np.linspace(min(early, 10) * DAY, DAY, early)
        near = np.linspace(DAY, 3600, late + 1)[1:]
        before = -np.concatenate([far, near]).astype(np.int64)
    return np.concatenate([before, [600]]).astype(np.int64)


def draw_paths(config: SimulationConfig, truth: Truth) -> Paths:
    """Histories for every market of ``truth``; a pure function of its arguments."""
    rng = np.random.default_rng([config.seed, 2])
    steps = offsets(config.snapshots_per_market)
    cut = int(np.flatnonzero(steps == -DAY)[0])
    is_open = truth.kind == OPEN
    anchor = np.where(is_open, int(config.as_of.timestamp()) - 900, truth.close_ts)
    t = anchor[:, None] + steps[None, :]
    x = np.concatenate(
        [_walk_back(rng, truth, steps[: cut + 1]), _bridge(rng, truth, steps[cut:])], axis=1
    )
    p = _quantise(_hold(rng, expit(x), cut, steps), truth.tick)
    p[:, cut] = truth.p
    settled = np.where(truth.y == 1, 1 - truth.tick, truth.tick)
    final = np.where(truth.kind == RESOLVED, settled, p[:, -2])
    p[:, -1] = np.where(is_open, p[:, -1], final)
    return Paths(t=t, p=np.round(p, 4), cut=cut)


def draw_flows(config: SimulationConfig, truth: Truth, paths: Paths) -> Flows:
    """Splits, a merge and a redemption; at T-24h their sum lies in the market's bucket."""
    rng = np.random.default_rng([config.seed, 3])
    n = len(truth.p)
    low, high = np.log(np.asarray(_OPEN_INTEREST_USD)[truth.liquidity]).T
    target = np.exp(low + (high - low) * rng.random(n)) * 1e6
    first, cut = paths.t[:, 0], paths.t[:, paths.cut]
    room = np.maximum(cut - 7200 - first, 2)
    split_t = np.stack(
        [first - 3600, first + (room * rng.random(n)).astype(int), first + room], axis=1
    )
    merge_t = first + room + 1800
    is_closed = truth.kind != OPEN
    return Flows(
        split_t=split_t.astype(np.int64),
        split_amount=(target[:, None] * _SPLIT_WEIGHTS).astype(np.int64),
        merge_t=merge_t.astype(np.int64),
        merge_amount=(target * _MERGE_WEIGHT).astype(np.int64),
        redeem_t=np.where(is_closed, truth.close_ts + 3600, 0).astype(np.int64),
        redeem_amount=(target * 0.8).astype(np.int64),
    )


def _walk_back(
    rng: np.random.Generator, truth: Truth, steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[N, k] logit prices before the cut; the column of the cut itself is left out."""
    n, k = len(truth.p), len(steps) - 1
    hours = np.diff(steps) / 3600.0
    rate = 0.05 * np.exp(0.5 * rng.standard_normal((n, 1), dtype=np.float32))
    noise = rng.standard_normal((n, k), dtype=np.float32)
    jumps = np.where(rng.random((n, k), dtype=np.float32) < 0.01, 0.5 * noise[:, ::-1], 0.0)
    moves = rate * np.sqrt(hours) * noise + jumps
    back: NDArray[np.float64] = np.cumsum(moves[:, ::-1], axis=1)[:, ::-1]
    start: NDArray[np.float64] = logit(truth.p)[:, None]
    return start + back


def _bridge(
    rng: np.random.Generator, truth: Truth, steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """[N, S − cut] logit prices from the cut on: towards the outcome, or nowhere."""
    n = len(truth.p)
    w = (np.minimum(steps, 0) + DAY) / DAY
    start = logit(truth.p)[:, None]
    goal = np.where(truth.y[:, None] == 1, 4.6, -4.6)
    goal = np.where(truth.kind[:, None] == RESOLVED, goal, start)
    turn = rng.beta(4.0, 1.5, size=(n, 1))
    drift = expit((w[None, :] - turn) / 0.04)
    drift = drift - drift[:, :1]
    rate = 0.25 * np.exp(0.4 * rng.standard_normal((n, 1), dtype=np.float32))
    noise = rng.standard_normal((n, len(w)), dtype=np.float32)
    noise *= np.sqrt(np.diff(w, prepend=0.0))
    walk = np.cumsum(noise, axis=1)
    walk -= w[None, :] * walk[:, -1:]
    out: NDArray[np.float64] = start + (goal - start) * drift + rate * walk
    return out


def _hold(
    rng: np.random.Generator, p: NDArray[np.float64], cut: int, steps: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Repeat the last price over dead stretches; the cut always moves, so nothing leaks past it."""
    fine = len(steps) > 2 and int(steps[1] - steps[0]) <= 600
    share = 0.3 if fine else 0.7
    moved = rng.random(p.shape, dtype=np.float32) < share
    moved[:, 0] = moved[:, cut] = True
    index = np.where(moved, np.arange(p.shape[1]), 0)
    return np.take_along_axis(p, np.maximum.accumulate(index, axis=1), axis=1)


def _quantise(p: NDArray[np.float64], tick: NDArray[np.float64]) -> NDArray[np.float64]:
    step = tick[:, None]
    out: NDArray[np.float64] = np.clip(np.round(p / step) * step, step, 1 - step)
    return out
