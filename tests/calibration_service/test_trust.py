"""The trust score and its components."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special

from calibration_service.frames import schema_of
from calibration_service.trust import COMPONENTS, Components, TrustPolicy, build_trust
from market_data.schemas import TRUST_SCORE

START = datetime(2026, 1, 1, tzinfo=UTC)


def market(steps=60, seed=0, scale=0.02, volume=20_000.0, name="polymarket:1"):
    rng = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "seconds": np.arange(steps) * 300,
            "market_id": [name] * steps,
            "p_yes": special.expit(np.cumsum(rng.normal(0, scale, steps))),
            "volume_24h": volume * np.exp(rng.normal(0, 0.03, steps)),
            "open_interest": volume * np.exp(rng.normal(0, 0.03, steps)),
        }
    ).select(
        (pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="seconds")).alias("ts"),
        pl.exclude("seconds"),
    )


def one(frame, **options):
    rows = build_trust(frame, **options)
    assert rows.height == 1
    return rows.row(0, named=True)


def test_rows_are_those_of_the_table():
    rows = build_trust(pl.concat([market(), market(name="polymarket:0")]))
    assert rows.schema == schema_of(TRUST_SCORE)
    assert rows["market_id"].to_list() == ["polymarket:0", "polymarket:1"]


def test_the_score_is_the_formula_over_the_stored_components():
    row = one(market())
    expected = 100 * (
        0.35 * row["liquidity_depth"]
        + 0.25 * row["stability"]
        + 0.25 * row["question_quality"]
        + 0.15 * (1 - row["manipulation_suspect"])
    )
    assert row["score"] == pytest.approx(expected)
    assert row["formula_version"] == "trust-1"


@given(st.integers(0, 300))
def test_yes_and_no_are_trusted_alike(seed):
    frame = market(seed=seed, steps=30)
    mirror = frame.with_columns(1 - pl.col("p_yes"))
    assert one(mirror)["score"] == pytest.approx(one(frame)["score"])


def test_row_order_does_not_matter():
    frame = market()
    assert one(frame.sample(fraction=1.0, shuffle=True, seed=1)) == one(frame)


@pytest.mark.parametrize(
    ("volume", "depth"), [(50.0, 0.0), (100.0, 0.0), (1e4, 0.5), (1e6, 1.0), (1e9, 1.0)]
)
def test_depth_is_measured_in_decades(volume, depth):
    frame = market().with_columns(
        pl.lit(volume).alias("volume_24h"), pl.lit(None, pl.Float64).alias("open_interest")
    )
    assert one(frame)["liquidity_depth"] == pytest.approx(depth)


def test_a_wilder_price_is_less_stable_at_any_cadence():
    calm, wild = one(market(scale=0.01)), one(market(scale=0.1))
    assert calm["stability"] > 0.8 > 0.3 > wild["stability"]
    hourly = market(scale=0.01, steps=600).gather_every(12)
    assert one(hourly)["stability"] == pytest.approx(calm["stability"], abs=0.08)


def test_a_move_out_of_all_proportion_is_suspect_and_a_usual_one_is_not():
    frame = market()
    assert one(frame)["manipulation_suspect"] < 0.3
    last = pl.int_range(pl.len()) == pl.len() - 1
    for name in ("volume_24h", "open_interest"):
        jump = frame.with_columns(pl.when(last).then(pl.col(name) * 5).otherwise(pl.col(name)))
        assert one(jump)["manipulation_suspect"] == 1.0
        assert one(jump)["score"] < one(frame)["score"] - 5


def test_suspicion_has_no_scale():
    frame = market()
    larger = frame.with_columns(pl.col("volume_24h") * 1e3, pl.col("open_interest") * 1e3)
    assert one(larger)["manipulation_suspect"] == pytest.approx(one(frame)["manipulation_suspect"])


def test_what_is_unknown_stands_at_its_prior_and_is_named():
    bare = market(steps=3).with_columns(
        pl.lit(float("nan")).alias("volume_24h"), pl.lit(None, pl.Float64).alias("open_interest")
    )
    row = one(bare)
    assert row["unknown_components"] == list(COMPONENTS)
    priors = TrustPolicy().priors
    assert [row[name] for name in COMPONENTS] == [getattr(priors, name) for name in COMPONENTS]


def test_a_scored_question_is_known():
    quality = pl.DataFrame({"market_id": ["polymarket:1"], "question_quality": [0.9]})
    row = one(market(), question_quality=quality)
    assert row["question_quality"] == 0.9
    assert row["unknown_components"] == []


@pytest.mark.parametrize(
    "weights", [Components(0.5, 0.5, 0.5, 0.5), Components(1.5, -0.5, 0.0, 0.0)]
)
def test_refuses_weights_that_are_no_weights(weights):
    with pytest.raises(ValueError, match="trust weights"):
        TrustPolicy(weights=weights)


def test_refuses_priors_outside_the_unit_interval():
    with pytest.raises(ValueError, match="trust priors"):
        TrustPolicy(priors=Components(2.0, 0.5, 0.5, 0.5))


def test_no_snapshots_give_an_empty_table():
    rows = build_trust(market().clear())
    assert rows.schema == schema_of(TRUST_SCORE)
    assert rows.height == 0
