"""On noise the price stays; true miscalibration is found; what is served is better on new data.

Rates are simulated; bounds are the promise and three standard errors of the simulation.
"""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from calibration_service.intervals import EventGroups, signed_ratio
from calibration_service.recalibration.bands import GRID
from calibration_service.recalibration.build import build_recalibration
from calibration_service.recalibration.promotion import differences
from calibration_service.recalibration.selection import Sample
from calibration_service.recalibration.state import load, with_calibrated

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)
LAWS = ("ticks", "extreme", "few", "heavy")


def built(history, seed=0):
    return build_recalibration(
        history.frame(), version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(seed)
    )


def promoted_share(draw, events, count, **truth):
    """Shares of replications in which any pool, and in which "*" is promoted."""
    rows = [
        built(draw(np.random.default_rng([seed, events]), events, **truth)) for seed in range(count)
    ]
    anywhere = np.mean([frame["promoted"].any() for frame in rows])
    return float(anywhere), float(np.mean([frame["promoted"][0] for frame in rows]))


def bound(rate, count):
    return rate + 3.0 * np.sqrt(rate * (1.0 - rate) / count)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("events", "count"), [(200, 200), (1_000, 60)])
def test_on_noise_the_price_stays_95_percent_of_the_time(draw, law, events, count):
    assert promoted_share(draw, events, count, law=law)[0] <= bound(0.05, count)


@pytest.mark.soak
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("events", "count"), [(200, 2_000), (1_000, 1_000), (5_000, 400)])
def test_on_noise_the_price_stays_in_full(draw, law, events, count, capsys):
    share = promoted_share(draw, events, count, law=law)[0]
    with capsys.disabled():
        print(f"\nnoise, {law}, {events} events: promoted anywhere {share:.2%} of {count}")
    assert share <= bound(0.05, count)


@pytest.mark.parametrize(("law", "power"), [("ticks", 0.8), ("heavy", 0.65)])
def test_prices_that_are_too_extreme_are_found_at_1000_events(draw, law, power):
    assert promoted_share(draw, 1_000, 40, law=law, slope=0.6)[1] >= power


@pytest.mark.soak
@pytest.mark.parametrize("events", [1_000, 2_000])
def test_reports_the_power_where_a_few_markets_own_most_rows(draw, events, capsys):
    share = promoted_share(draw, events, 200, law="heavy", slope=0.6)[1]
    with capsys.disabled():
        print(f"\nheavy, slope 0.6, {events} events: promoted {share:.1%}")
    assert share >= 0.65


def served_grids(rows):
    for row in rows.iter_rows(named=True):
        yield tuple(np.array(row[name], dtype=float) for name in ("lo", "value", "hi"))


ONE_OUTCOME = {"outcome_yes": 0.0, "p_yes": 0.05}


@pytest.mark.parametrize("events", [1, 2, 60, 700])
@pytest.mark.parametrize("given", [{}, {"outcome_yes": 0.0}, ONE_OUTCOME, {"outcome_yes": 1.0}])
def test_every_grid_that_is_served_has_a_finite_interval_around_its_value(draw, events, given):
    history = draw(np.random.default_rng(3), events, law="ticks").frame()
    rows = build_recalibration(
        history.with_columns(pl.lit(value).alias(name) for name, value in given.items()),
        version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(0),
    )  # fmt: skip
    assert rows.height
    if events == 700 and given == ONE_OUTCOME:
        assert rows["promoted"][0]
    for low, value, high in served_grids(rows):
        assert np.isfinite(low + value + high).all()
        assert (low <= value).all()
        assert (value <= high).all()
        assert (low < high).any()


@pytest.mark.soak
@pytest.mark.parametrize("single", [True, False], ids=["one market", "one to three markets"])
@pytest.mark.parametrize(
    ("truth", "power"), [({"slope": 0.6}, 0.65), ({"shift": 0.3}, 0.1)], ids=["slope", "shift"]
)
@pytest.mark.parametrize("events", [1_000, 2_000, 5_000])
def test_reports_the_power_of_a_promotion(draw, events, truth, power, single, capsys):
    share = promoted_share(draw, events, 300, single=single, **truth)[1]
    with capsys.disabled():
        print(f"\n{truth}, {events} events, single {single}: promoted {share:.1%}")
    assert share >= power


