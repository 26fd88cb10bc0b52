"""Intervals over events cover what they promise, by simulation with known truth.

Promised: 0.93–0.97 at 100 events and more. 1,000 replications have a standard error of 0.007, so
the bounded run allows two of them beyond the promise; the full run draws 2,000.
"""

import numpy as np
import pytest
from scipy import special, stats

from calibration_service.bootstrap import event_codes, event_sums, ratio_interval, resampled_totals
from calibration_service.intervals import (
    EventGroups,
    EventScores,
    degrees_of_freedom,
    effective_events,
    logistic_intervals,
    positive_ratio,
    signed_ratio,
)
from calibration_service.logistic import Cells, fit, price_logit
from calibration_service.scores import brier_terms, log_loss_terms


def independent(rng, events):
    """Calibrated prices, one row per event: slope 1, intercept 0."""
    p = np.round(rng.beta(0.6, 0.8, events), 3)
    return p, (rng.random(events) < p).astype(float), np.arange(events)


def overconfident(rng, events):
    """Prices that are too extreme, one row per event: slope 0.7, intercept 0."""
    p = np.round(rng.beta(0.6, 0.8, events), 3)
    chance = special.expit(0.7 * price_logit(p))
    return p, (rng.random(events) < chance).astype(float), np.arange(events)


def clustered(rng, events):
    """Events of one to four related markets with one to six snapshots each: slope 1, intercept 0.

    Each market is a threshold on a Brownian path seen up to t < 1, so its price Φ(z / √(1 - t))
    is calibrated at every t; snapshots of a market share its outcome, markets of an event share
    60 % of the variance of their steps.
    """
    event = np.repeat(np.arange(events), rng.integers(1, 5, events))
    shared, own = rng.normal(size=(events, 7)), rng.normal(size=(event.size, 7))
    path = np.cumsum(np.sqrt(0.6 / 7) * shared[event] + np.sqrt(0.4 / 7) * own, axis=1)
    outcome = (path[:, -1] > 0).astype(float)
    price = stats.norm.cdf(path[:, :6] / np.sqrt(1 - np.arange(1, 7) / 7))
    first = 6 - rng.integers(1, 7, event.size)
    row, column = np.nonzero(np.arange(6) >= first[:, None])
    return np.clip(price[row, column], 5e-4, 1 - 5e-4), outcome[row], event[row]


SAMPLES = {"independent": independent, "overconfident": overconfident, "clustered": clustered}
SLOPES = {"independent": 1.0, "overconfident": 0.7, "clustered": 1.0}


def difference_terms(p, y):
    """Brier score of the price minus that of the price pulled to one half."""
    return brier_terms(p, y) - brier_terms(0.5 + 0.8 * (p - 0.5), y)


def truth_of(kind):
    p, y, _ = SAMPLES[kind](np.random.default_rng(99), 400_000)
    return {
        "brier": brier_terms(p, y).mean(),
        "log_loss": log_loss_terms(p, y).mean(),
        "difference": difference_terms(p, y).mean(),
        "slope": SLOPES[kind],
        "intercept": 0.0,
    }


def replicate(kind, events, count, seed):
    """All replications as groups of one batch: rows, their event and their group."""
    rng = np.random.default_rng(seed)
    parts = [SAMPLES[kind](rng, events) for _ in range(count)]
    p, y, event = (np.concatenate([part[i] for part in parts]) for i in range(3))
    group = np.repeat(np.arange(count), [part[0].size for part in parts])
    return p, y, group * events + event, group


