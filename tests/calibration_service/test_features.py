"""Features come from the past alone, in any row order, and what is missing stays missing."""

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal
from scipy import special

from calibration_service.features import Impute, build_features
from calibration_service.frames import schema_of
from market_data.schemas import FEATURE_FRAME

START = datetime(2026, 1, 1, tzinfo=UTC)


def snapshots(markets=3, steps=30, seed=0, missing=0.1):
    rng = np.random.default_rng(seed)
    n = markets * steps
    p = special.expit(np.cumsum(rng.normal(0, 0.1, (markets, steps)), axis=1)).ravel()

    def holes(values):
        return np.where(rng.random(n) < missing, np.nan, values)

    frame = pl.DataFrame(
        {
            "ts": np.tile(np.arange(steps) * 300, markets),
            "market_id": np.repeat([f"polymarket:{i}" for i in range(markets)], steps),
            "p_yes": holes(p),
            "volume_24h": holes(rng.lognormal(9, 1, n)),
            "open_interest": holes(rng.lognormal(9, 0.1, n)),
            "spread": holes(np.full(n, 0.02)),
            "tte_seconds": holes(np.linspace(9e5, 0, n)),
            "data_freshness_sec": holes(rng.exponential(2_000, n)),
        }
    )
    return frame.with_columns(
        (pl.lit(START).cast(pl.Datetime("us", "UTC")) + pl.duration(seconds="ts")).alias("ts")
    )


REGISTRY = pl.DataFrame(
    {"market_id": ["polymarket:0", "polymarket:1", "polymarket:2"], "event_id": ["a", "a", "b"]}
)


def features(frame, elsewhere=None):
    return build_features(frame, registry=REGISTRY, elsewhere=elsewhere)


def test_rows_are_those_of_the_table_one_per_snapshot():
    frame = snapshots()
    got = features(frame)
    assert got.schema == schema_of(FEATURE_FRAME)
    assert got.height == frame.height


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_any_row_order_gives_the_same_features(seed, shuffle):
    frame = snapshots(seed=seed)
    shuffled = frame.sample(fraction=1.0, shuffle=True, seed=shuffle)
    assert_frame_equal(features(frame), features(shuffled))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 29))
def test_nothing_looks_ahead(seed, cut):
    """Rows up to an instant are the same whatever came later, prices and markets alike."""
    frame = snapshots(seed=seed)
    until = frame["ts"].unique().sort()[cut]
    other = snapshots(seed=seed + 5_000)
    changed = pl.concat([frame.filter(pl.col("ts") <= until), other.filter(pl.col("ts") > until)])
    past = pl.col("ts") <= until
    assert_frame_equal(features(frame).filter(past), features(changed).filter(past))
    only = features(frame.filter(past))
    assert_frame_equal(features(frame).filter(past), only)


def test_values_agree_with_plain_arithmetic():
    frame = snapshots(missing=0.0)
    got = features(frame).filter(pl.col("market_id") == "polymarket:1")
    mine = frame.filter(pl.col("market_id") == "polymarket:1")
    z, v = special.logit(mine["p_yes"].to_numpy()), mine["volume_24h"].to_numpy()
    r = np.diff(z)
    np.testing.assert_allclose(got["logit_return_6"].to_numpy()[6:], z[6:] - z[:-6], atol=1e-12)
    np.testing.assert_allclose(got["rolling_std_5"][20], r[15:20].std(ddof=1), atol=1e-9)
    np.testing.assert_allclose(got["acceleration"][9], r[8] - r[7], atol=1e-12)
    assert got["reversal"][9] == (r[8] * r[7] < 0)
    np.testing.assert_allclose(got["volume_ratio"][20], v[20] / v[8:20].mean())
    assert got["gap_seconds"][1:].unique().to_list() == [300.0]
    other = frame.filter(pl.col("market_id") == "polymarket:0")["p_yes"].to_numpy()
    pair = np.stack([mine["p_yes"].to_numpy(), other])
    np.testing.assert_allclose(got["event_consensus"].to_numpy(), pair.mean(axis=0))
    np.testing.assert_allclose(got["event_dispersion"].to_numpy(), pair.std(axis=0, ddof=1))


def test_a_market_does_not_borrow_from_the_one_before_it():
    first = features(snapshots(missing=0.0)).group_by("market_id", maintain_order=True).first()
    for name in ("logit_return_1", "rolling_std_3", "acceleration", "volume_ratio", "gap_seconds"):
        assert first[name].null_count() == 3
    early = features(snapshots(missing=0.0)).group_by("market_id", maintain_order=True).head(12)
    assert early["volume_ratio"].null_count() == early.height


@pytest.mark.parametrize(
    ("column", "feature", "flag"),
    [
        ("p_yes", "distance_from_half", Impute.PRICE),
        ("volume_24h", "volume_ratio", Impute.VOLUME),
        ("open_interest", "open_interest_change", Impute.OPEN_INTEREST),
        ("spread", "spread", Impute.SPREAD),
        ("tte_seconds", "tte_seconds", Impute.TIME_TO_EVENT),
        ("data_freshness_sec", "is_stale", Impute.FRESHNESS),
    ],
)
def test_a_missing_input_stays_missing_and_sets_its_flag(column, feature, flag):
    frame = snapshots(missing=0.0).with_columns(pl.lit(float("nan")).alias(column))
    got = features(frame)
    assert got[feature].null_count() == got.height
    assert ((got["impute_flags"] & int(flag)) > 0).all()


def test_a_complete_row_has_no_flag():
    got = features(snapshots(missing=0.0)).filter(pl.col("market_id") == "polymarket:0")
    assert got["impute_flags"][-1] == int(Impute.PLATFORMS)  # nobody said what others think


def test_disagreement_is_the_distance_to_the_other_platforms_at_the_same_instant():
    frame = snapshots(missing=0.0)
    said = frame.filter(pl.col("market_id") == "polymarket:0").select(
        "ts", "market_id", pl.lit(0.25).alias("p_elsewhere")
    )
    got = features(frame, elsewhere=said)
    own = pl.col("market_id") == "polymarket:0"
    assert got.filter(own)["cross_platform_disagreement"].to_list() == pytest.approx(
        (got.filter(own)["p_yes"] - 0.25).to_list()
    )
    assert got.filter(~own)["cross_platform_disagreement"].null_count() == got.filter(~own).height
    assert got.filter(own)["impute_flags"][-1] == 0


def test_a_market_alone_in_its_event_is_its_own_consensus_and_says_so():
    got = features(snapshots(missing=0.0)).filter(pl.col("market_id") == "polymarket:2")
    assert got["event_consensus"].to_list() == got["p_yes"].to_list()
    assert got["event_dispersion"].null_count() == got.height
    assert ((got["impute_flags"] & int(Impute.EVENT)) > 0).all()


def test_a_long_gap_is_flagged():
    frame = snapshots(missing=0.0).filter(pl.col("market_id") == "polymarket:0")
    torn = pl.concat([frame.head(5), frame.tail(5)])
    flags = features(torn)["impute_flags"] & int(Impute.LONG_GAP)
    assert (flags > 0).to_list() == [i == 5 for i in range(10)]


def test_no_snapshots_give_an_empty_table():
    got = features(snapshots().clear())
    assert got.schema == schema_of(FEATURE_FRAME)
    assert got.height == 0
