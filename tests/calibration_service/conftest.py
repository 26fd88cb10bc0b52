"""Resolved histories with known truth: events of several markets, ties, skewed categories."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from scipy import special

DAY = 86_400 * 10**6


@dataclass(frozen=True, slots=True)
class History:
    """Rows [N] of markets of events; ``resolved`` is per event [E], UTC microseconds."""

    p: np.ndarray
    y: np.ndarray
    event: np.ndarray
    market: np.ndarray
    category: np.ndarray
    resolved: np.ndarray
    chance: np.ndarray

    def frame(self):
        times = pl.from_epoch(pl.Series(self.resolved[self.event]), time_unit="us")
        return pl.DataFrame(
            {
                "event_id": [f"polymarket:{e:06d}" for e in self.event],
                "market_id": [f"polymarket:{m:06d}" for m in self.market],
                "category": np.array(["sports", "politics", "crypto", "science"])[self.category],
                "liquidity_bucket": np.array(["LOW", "MID", "HIGH"])[self.event % 3],
                "tte_seconds": np.where(self.event % 2 == 0, 3_600.0, 86_000.0),
                "p_yes": self.p,
                "outcome_yes": self.y,
                "resolved_at": times.dt.replace_time_zone("UTC"),
            }
        )


def _prices(rng, n, law):
    match law:
        case "ticks":
            return np.round(rng.beta(0.6, 0.8, n), 2)
        case "extreme":
            return np.clip(np.round(rng.beta(0.15, 2.0, n), 3), 0.001, 0.999)
        case "few":
            return rng.choice([0.01, 0.02, 0.05, 0.5, 0.97], n, p=[0.5, 0.2, 0.1, 0.1, 0.1])
        case _:
            return np.clip(rng.beta(0.6, 0.8, n), 1e-3, 1 - 1e-3)


def draw_history(rng, events, *, law="ticks", slope=1.0, shift=0.0, single=False):
    """Events of one to three markets, correlated by a Gaussian copula, one to three snapshots.

    P(y = 1 | p) = sigmoid(shift + slope · logit p), or p itself for slope 1 and shift 0; with
    ``single`` each event is one row. The law "heavy" is that of `draw_long_lived`.
    """
    if law == "heavy":
        return draw_long_lived(rng, events, slope=slope, shift=shift)
    event = np.repeat(np.arange(events), 1 if single else rng.integers(1, 4, events))
    p = _prices(rng, event.size, law)
    chance = special.expit(shift + slope * special.logit(np.clip(p, 1e-6, 1 - 1e-6)))
    chance = p if (slope, shift) == (1.0, 0.0) else chance
    shared, own = rng.standard_normal(events)[event], rng.standard_normal(event.size)
    y = (special.ndtr(np.sqrt(0.5) * (shared + own)) < chance).astype(float)
    category = rng.choice(4, events, p=[0.6, 0.25, 0.1, 0.05])[event]
    row = np.repeat(np.arange(event.size), 1 if single else rng.integers(1, 4, event.size))
    resolved = np.sort(rng.integers(0, 90 * DAY, events))
    return History(p[row], y[row], event[row], row, category[row], resolved, chance[row])


def draw_long_lived(rng, events, *, slope=1.0, shift=0.0):
    """One market an event, with a Pareto (1.1) number of rows, at most 300, about five on average.

    The market is a threshold on a Brownian path seen from t = 0.2 to 0.95, so its chance
    Φ(z / √(1 - t)) is calibrated at every t; the price is that chance, taken through the law.
    """
    rows = np.minimum(rng.random(events) ** (-1 / 1.1), 300).astype(int)
    event, first = np.repeat(np.arange(events), rows), np.cumsum(rows) - rows
    place = np.arange(event.size) - first[event]
    seen = 0.2 + 0.75 * (place + 1) / (rows[event] + 1)
    before = np.where(place == 0, 0.0, 0.2 + 0.75 * place / (rows[event] + 1))
    steps = np.cumsum(rng.normal(size=event.size) * np.sqrt(seen - before))
    path = steps - np.concatenate([[0.0], steps])[first][event]
    chance = np.clip(special.ndtr(path / np.sqrt(1 - seen)), 5e-4, 1 - 5e-4)
    last = first + rows - 1
    outcome = path[last] + rng.normal(size=events) * np.sqrt(1 - seen[last]) > 0
    p = special.expit((special.logit(chance) - shift) / slope)
    category = rng.choice(4, events, p=[0.6, 0.25, 0.1, 0.05])[event]
    resolved = np.sort(rng.integers(0, 90 * DAY, events))
    y = outcome.astype(float)[event]
    return History(p, y, event, event, category, resolved, chance)


@pytest.fixture(scope="session")
def draw():
    return draw_history
