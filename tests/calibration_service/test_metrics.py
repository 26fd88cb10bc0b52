"""The metrics stage, against direct computations on each segment."""

import time
from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from calibration_service import scores
from calibration_service.frames import schema_of
from calibration_service.logistic import fit_one
from calibration_service.metrics import (
    build_isotonic,
    build_metrics,
    build_reliability,
    scored_rows,
)
from calibration_service.point_scores import point_scores
from calibration_service.reliability import corp, corp_decomposition
from market_data.calibration_tables import RELIABILITY_CURVE, RELIABILITY_ISOTONIC
from market_data.schemas import CALIBRATION_METRICS

AS_OF = datetime(2026, 6, 1, tzinfo=UTC)


def history(n=4_000, events=400, seed=0):
    rng = np.random.default_rng(seed)
    event = rng.integers(0, events, n)
    category = np.array(["sports", "politics", "crypto"])[rng.integers(0, 3, events)]
    p = np.round(rng.beta(0.6, 0.8, n), 3)
    return pl.DataFrame(
        {
            "event_id": [f"polymarket:{e}" for e in event],
            "market_id": [f"polymarket:{e}" for e in event],
            "category": category[event].tolist(),
            "liquidity_bucket": rng.choice(["LOW", "MID", "HIGH"], n).tolist(),
            "tte_seconds": rng.exponential(86_400, n),
            "p_yes": p,
            "outcome_yes": (rng.random(n) < p).astype(float),
        }
    )


def metrics_of(rows, seed=1):
    return build_metrics(
        rows, window="90d", run_id="run", as_of=AS_OF, rng=np.random.default_rng(seed)
    )


def pick(frame, key):
    return frame.row(by_predicate=pl.col("segment_key") == key, named=True)


def test_rows_are_those_of_the_table():
    frame = metrics_of(history())
    assert frame.schema == schema_of(CALIBRATION_METRICS)
    assert frame["segment_key"].is_unique().all()
    assert frame["window"].unique().to_list() == ["90d"]


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("category=*|liquidity=*|tte=*", pl.lit(value=True)),
        ("category=sports|liquidity=*|tte=*", pl.col("category") == "sports"),
        (
            "category=crypto|liquidity=HIGH|tte=*",
            (pl.col("category") == "crypto") & (pl.col("liquidity_bucket") == "HIGH"),
        ),
        ("category=*|liquidity=*|tte=LE_6H", pl.col("tte_seconds") <= 6 * 3600),
    ],
)
def test_a_segment_is_scored_as_its_rows_alone_would_be(key, where):
    rows = history()
    got, part = pick(metrics_of(rows), key), rows.filter(where)
    p, y = part["p_yes"].to_numpy(), part["outcome_yes"].to_numpy()
    assert got["sample_size"] == part.height
    assert got["event_count"] == part["event_id"].n_unique()
    assert got["base_rate"] == pytest.approx(y.mean())
    assert got["mean_price"] == pytest.approx(p.mean())
    assert got["brier"] == pytest.approx(scores.brier(p, y))
    assert got["log_loss"] == pytest.approx(scores.log_loss(p, y))
    sums = scores.bin_sums(p, y, bin_of=scores.equal_width_bins(p))
    assert got["ece"] == pytest.approx(scores.ece(sums))
    assert got["max_calibration_error"] == pytest.approx(scores.max_calibration_error(sums))
    equal_mass = scores.bin_sums(p, y, bin_of=scores.equal_mass_bins(p))
    assert got["ece_equal_mass"] == pytest.approx(scores.ece(equal_mass))
    assert got["sharpness"] == pytest.approx(scores.sharpness(p))
    parts = corp_decomposition(p, y)
    for name in ("miscalibration", "discrimination", "uncertainty"):
        assert got[name] == pytest.approx(getattr(parts, name), abs=1e-9)
    fitted = fit_one(p, y)
    assert got["slope"] == pytest.approx(fitted.slope[0], abs=2e-3)
    assert got["intercept"] == pytest.approx(fitted.intercept[0], abs=2e-3)
    assert got["brier_lo"] < got["brier"] < got["brier_hi"]
    assert got["slope_lo"] < got["slope"] < got["slope_hi"]
    assert got["ece_bias_corrected"] < got["ece"]