def all_intervals(kind, events, count, seed=1):
    p, y, pair, group = replicate(kind, events, count, seed)
    groups = EventGroups(np.repeat(np.arange(count), events), count)
    size = np.bincount(pair).astype(float)
    x = price_logit(p)
    fitted = fit(Cells(x, np.ones_like(x), y, group, count))
    mean = special.expit(fitted.intercept[group] + fitted.slope[group] * x)
    curve = mean * (1 - mean)
    parts = (y - mean, (y - mean) * x, curve, curve * x, curve * x * x)
    parts = EventScores(*(np.bincount(pair, part) for part in parts))
    intercept, slope = logistic_intervals(
        fitted, parts, freedom=degrees_of_freedom(size, groups=groups), groups=groups
    )
    return {
        "brier": positive_ratio(np.bincount(pair, brier_terms(p, y)), size, groups=groups),
        "log_loss": positive_ratio(np.bincount(pair, log_loss_terms(p, y)), size, groups=groups),
        "difference": signed_ratio(np.bincount(pair, difference_terms(p, y)), size, groups=groups),
        "slope": slope,
        "intercept": intercept,
    }


def coverage(kind, events, count):
    truth = truth_of(kind)
    found = all_intervals(kind, events, count)
    return {
        name: np.mean(((ends.lo <= truth[name]) & (truth[name] <= ends.hi))[~np.isnan(ends.lo)])
        for name, ends in found.items()
    }


@pytest.mark.parametrize("kind", SAMPLES)
def test_intervals_cover_95_percent_at_100_events(kind):
    for name, share in coverage(kind, 100, 1_000).items():
        assert 0.93 - 0.014 <= share <= 0.97 + 0.014, (name, share)


@pytest.mark.soak
@pytest.mark.parametrize("events", [100, 300, 1_000])
@pytest.mark.parametrize("kind", SAMPLES)
def test_intervals_keep_their_promise_over_2000_replications(kind, events, capsys):
    found = coverage(kind, events, 2_000)
    with capsys.disabled():
        print(f"\n{kind} at {events} events:", {k: round(float(v), 3) for k, v in found.items()})
    for name, share in found.items():
        assert 0.93 <= share <= 0.97, (name, share)


@pytest.mark.soak
@pytest.mark.parametrize("kind", SAMPLES)
def test_reports_the_coverage_at_30_events(kind, capsys):
    found = coverage(kind, 30, 2_000)
    with capsys.disabled():
        print(f"\n{kind} at 30 events:", {k: round(float(v), 3) for k, v in found.items()})
    assert min(found.values()) > 0.85


@pytest.fixture
def heavy(draw, monkeypatch):
    """The name of the law in which a few long-lived markets own most rows; see ``conftest``."""

    def sample(rng, events):
        history = draw(rng, events, law="heavy")
        return history.p, history.y, history.event

    monkeypatch.setitem(SAMPLES, "heavy", sample)
    monkeypatch.setitem(SLOPES, "heavy", 1.0)
    return "heavy"


SCORES = ("brier", "log_loss", "slope", "intercept")


@pytest.mark.parametrize(("events", "count"), [(100, 1_000), (300, 700), (1_000, 300)])
def test_intervals_hold_where_a_few_markets_own_most_rows(heavy, events, count):
    found = coverage(heavy, events, count)
    least = 0.93 - 3.0 * np.sqrt(0.95 * 0.05 / count)
    assert min(found[name] for name in SCORES) >= least, found


@pytest.mark.soak
@pytest.mark.parametrize("events", [100, 300, 1_000, 2_000])
def test_reports_the_coverage_where_a_few_markets_own_most_rows(heavy, events, capsys):
    found = coverage(heavy, events, 1_500)
    size = np.bincount(SAMPLES[heavy](np.random.default_rng(1), events)[2]).astype(float)
    one = EventGroups(np.zeros(events, dtype=int), 1)
    worth = effective_events(size, groups=one)[0]
    with capsys.disabled():
        shown = {k: round(float(v), 3) for k, v in found.items()}
        print(f"\nheavy at {events} events, worth {worth:.0f}:", shown)
    assert min(found[name] for name in SCORES) >= 0.93 - 0.014
    assert found["difference"] >= 0.85


