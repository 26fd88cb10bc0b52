"""Validation looks forward only, and an event is never on both sides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_service.recalibration.maps import CANDIDATES, fit_maps
from calibration_service.recalibration.selection import (
    FIRST_CHOICE,
    MIN_TRAINING_EVENTS,
    Sample,
    plan_folds,
    training_cells,
    validate,
)

DAY = 86_400 * 10**6


def sample_of(history):
    """Everything together, then the largest category."""
    own = np.flatnonzero(history.category == 0)
    both = np.concatenate([np.arange(history.p.size), own])
    pool = np.repeat([0, 1], [history.p.size, own.size])
    names = ("p", "y", "event", "market")
    p, y, event, market = (getattr(history, name)[both] for name in names)
    return Sample(p, y, event, market, pool, 2, history.resolved)


@given(st.integers(0, 500), st.integers(2, 120), st.integers(0, 5), st.integers(1, 60))
def test_a_fold_is_fitted_on_events_that_resolved_an_embargo_before_it(seed, n, days, spread):
    resolved = np.random.default_rng(seed).integers(0, spread, n) * DAY // 2
    plan = plan_folds(resolved, embargo=days * DAY)
    assert (plan.known > plan.fold).all()
    for fold in range(plan.folds):
        fitted, scored = resolved[plan.known <= fold], resolved[plan.fold == fold]
        if fitted.size and scored.size:
            assert fitted.max() < scored.min() - days * DAY


def test_folds_hold_about_equally_many_events_and_the_first_fifth_is_only_fitted_on():
    plan = plan_folds(np.arange(1_000) * DAY, embargo=DAY)
    assert (plan.fold == -1).sum() == 200
    assert np.bincount(plan.fold[plan.fold >= 0]).tolist() == [100] * 8


def test_events_that_all_resolve_at_once_have_no_folds():
    plan = plan_folds(np.zeros(50, dtype=int), embargo=DAY)
    assert plan.folds == 0


def test_cells_before_a_fold_hold_what_was_known_then(draw):
    history = draw(np.random.default_rng(1), 300)
    sample = sample_of(history)
    plan = plan_folds(history.resolved, embargo=DAY)
    cells = training_cells(sample, plan)
    for pool in (0, 1):
        for fold in range(plan.folds + 1):
            known = (sample.pool == pool) & (plan.known[sample.event] <= fold)
            group = pool * (plan.folds + 1) + fold
            own = cells.group == group
            assert cells.size[own].sum() == pytest.approx(sample.weight[known].sum())
            positive = (sample.weight * sample.y)[known].sum()
            assert cells.positive[own].sum() == pytest.approx(positive)
            assert cells.events[group] == np.unique(sample.event[known]).size
            np.testing.assert_allclose(cells.price[own], np.unique(sample.p[known]), atol=1e-9)


def test_an_event_weighs_from_one_to_three_whatever_its_markets_and_rows():
    market = np.array([0] * 300 + [1] + list(range(2, 52)))
    event = np.repeat([0, 1, 2], [300, 1, 50])
    zeros = np.zeros(market.size)
    sample = Sample(zeros, zeros, event, market, event * 0, 1, np.arange(3))
    np.testing.assert_allclose(np.bincount(event, sample.weight), [1.0, 1.0, 50 / 15.7])


def test_each_row_is_scored_by_the_map_fitted_before_its_fold(draw):
    sample = sample_of(draw(np.random.default_rng(2), 400))
    plan = plan_folds(sample.resolved, embargo=DAY)
    found = validate(sample, plan)
    cells = training_cells(sample, plan).with_prices()
    row = int(found.rows[np.flatnonzero(sample.pool[found.rows] == 0)[-1]])
    group = int(plan.fold[sample.event[row]])
    assert cells.events[group] >= MIN_TRAINING_EVENTS
    for k, method in enumerate(CANDIDATES):
        expected = fit_maps(method, cells).at(sample.p[[row]], np.array([group]))
        assert found.recalibrated[k, found.rows == row] == pytest.approx(expected)


def test_what_is_chosen_for_a_fold_does_not_depend_on_its_outcomes_or_later_ones(draw):
    sample = sample_of(draw(np.random.default_rng(3), 500, slope=0.6))
    plan = plan_folds(sample.resolved, embargo=DAY)
    fold = plan.fold[sample.event]
    other = replace(sample, y=np.where(fold >= 4, 1.0 - sample.y, sample.y))
    one, two = validate(sample, plan), validate(other, plan)
    assert (one.chosen[:, :5] == two.chosen[:, :5]).all()
    early = fold[one.rows] <= 4
    np.testing.assert_allclose(one.recalibrated[:, early], two.recalibrated[:, early])
    assert (one.chosen[:, 0] == FIRST_CHOICE).all()


def test_before_enough_events_the_price_stays(draw):
    sample = sample_of(draw(np.random.default_rng(4), 60))
    found = validate(sample, plan_folds(sample.resolved, embargo=DAY))
    thin = sample.pool[found.rows] == 1
    assert (found.recalibrated[:, thin] == sample.p[found.rows[thin]]).all()