def test_any_row_order_gives_the_same_metrics():
    rows = history()
    one, other = metrics_of(rows), metrics_of(rows.sample(fraction=1.0, shuffle=True, seed=3))
    assert one["segment_key"].to_list() == other["segment_key"].to_list()
    for name, kind in one.schema.items():
        if kind == pl.Float64:
            np.testing.assert_allclose(
                one[name].to_numpy(), other[name].to_numpy(), rtol=1e-6, atol=1e-9
            )
        else:
            assert one[name].to_list() == other[name].to_list()


def test_low_confidence_looks_at_events_and_not_at_rows():
    frame = metrics_of(history(n=4_000, events=49))
    assert pick(frame, "category=*|liquidity=*|tte=*")["low_confidence"]
    frame = metrics_of(history(n=200, events=150))
    whole = pick(frame, "category=*|liquidity=*|tte=*")
    assert whole["event_count"] >= 100
    assert not whole["low_confidence"]


def test_low_confidence_looks_at_how_many_events_of_one_size_the_rows_are_worth():
    short = history(n=300, events=100_000)
    long = pl.concat([short.head(3)] * 200)
    whole = pick(metrics_of(pl.concat([short, long])), "category=*|liquidity=*|tte=*")
    assert whole["event_count"] >= 290
    assert whole["low_confidence"]
    assert whole["sample_size"] == 900


def test_snapshots_of_one_outcome_do_not_narrow_the_interval():
    base = history(n=300, events=100_000)
    once, often = metrics_of(base), metrics_of(pl.concat([base] * 20))
    key = "category=*|liquidity=*|tte=*"
    width = [pick(frame, key)["brier_hi"] - pick(frame, key)["brier_lo"] for frame in (once, often)]
    assert width[1] == pytest.approx(width[0], rel=1e-9)
    assert pick(often, key)["event_count"] == pick(once, key)["event_count"]


def test_a_segment_without_an_estimate_has_no_slope_instead_of_a_number():
    rows = history().with_columns(pl.lit(1.0).alias("outcome_yes"))
    whole = pick(metrics_of(rows), "category=*|liquidity=*|tte=*")
    assert whole["slope"] is None
    assert whole["slope_lo"] is None
    assert whole["brier"] is not None


def test_a_single_event_has_scores_and_no_intervals():
    frame = metrics_of(history(n=20, events=1))
    assert frame["brier"].null_count() == 0
    assert frame["brier_lo"].null_count() == frame.height


def test_no_rows_give_an_empty_table():
    empty = history().clear()
    assert metrics_of(empty).schema == schema_of(CALIBRATION_METRICS)
    assert metrics_of(empty).height == 0


def cutoff_tables():
    markets = [f"polymarket:{i}" for i in range(6)]
    labels = ["RESOLVED_TRUE", "RESOLVED_FALSE", "VOID", "UNRESOLVED", "MULTI_OUTCOME"]
    cutoffs = pl.DataFrame(
        {
            "market_id": markets,
            "p_yes": [0.9, None, 0.5, 0.5, 0.5, 0.5],
            "liquidity_bucket": ["LOW"] * 6,
            "tte_seconds": [3600.0] * 6,
        }
    )
    label_rows = pl.DataFrame({"market_id": markets[:5], "label": labels})
    registry = pl.DataFrame({"market_id": ["x"], "event_id": ["e"], "category": ["c"]})
    return cutoffs, label_rows, registry