def test_events_of_one_size_are_worth_as_many_and_have_one_degree_of_freedom_less():
    groups = EventGroups(np.repeat([0, 1, 2], [40, 3, 1]), 3)
    size = np.concatenate([np.full(40, 7.0), [100.0, 1.0, 1.0], [5.0]])
    np.testing.assert_allclose(effective_events(size, groups=groups)[[0, 2]], [40.0, 1.0])
    assert effective_events(size, groups=groups)[1] == pytest.approx(1.04, abs=0.01)
    np.testing.assert_allclose(degrees_of_freedom(size, groups=groups), [39.0, 2.0, np.nan])


def test_a_slope_of_0_7_is_told_from_1_at_500_events():
    ends = all_intervals("overconfident", 500, 200)["slope"]
    assert (ends.hi < 1).mean() > 0.8
    assert (ends.lo > 1).mean() == 0


def test_counting_snapshots_as_events_would_be_far_too_sure():
    p, y, pair, _ = replicate("clustered", 100, 1, 3)
    rows, one = (
        EventGroups(np.zeros(p.size, dtype=int), 1),
        EventGroups(np.zeros(100, dtype=int), 1),
    )
    naive = positive_ratio(brier_terms(p, y), np.ones_like(p), groups=rows)
    honest = positive_ratio(
        np.bincount(pair, brier_terms(p, y)), np.bincount(pair).astype(float), groups=one
    )
    assert (honest.hi - honest.lo)[0] > 1.5 * (naive.hi - naive.lo)[0]


def test_one_event_gives_no_interval_and_a_perfect_score_gives_a_point():
    groups = EventGroups(np.array([0, 1, 1]), 2)
    ends = positive_ratio(np.array([0.1, 0.0, 0.0]), np.ones(3), groups=groups)
    assert np.isnan(ends.lo[0])
    assert (ends.lo[1], ends.hi[1]) == (0.0, 0.0)


@pytest.mark.parametrize("kind", SAMPLES)
def test_the_bootstrap_agrees_with_the_closed_form(kind):
    p, y, event = SAMPLES[kind](np.random.default_rng(5), 300)
    sums = event_sums(np.stack([brier_terms(p, y), np.ones_like(p)], axis=1), event)
    got = ratio_interval(sums[:, 0], sums[:, 1], rng=np.random.default_rng(6), replicates=4_000)
    closed = positive_ratio(sums[:, 0], sums[:, 1], groups=EventGroups(np.zeros(300, dtype=int), 1))
    width = closed.hi[0] - closed.lo[0]
    assert got.lo == pytest.approx(closed.lo[0], abs=0.1 * width)
    assert got.hi == pytest.approx(closed.hi[0], abs=0.1 * width)


def test_the_bootstrap_of_a_difference_covers_95_percent_at_100_events():
    truth, rng, hits = truth_of("clustered")["difference"], np.random.default_rng(7), 0
    for _ in range(400):
        p, y, event = clustered(rng, 100)
        sums = event_sums(np.stack([difference_terms(p, y), np.ones_like(p)], axis=1), event)
        found = ratio_interval(sums[:, 0], sums[:, 1], rng=rng, replicates=400)
        hits += found.lo <= truth <= found.hi
    assert hits / 400 == pytest.approx(0.95, abs=0.035)


def test_a_seed_gives_the_same_bootstrap_for_any_row_order():
    p, y, event = clustered(np.random.default_rng(8), 60)
    ids = np.array([f"polymarket:{e}" for e in event])
    found = []
    for order in (np.arange(p.size), np.random.default_rng(9).permutation(p.size)):
        rows = np.stack([brier_terms(p, y), np.ones_like(p)], axis=1)[order]
        sums = event_sums(rows, event_codes(ids[order]))
        found.append(ratio_interval(sums[:, 0], sums[:, 1], rng=np.random.default_rng(10)))
    assert found[0].lo == pytest.approx(found[1].lo, abs=1e-9)
    assert found[0].hi == pytest.approx(found[1].hi, abs=1e-9)


def test_resampled_totals_keep_the_number_of_events():
    totals = resampled_totals(np.ones((50, 2)), replicates=7, rng=np.random.default_rng(1))
    assert (totals == 50).all()
