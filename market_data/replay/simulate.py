"""A prediction-market venue with known truth, drawn from a seed.

The law of every resolved two-outcome market::

    P(outcome = 1 | p) = sigmoid(a + b · logit(p)),   p = its price 24 h before resolution

with slope ``b`` and intercept ``a`` known per segment (category × liquidity bucket). It holds
exactly at the T-24h cutoff, because p is drawn (and rounded to the tick) first, the outcome is
drawn from it, and only then is the price path drawn through p towards the outcome. At other
cutoffs (T-1h, DAILY) no law is promised. The one market "Other" of a negative-risk event has its
price solved from the rest and rounded to 0.0001, so there the law holds up to that rounding.

Dependence: events are independent. The binary siblings of one event share a Gaussian copula with
correlation ``sibling_correlation``; of the markets of a negative-risk event exactly one is YES.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import expit, logit, ndtr

if TYPE_CHECKING:
    from numpy.typing import NDArray

CATEGORIES = ("politics", "sports", "crypto", "economics", "science")
LIQUIDITY = ("LOW", "MID", "HIGH")

RESOLVED, OPEN, VOID, UNRESOLVED, MULTI_OUTCOME = range(5)
"""Kinds of market in ``Truth.kind``."""

KIND_LABELS = ("RESOLVED", "UNRESOLVED", "VOID", "UNRESOLVED", "MULTI_OUTCOME")
"""What ``market_data.labels`` must say of each kind (RESOLVED splits into TRUE and FALSE)."""

DAY = 86_400


@dataclass(frozen=True, slots=True)
class SegmentTruth:
    """True logistic miscalibration of one segment: ``sigmoid(intercept + slope · logit(p))``."""

    category: str
    liquidity: str
    slope: float
    intercept: float


def uniform_truth(slope: float = 1.0, intercept: float = 0.0) -> tuple[SegmentTruth, ...]:
    """The same law in every segment; the default is a perfectly calibrated venue.

    >>> uniform_truth()[0].slope
    1.0
    """
    return tuple(SegmentTruth(c, b, slope, intercept) for c in CATEGORIES for b in LIQUIDITY)


def default_truth() -> tuple[SegmentTruth, ...]:
    """A venue whose thin markets are biased and whose deep ones are nearly calibrated."""
    slopes = {
        "politics": (0.70, 0.85, 1.00),
        "sports": (1.00, 1.00, 1.00),
        "crypto": (1.40, 1.20, 1.05),
        "economics": (0.80, 0.95, 1.00),
        "science": (0.75, 0.90, 1.00),
    }
    shifts = {"politics": -0.20, "sports": 0.0, "crypto": 0.15, "economics": 0.10, "science": -0.10}
    depth = (1.0, 0.5, 0.0)
    return tuple(
        SegmentTruth(category, bucket, slopes[category][i], shifts[category] * depth[i] + 0.0)
        for category in CATEGORIES
        for i, bucket in enumerate(LIQUIDITY)
    )


@dataclass(frozen=True, slots=True)
class SimulationConfig:
    """What to draw.

    Attributes:
        n_markets: number of markets, over all events.
        snapshots_per_market: points of each price history, ≥ 4. From 400 on they stand 5 minutes
            apart, from 48 on one hour, below that they are sparse; each history has a point
            exactly at T-24h, one at T-1h and one after resolution (a trap for look-ahead).
        as_of: the instant at which the venue is asked; nothing later is in the archive.
        open_share: share of events that are still open at ``as_of``.
        span_days: resolutions are spread over this many days before ``as_of``.
        event_size_weights: weight of events with 1, 2, 3, … markets; ``(1.0,)`` makes every
            market its own event.
        neg_risk_share: share of the events with ≥ 3 markets of which exactly one is YES.
        void_share, unresolved_share, multi_outcome_share: shares of closed ordinary markets that
            end 50–50, without final prices, or have three or more outcomes.
        disputed_share: share of closed markets that were disputed before they resolved.
        sibling_correlation: copula correlation within an event, in [0, 1).
        logit_sd: standard deviation of the T-24h price in logit space.
        segments: the truth, one entry for each category × liquidity bucket.
        mirror_share: share of the yes/no markets that Kalshi and Manifold trade too.
    """

    seed: int = 7
    n_markets: int = 600
    snapshots_per_market: int = 100
    as_of: datetime = datetime(2026, 10, 1, tzinfo=UTC)
    open_share: float = 0.12
    span_days: int = 80
    event_size_weights: tuple[float, ...] = (0.62, 0.12, 0.10, 0.08, 0.05, 0.03)
    neg_risk_share: float = 0.7
    void_share: float = 0.015
    unresolved_share: float = 0.015
    multi_outcome_share: float = 0.01
    disputed_share: float = 0.04
    sibling_correlation: float = 0.3
    logit_sd: float = 1.6
    segments: tuple[SegmentTruth, ...] = field(default_factory=default_truth)
    mirror_share: float = 0.0

    def __post_init__(self) -> None:
        if self.n_markets < 1 or self.snapshots_per_market < 4:
            raise ValueError("n_markets must be >= 1 and snapshots_per_market >= 4")
        if not 0 <= self.sibling_correlation < 1:
            raise ValueError("sibling_correlation must lie in [0, 1)")
        named = {(s.category, s.liquidity) for s in self.segments}
        if named != {(c, b) for c in CATEGORIES for b in LIQUIDITY}:
            raise ValueError("segments must name each category x liquidity bucket once")


@dataclass(frozen=True, slots=True)
class Truth:
    """The drawn markets, columns of length N; the truth that a scorer should find again.

    Attributes:
        p: [N] float64 in (0, 1), price of the YES side at T-24h (open markets: somewhere).
        q: [N] float64, true probability of YES given p.
        y: [N] int8, the outcome that was drawn (hidden where kind is not RESOLVED).
        event: [N] int64, index of the event, ascending.
        category, liquidity: [N] int64 into CATEGORIES and LIQUIDITY, constant in an event.
        kind: [N] int64, RESOLVED, OPEN, VOID, UNRESOLVED or MULTI_OUTCOME.
        neg_risk, is_other, disputed: [N] bool.
        tick: [N] float64, price step.
        close_ts, end_ts: [N] int64 UTC seconds; close_ts is 0 where the market is open.
    """

    p: NDArray[np.float64]
    q: NDArray[np.float64]
    y: NDArray[np.int8]
    event: NDArray[np.int64]
    category: NDArray[np.int64]
    liquidity: NDArray[np.int64]
    kind: NDArray[np.int64]
    neg_risk: NDArray[np.bool_]
    is_other: NDArray[np.bool_]
    disputed: NDArray[np.bool_]
    tick: NDArray[np.float64]
    close_ts: NDArray[np.int64]
    end_ts: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class CutoffSample:
    """What a scorer sees at T-24h: resolved two-outcome markets alone.

    Attributes:
        p: [M] float64 price; y: [M] int8 outcome; event: [M] int64; close_ts: [M] int64 seconds.
        category, liquidity: [M] int64 into CATEGORIES and LIQUIDITY.
    """

    p: NDArray[np.float64]
    y: NDArray[np.int8]
    event: NDArray[np.int64]
    close_ts: NDArray[np.int64]
    category: NDArray[np.int64]
    liquidity: NDArray[np.int64]


def sample_cutoffs(config: SimulationConfig) -> CutoffSample:
    """(p, y, event, segment) at T-24h, from the draw that the full archive is made of.

    About a millisecond for 600 markets; no path and no record is built.
    """
    truth = draw_truth(config)
    kept = truth.kind == RESOLVED
    return CutoffSample(
        p=truth.p[kept],
        y=truth.y[kept],
        event=truth.event[kept],
        close_ts=truth.close_ts[kept],
        category=truth.category[kept],
        liquidity=truth.liquidity[kept],
    )


def draw_truth(config: SimulationConfig) -> Truth:
    """Draw events, prices at T-24h, outcomes and times; a pure function of ``config``."""
    rng = np.random.default_rng([config.seed, 1])
    event = _draw_events(config, rng)
    n_events = int(event[-1]) + 1
    category = rng.integers(len(CATEGORIES), size=n_events)[event]
    liquidity = rng.choice(len(LIQUIDITY), size=n_events, p=(0.4, 0.35, 0.25))[event]
    slope, intercept = _laws(config, category, liquidity)
    draft = _draw_prices(config, rng, event, slope, intercept)
    y = _draw_outcomes(config, rng, event, draft)
    is_open = (rng.random(n_events) < config.open_share)[event]
    kind = _draw_kinds(config, rng, is_open, draft.neg_risk)
    close_ts, end_ts = _draw_times(config, rng, event, is_open, draft.neg_risk)
    return Truth(
        p=draft.p,
        q=draft.q,
        y=y,
        event=event,
        category=category,
        liquidity=liquidity,
        kind=kind,
        neg_risk=draft.neg_risk,
        is_other=draft.is_other,
        disputed=(rng.random(len(event)) < config.disputed_share) & (kind == RESOLVED),
        tick=draft.tick,
        close_ts=close_ts,
        end_ts=end_ts,
    )


def with_truth(config: SimulationConfig, slope: float, intercept: float = 0.0) -> SimulationConfig:
    """``config`` with one law in every segment."""
    return replace(config, segments=uniform_truth(slope, intercept))


@dataclass(frozen=True, slots=True)
class _Draft:
    """Prices and laws before outcomes are drawn; columns as in ``Truth``."""

    p: NDArray[np.float64]
    q: NDArray[np.float64]
    tick: NDArray[np.float64]
    neg_risk: NDArray[np.bool_]
    is_other: NDArray[np.bool_]


def _draw_events(config: SimulationConfig, rng: np.random.Generator) -> NDArray[np.int64]:
    weights = np.asarray(config.event_size_weights, dtype=np.float64)
    sizes = 1 + rng.choice(len(weights), size=config.n_markets, p=weights / weights.sum())
    return np.repeat(np.arange(config.n_markets), sizes)[: config.n_markets]


def _laws(
    config: SimulationConfig, category: NDArray[np.int64], liquidity: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    table = {(s.category, s.liquidity): (s.slope, s.intercept) for s in config.segments}
    grid = np.array([[table[(c, b)] for b in LIQUIDITY] for c in CATEGORIES])
    laws = grid[category, liquidity]
    return laws[:, 0], laws[:, 1]


def _draw_prices(
    config: SimulationConfig,
    rng: np.random.Generator,
    event: NDArray[np.int64],
    slope: NDArray[np.float64],
    intercept: NDArray[np.float64],
) -> _Draft:
    n, n_events = len(event), int(event[-1]) + 1
    sizes = np.bincount(event, minlength=n_events)
    is_other = np.r_[event[1:] != event[:-1], True]  # the last market of each event
    neg_risk = ((rng.random(n_events) < config.neg_risk_share) & (sizes >= 3))[event]
    is_other &= neg_risk
    tick = np.where(neg_risk | (rng.random(n) < 0.25), 0.001, 0.01)
    free = expit(config.logit_sd * rng.standard_normal(n))
    mass = np.where(is_other, 0.0, rng.standard_gamma(0.9, n) + 1e-3)
    share = 0.88 * mass / np.maximum(np.bincount(event, mass, n_events), 1e-12)[event]
    solved = expit((logit(np.clip(share, 1e-9, 0.999)) - intercept) / slope)
    p = np.where(neg_risk, solved, free)
    p = np.clip(np.round(p / tick) * tick, tick, 1 - tick)
    q = expit(intercept + slope * logit(p))
    named = np.bincount(event, np.where(neg_risk & ~is_other, q, 0.0), n_events)[event]
    neg_risk &= named < 0.98
    is_other &= neg_risk
    rest = np.clip(1.0 - named, 0.02, 0.98)
    p_other = np.round(expit((logit(rest) - intercept) / slope), 4)
    return _Draft(
        p=np.round(np.where(is_other, np.clip(p_other, 1e-4, 1 - 1e-4), p), 4),
        q=np.where(is_other, rest, q),
        tick=np.where(is_other, 0.0001, tick),
        neg_risk=neg_risk,
        is_other=is_other,
    )


def _draw_outcomes(
    config: SimulationConfig, rng: np.random.Generator, event: NDArray[np.int64], draft: _Draft
) -> NDArray[np.int8]:
    """Copula draws for ordinary markets, one categorical draw for each negative-risk event."""
    n, n_events = len(event), int(event[-1]) + 1
    rho = config.sibling_correlation
    shared = rng.standard_normal(n_events)[event]
    own = rng.standard_normal(n)
    ordinary = ndtr(np.sqrt(rho) * shared + np.sqrt(1 - rho) * own) < draft.q
    cumulative = np.cumsum(draft.q)
    starts = np.r_[True, event[1:] != event[:-1]]
    offset = (cumulative - draft.q)[starts][event]
    upper = cumulative - offset
    dart = rng.random(n_events)[event]
    winner = (upper - draft.q <= dart) & ((dart < upper) | draft.is_other)
    return np.where(draft.neg_risk, winner, ordinary).astype(np.int8)


def _draw_kinds(
    config: SimulationConfig,
    rng: np.random.Generator,
    is_open: NDArray[np.bool_],
    neg_risk: NDArray[np.bool_],
) -> NDArray[np.int64]:
    u = rng.random(len(is_open))
    edges = np.cumsum([config.void_share, config.unresolved_share, config.multi_outcome_share])
    special = np.array([VOID, UNRESOLVED, MULTI_OUTCOME, RESOLVED])[np.searchsorted(edges, u)]
    kind = np.where(neg_risk, RESOLVED, special)
    return np.where(is_open, OPEN, kind).astype(np.int64)


def _draw_times(
    config: SimulationConfig,
    rng: np.random.Generator,
    event: NDArray[np.int64],
    is_open: NDArray[np.bool_],
    neg_risk: NDArray[np.bool_],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    n, n_events = len(event), int(event[-1]) + 1
    as_of = int(config.as_of.timestamp())
    base = as_of - 7200 - rng.integers(0, config.span_days * DAY, size=n_events)[event]
    close = base - np.where(neg_risk, 0, rng.integers(0, 6 * 3600, size=n))
    lead = rng.integers(-2 * 3600, 12 * 3600, size=n)  # a market may close before or after its end
    ahead = as_of + rng.integers(1800, 20 * DAY, size=n)
    end = np.where(is_open, ahead, close + lead)
    end -= end % 60
    return np.where(is_open, 0, close).astype(np.int64), end.astype(np.int64)
