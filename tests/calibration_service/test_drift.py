"""Drift is reported as seldom as promised where there is none, and found where there is.

Rates are simulated; bounds are the promise and three standard errors of the simulation.
"""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from calibration_service.drift import build_drift, refit_due
from calibration_service.frames import schema_of
from calibration_service.score_test import draw_flips, score_test
from market_data.calibration_tables import CALIBRATION_DRIFT

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RECENT = EPOCH + timedelta(days=200)
AS_OF = EPOCH + timedelta(days=300)
POOL = "category=*|liquidity=*|tte=*"
LAWS = ("ticks", "extreme", "few", "heavy")


def two_periods(draw, seed, events, *, before=None, **truth):
    """Reference events, and as many recent ones of another law."""
    rng = np.random.default_rng(seed)
    law = truth.pop("law", "ticks")
    reference = draw(rng, events, law=law, **(before or {}))
    recent = draw(rng, events, law=law, **truth)
    shifted = replace(
        recent,
        event=recent.event + events,
        market=recent.market + 10 * events,
        resolved=np.concatenate([reference.resolved, recent.resolved + 200 * 86_400 * 10**6]),
    )
    return pl.concat([reference.frame(), shifted.frame()])


def drift_of(rows, seed=0):
    return build_drift(
        rows, recent_from=RECENT, run_id="r", as_of=AS_OF, rng=np.random.default_rng(seed)
    )


def pooled(frame, test="REFERENCE"):
    return frame.row(
        by_predicate=(pl.col("segment_key") == POOL) & (pl.col("test") == test), named=True
    )


def bound(rate, count):
    return rate + 3.0 * np.sqrt(rate * (1.0 - rate) / count)


def rates(draw, events, count, **given):
    """Shares of replications: each pooled test, and any segment of each test after Holm."""
    found = {"REFERENCE": [], "PERFECT": []}
    for seed in range(count):
        frame = drift_of(two_periods(draw, [seed, events], events, **given))
        for test, hits in found.items():
            own = frame.filter(pl.col("test") == test)
            hits.append(((pooled(frame, test)["p_value"] or 1.0) < 0.05, own["drifted"].any()))
    return {test: np.mean(hits, axis=0) for test, hits in found.items()}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("events", "count"), [(40, 80), (200, 40)])
def test_without_drift_one_in_twenty_reports_one(draw, law, events, count):
    for single, family in rates(draw, events, count, law=law).values():
        assert single <= bound(0.05, count)
        assert family <= bound(0.05, count)


@pytest.mark.soak
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("events", "count"), [(40, 1_000), (200, 1_000), (1_000, 500)])
def test_the_rate_of_false_alarms_in_full(draw, law, events, count, capsys):
    found = rates(draw, events, count, law=law)
    with capsys.disabled():
        print(f"\n{law}, {events} events:", {k: v.round(4).tolist() for k, v in found.items()})
    for single, family in found.values():
        assert single <= bound(0.05, count)
        assert family <= bound(0.05, count)


@pytest.mark.parametrize("count", [40, pytest.param(1_000, marks=pytest.mark.soak)])
def test_a_law_that_stays_wrong_is_no_drift(draw, count):
    found = rates(draw, 200, count, slope=0.6, before={"slope": 0.6})
    print(f"slope 0.6 throughout: {found}")
    assert found["REFERENCE"][0] <= bound(0.05, count)


@pytest.mark.parametrize("count", [25, pytest.param(300, marks=pytest.mark.soak)])
@pytest.mark.parametrize(
    "given",
    [{"single": True}, {"single": False}, {"law": "heavy"}],
    ids=["one row an event", "a few rows", "a few events own most rows"],
)
def test_a_slope_of_six_tenths_is_found_at_1000_events(draw, given, count):
    before = {name: value for name, value in given.items() if name != "law"}
    found = rates(draw, 1_000, count, slope=0.6, before=before, **given)
    print(f"power at 1,000 events, {given}: {found}")
    assert found["REFERENCE"][1] >= 0.8
    assert found["PERFECT"][1] >= 0.8