@pytest.mark.parametrize(
    ("truth", "events"),
    [({"slope": 0.6}, 1_000), ({"shift": 0.3}, 4_000)],
    ids=["slope", "shift"],
)
def test_what_is_promoted_improves_the_brier_score_of_new_events(draw, truth, events):
    state = load(built(draw(np.random.default_rng(1), events, **truth)))
    assert state.methods[0] != "identity"
    fresh = draw(np.random.default_rng(2), 20_000, **truth)
    q = with_calibrated(fresh.frame(), state)["calibrated_probability"].to_numpy()
    gain = np.bincount(fresh.event, (q - fresh.y) ** 2 - (fresh.p - fresh.y) ** 2)
    size = np.bincount(fresh.event).astype(float)
    ends = signed_ratio(gain, size, groups=EventGroups(np.zeros(gain.size, dtype=int), 1))
    assert ends.hi[0] < 0.0


def test_a_price_that_stays_says_why():
    history = pl.DataFrame(
        {
            "event_id": [f"e{i}" for i in range(30)],
            "market_id": [f"m{i}" for i in range(30)],
            "category": ["sports"] * 30,
            "p_yes": np.linspace(0.1, 0.9, 30),
            "outcome_yes": [0.0, 1.0] * 15,
            "resolved_at": [AS_OF] * 30,
        }
    )
    rows = build_recalibration(
        history, version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(0)
    )
    assert rows["pool"].to_list() == ["*"]
    assert rows["reasons"].to_list() == [["fewer than 200 events"]]
    assert rows["served"].to_list() == ["price"]
    assert rows["value"][0].to_list() == GRID.tolist()


def test_repeating_the_rows_of_an_event_changes_no_verdict(draw):
    rows = draw(np.random.default_rng(4), 400, slope=0.6).frame()
    often = pl.concat([rows, *[rows.filter(rows["event_id"].hash(seed=3) % 5 == 0)] * 9])
    one, other = (
        build_recalibration(
            part, version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(0)
        )
        for part in (rows, often)
    )
    assert one["method"].to_list() == other["method"].to_list()
    for name in ("difference", "difference_lo", "brier_raw", "p_value"):
        np.testing.assert_allclose(one[name], other[name], rtol=1e-4, atol=1e-7)
    for name in ("value", "lo", "hi"):
        np.testing.assert_allclose(one[name][0], other[name][0], rtol=1e-4, atol=1e-6)


def test_a_rare_outcome_that_has_not_come_yet_proves_nothing():
    n = 400
    rows = np.arange(n)
    sample = Sample(
        np.full(n, 0.01), np.zeros(n), rows, rows, np.zeros(n, dtype=int), 1, rows.astype(int)
    )
    few = differences(sample, rows[:150], np.full(150, 0.002))
    assert few.value[0] < 0.0
    assert few.hi[0] > 0.0


def test_a_category_on_its_own_law_gets_its_own_map(draw):
    sports = draw(np.random.default_rng(5), 1_500, slope=0.5)
    rest = draw(np.random.default_rng(6), 1_500)
    parts = [
        part.frame().with_columns(
            pl.lit(name).alias("category"),
            *(
                pl.format("{}-{}", pl.lit(name), pl.col(c)).alias(c)
                for c in ("event_id", "market_id")
            ),
        )
        for name, part in (("sports", sports), ("politics", rest))
    ]
    rows = build_recalibration(
        pl.concat(parts), version="v", run_id="r", as_of=AS_OF, rng=np.random.default_rng(0)
    )
    served = dict(zip(rows["pool"], rows["served"], strict=True))
    assert served["sports"] == "own"
    assert served["politics"] == "price"