def test_only_true_and_false_are_scored_and_the_rest_is_counted():
    cutoffs, labels, registry = cutoff_tables()
    found = scored_rows(cutoffs, labels=labels, registry=registry)
    assert found.frame["market_id"].to_list() == ["polymarket:0"]
    assert (found.without_truth, found.without_price) == (4, 1)
    assert found.frame["event_id"].to_list() == ["polymarket:0"]


def test_a_price_of_zero_on_a_false_market_is_a_row():
    cutoffs, labels, registry = cutoff_tables()
    priced = cutoffs.with_columns(pl.lit(0.0).alias("p_yes"))
    assert scored_rows(priced, labels=labels, registry=registry).frame.height == 2


def test_the_reliability_table_adds_up_and_holds_its_bands():
    rows = history()
    curve = build_reliability(rows, window="90d", run_id="run", as_of=AS_OF)
    assert curve.schema == schema_of(RELIABILITY_CURVE)
    whole = curve.filter(pl.col("segment_key") == "category=*|liquidity=*|tte=*")
    assert whole["sample_size"].sum() == rows.height
    assert whole["bin"].to_list() == list(range(10))
    assert (whole["mean_price"].is_between(whole["bin_lower"], whole["bin_upper"])).all()
    assert (whole["event_count"] <= whole["sample_size"]).all()
    inside = whole["observed_rate"].is_between(whole["consistency_lo"], whole["consistency_hi"])
    assert inside.sum() >= 8


@pytest.mark.parametrize(
    ("key", "where"),
    [
        ("category=*|liquidity=*|tte=*", pl.lit(value=True)),
        ("category=*|liquidity=LOW|tte=*", pl.col("liquidity_bucket") == "LOW"),
    ],
)
def test_isotonic_blocks_are_those_of_the_corp_curve_of_the_segment(key, where):
    rows = history()
    table = build_isotonic(rows, window="90d", run_id="run", as_of=AS_OF)
    assert table.schema == schema_of(RELIABILITY_ISOTONIC)
    got, part = table.filter(pl.col("segment_key") == key), rows.filter(where)
    curve = corp(part["p_yes"].to_numpy(), part["outcome_yes"].to_numpy())
    np.testing.assert_allclose(got["observed_rate"], np.unique(curve.rate.round(9)), atol=1e-8)
    assert got["bin"].to_list() == list(range(got.height))
    assert got["sample_size"].sum() == part.height
    assert (got["bin_upper"][:-1] < got["bin_lower"][1:]).all()
    for row in got.iter_rows(named=True):
        inside = part.filter(
            pl.col("p_yes").is_between(row["bin_lower"] - 1e-9, row["bin_upper"] + 1e-9)
        )
        assert row["event_count"] == inside["event_id"].n_unique()
        assert row["mean_price"] == pytest.approx(inside["p_yes"].mean())


def test_isotonic_curves_are_kept_for_the_pool_and_single_dimensions():
    table = build_isotonic(history(), window="90d", run_id="run", as_of=AS_OF)
    kept = {tuple(part.split("=")[1] for part in key.split("|")) for key in table["segment_key"]}
    assert all(sum(name != "*" for name in names) <= 1 for names in kept)
    assert {("*", "*", "*"), ("sports", "*", "*"), ("*", "LOW", "*")} <= kept


def test_any_row_order_gives_the_same_isotonic_curve():
    rows = history()
    one, other = (
        build_isotonic(part, window="90d", run_id="run", as_of=AS_OF)
        for part in (rows, rows.sample(fraction=1.0, shuffle=True, seed=3))
    )
    assert one.equals(other)


def share_outside(draw, law, events, count, **given):
    """Share of all rows that are in a block whose rate lies outside its consistency band."""
    out = rows = 0
    for seed in range(count):
        frame = draw(np.random.default_rng([seed, events]), events, law=law, **given).frame()
        found = build_isotonic(frame, window="90d", run_id="run", as_of=AS_OF)
        inside = found["observed_rate"].is_between(
            found["consistency_lo"] - 1e-9, found["consistency_hi"] + 1e-9
        )
        out += found.filter(~inside)["sample_size"].sum()
        rows += found["sample_size"].sum()
    return out / rows