def test_rows_say_how_much_changed_and_how_sure_that_is(draw):
    frame = drift_of(two_periods(draw, 1, 1_500, slope=0.6))
    assert frame.schema == schema_of(CALIBRATION_DRIFT)
    row = pooled(frame)
    assert row["slope_change_lo"] < -0.4 < row["slope_change_hi"] < 0.0
    assert row["slope_change"] == pytest.approx(row["slope"] - 1.0, abs=0.15)
    assert (row["event_count"], row["reference_event_count"]) == (1_500, 1_500)
    assert row["drifted"]
    assert row["p_value"] <= row["p_adjusted"] < 0.05
    perfect = pooled(frame, "PERFECT")
    assert perfect["slope_change"] == pytest.approx(perfect["slope"] - 1.0)
    assert frame.filter(pl.col("p_adjusted") < pl.col("p_value")).is_empty()


def test_intervals_of_the_change_cover_95_percent(draw):
    count, inside = 100, 0
    for seed in range(count):
        row = pooled(drift_of(two_periods(draw, [seed, 5], 200, slope=0.7)))
        inside += row["slope_change_lo"] <= -0.3 <= row["slope_change_hi"]
    assert inside / count == pytest.approx(0.95, abs=0.02 + 3 * np.sqrt(0.95 * 0.05 / count))


def test_only_a_change_makes_a_refit_due(draw):
    wrong = drift_of(two_periods(draw, 3, 800, slope=0.6, before={"slope": 0.6}))
    assert not refit_due(wrong)
    assert pooled(wrong, "PERFECT")["drifted"]
    assert refit_due(drift_of(two_periods(draw, 3, 800, slope=0.6)))
    assert not refit_due(wrong.clear())


def test_thin_segments_are_not_tested(draw):
    frame = drift_of(two_periods(draw, 3, 60))
    assert (frame["event_count"] >= 20).all()
    assert (frame["reference_event_count"] >= 20).all()
    assert drift_of(two_periods(draw, 3, 15)).height == 0


def test_repeating_the_rows_of_an_event_changes_no_test(draw):
    rows = two_periods(draw, 9, 120)
    some = rows["event_id"].hash(seed=3) % 5 == 0
    found = drift_of(pl.concat([rows, *[rows.filter(some)] * 9]))
    for name in ("statistic", "slope_change", "slope_change_lo", "p_value"):
        ours, theirs = drift_of(rows)[name].to_numpy(), found[name].to_numpy()
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


def test_any_row_order_gives_the_same_tests(draw):
    rows = two_periods(draw, 4, 150)
    one, other = drift_of(rows), drift_of(rows.sample(fraction=1.0, shuffle=True, seed=1))
    np.testing.assert_allclose(one["p_value"], other["p_value"], atol=2e-3)
    assert one["segment_key"].to_list() == other["segment_key"].to_list()


def test_an_event_is_recent_when_its_last_row_is(draw):
    rows = two_periods(draw, 5, 50)
    late = rows.with_columns(
        pl.when(pl.int_range(pl.len()) == 0)
        .then(AS_OF)
        .otherwise("resolved_at")
        .alias("resolved_at")
    )
    assert pooled(drift_of(late))["event_count"] == 51


def test_all_recent_or_none_gives_no_tests(draw):
    rows = draw(np.random.default_rng(6), 100).frame()
    assert drift_of(rows).height == 0
    assert drift_of(rows.clear()).height == 0
    late = rows.with_columns(pl.lit(AS_OF).alias("resolved_at"))
    assert drift_of(late).height == 0


def test_scores_in_one_direction_cannot_be_tested():
    flips = draw_flips(np.random.default_rng(1))
    scores = np.outer(np.random.default_rng(2).normal(size=50), [1.0, 2.0])
    assert np.isnan(score_test(scores, np.eye(2), flips=flips).p)


def test_rare_outcomes_that_have_not_come_yet_are_no_evidence():
    flips = draw_flips(np.random.default_rng(1))
    x = np.log(np.linspace(0.01, 0.03, 40))
    scores = -np.exp(x)[:, None] * np.stack([np.ones(40), x], axis=1)
    implied = (np.exp(x)[:, None, None] * np.stack([[np.ones(40), x], [x, x * x]]).T).sum(axis=0)
    assert score_test(scores, np.eye(2) * 1e-6, flips=flips).p < 0.01
    assert score_test(scores, implied, flips=flips).p > 0.05


@pytest.mark.soak
def test_all_segments_of_a_million_rows_take_a_second(draw, capsys):
    rows = two_periods(draw, 7, 125_000)
    started = time.perf_counter()
    drift_of(rows)
    taken = time.perf_counter() - started
    with capsys.disabled():
        print(f"\ndrift: {rows.height} rows in {taken:.2f} s")
    assert taken < 2.0