@pytest.mark.parametrize(
    ("law", "events", "given"),
    [("smooth", 400, {"single": True}), ("ticks", 400, {"single": True}), ("heavy", 400, {})],
)
def test_one_row_in_twenty_of_calibrated_prices_is_outside_the_isotonic_band(
    draw, law, events, given
):
    assert 0.03 <= share_outside(draw, law, events, 30, **given) <= 0.07


@pytest.mark.parametrize("law", ["ticks", "extreme", "few"])
def test_shared_outcomes_and_few_prices_leave_no_more_outside(draw, law):
    assert share_outside(draw, law, 400, 15) <= 0.06


def test_prices_that_are_too_extreme_are_outside_the_isotonic_band(draw):
    assert share_outside(draw, "ticks", 1_000, 8, slope=0.6) >= 0.35


@pytest.mark.soak
@pytest.mark.parametrize("law", ["smooth", "ticks", "extreme", "few", "heavy"])
@pytest.mark.parametrize("single", [True, False])
def test_reports_the_share_outside_the_isotonic_band(draw, law, single, capsys):
    share = share_outside(draw, law, 1_000, 100, single=single)
    with capsys.disabled():
        print(f"\n{law}, 1,000 events, single {single}: {share:.2%} of rows outside")
    assert share <= 0.07


@pytest.mark.soak
def test_isotonic_curves_of_a_million_rows_take_a_second(capsys):
    rows, taken = history(n=1_000_000, events=20_000), []
    for _ in range(3):
        started = time.process_time()
        build_isotonic(rows, window="90d", run_id="run", as_of=AS_OF)
        taken.append(time.process_time() - started)
    with capsys.disabled():
        print(f"\nisotonic curves of a million rows: {min(taken):.2f} s")
    assert min(taken) < 1.0


def test_scores_without_intervals_are_those_of_the_metrics():
    rows = history()
    rows = rows.with_columns(
        pl.when(pl.col("p_yes") < 0.5).then(pl.col("category")).alias("category")
    )
    found, whole = point_scores(rows), metrics_of(rows)
    joined = whole.join(found, on="segment_key", suffix="_point")
    assert joined.height == whole.height == found.height
    for name in ("sample_size", "base_rate", "mean_price", "brier", "log_loss", "ece"):
        np.testing.assert_allclose(joined[name], joined[f"{name}_point"], rtol=1e-9, atol=1e-12)


def test_no_rows_have_no_point_scores():
    assert point_scores(history().clear()).height == 0


@pytest.mark.soak
def test_seven_million_rows_a_second_are_scored_without_intervals(capsys):
    rows, taken = history(n=1_000_000, events=20_000), []
    for _ in range(5):
        started = time.perf_counter()
        point_scores(rows)
        taken.append(time.perf_counter() - started)
    with capsys.disabled():
        print(f"\npoint scores: {1 / min(taken):.1f} M rows/s")
    assert min(taken) < 1 / 7


def test_100_000_rows_are_scored_in_well_under_a_second():
    rows = history(n=100_000, events=5_000)
    metrics_of(rows)
    started = time.perf_counter()
    metrics_of(rows)
    assert time.perf_counter() - started < 1.0


@pytest.mark.soak
def test_time_grows_linearly_up_to_a_million_rows(capsys):
    taken = {}
    for n in (125_000, 250_000, 500_000, 1_000_000):
        rows = history(n=n, events=n // 50)
        started = time.perf_counter()
        metrics_of(rows)
        taken[n] = time.perf_counter() - started
    with capsys.disabled():
        print("\nmetrics with intervals:", {n: round(t, 2) for n, t in taken.items()})
    assert taken[1_000_000] < 2.0
    assert taken[1_000_000] / taken[250_000] < 6.0
