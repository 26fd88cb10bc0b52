"""The size of a part decides memory alone: parts together are the whole, to the last bit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from calibration_service.features import build_features
from flows import batches, feature_days
from market_data.lake import Lake, conform, polars_schema

BASE = datetime(2026, 9, 1, tzinfo=UTC)
MARKETS, DAYS = 12, 9


def snapshots(seed: int = 0) -> pl.DataFrame:
    """Irregular prices of markets, some alone in their event; gaps of days, missing volumes."""
    rng = np.random.default_rng(seed)
    rows = []
    for market in range(MARKETS):
        hours = np.unique(rng.integers(0, DAYS * 24, int(rng.integers(3, 120))))
        for hour in hours.tolist():
            volume = None if rng.random() < 0.2 else float(rng.lognormal(5, 2))
            rows.append((f"m{market}", BASE + timedelta(hours=hour), float(rng.random()), volume))
    frame = pl.DataFrame(
        rows, schema=["market_id", "ts", "p_yes", "volume_24h"], orient="row"
    ).with_columns(pl.col("ts").cast(pl.Datetime("us", "UTC")))
    named = polars_schema("market_snapshot")
    lacking = [c for c in named if c not in (*frame.columns, "schema_version", "dt")]
    nulls = [pl.lit(None, dtype=named[name]).alias(name) for name in lacking]
    return conform("market_snapshot", frame.with_columns(nulls))


@pytest.fixture
def registry() -> pl.DataFrame:
    ids = [f"m{market}" for market in range(MARKETS)]
    return pl.DataFrame({"market_id": ids, "event_id": [f"e{i // 2}" for i in range(MARKETS)]})


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    lake.upsert("market_snapshot", snapshots())
    return lake


@pytest.mark.parametrize("rows_at_once", [1, 50, 10_000])
def test_market_batches_hold_every_row_once(lake: Lake, rows_at_once: int) -> None:
    parts = [b.snapshots(lake) for b in batches.market_batches(lake, rows_at_once=rows_at_once)]
    together = pl.concat(parts).sort("market_id", "ts")
    assert together.equals(lake.read("market_snapshot").sort("market_id", "ts"))
    assert sum(part["market_id"].n_unique() for part in parts) == MARKETS


@pytest.mark.parametrize("rows_at_once", [1, 100, 10_000])
def test_features_day_by_day_are_those_of_all_days_at_once(
    lake: Lake, registry: pl.DataFrame, rows_at_once: int
) -> None:
    until = BASE + timedelta(days=DAYS)
    days = batches.day_batches(lake, until=until, rows_at_once=rows_at_once)
    found = pl.concat(part for _, part in feature_days.feature_days(lake, days, registry))
    whole = build_features(lake.read("market_snapshot"), registry=registry)
    assert found.height == whole.height > 300
    assert found.sort("market_id", "ts").equals(whole.sort("market_id", "ts"))


def test_prices_of_other_platforms_are_those_known_at_the_instant_however_days_are_cut(
    lake: Lake, registry: pl.DataFrame
) -> None:
    matches = pl.DataFrame({"market_id": ["m0", "m5"], "other_id": ["m5", "m0"]})
    until, found = BASE + timedelta(days=DAYS), []
    for rows_at_once in (1, 10_000):
        days = batches.day_batches(lake, until=until, rows_at_once=rows_at_once)
        parts = feature_days.feature_days(lake, days, registry, matches)
        found.append(pl.concat(part for _, part in parts).sort("market_id", "ts"))
    assert found[0].equals(found[1])
    said = found[0].drop_nulls("cross_platform_disagreement")
    assert set(said["market_id"]) == {"m0", "m5"}
    stored = lake.read("market_snapshot")
    for row in said.head(20).iter_rows(named=True):
        other = "m5" if row["market_id"] == "m0" else "m0"
        before = stored.filter((pl.col("market_id") == other) & (pl.col("ts") <= row["ts"]))
        last = before.sort("ts")["p_yes"][-1]
        assert row["cross_platform_disagreement"] == pytest.approx(row["p_yes"] - last)


@pytest.mark.parametrize("day", [1, 4, 8])
def test_features_from_any_day_on_need_no_earlier_computation(
    lake: Lake, registry: pl.DataFrame, day: int
) -> None:
    days = batches.day_batches(lake, until=BASE + timedelta(days=DAYS), rows_at_once=1)
    found = pl.concat(part for _, part in feature_days.feature_days(lake, days[day:], registry))
    whole = build_features(lake.read("market_snapshot"), registry=registry)
    later = whole.filter(pl.col("dt") >= days[day][0])
    assert found.sort("market_id", "ts").equals(later.sort("market_id", "ts"))


def test_a_changed_day_makes_it_and_all_later_days_unfinished(
    lake: Lake, registry: pl.DataFrame
) -> None:
    days = batches.day_batches(lake, until=BASE + timedelta(days=DAYS), rows_at_once=1)
    inputs = feature_days.inputs_of(lake)
    assert feature_days.unfinished(lake, days, inputs) == days
    for part, frame in feature_days.feature_days(lake, days, registry):
        lake.replace_part("feature_frame", frame, column="dt", values=part)
        feature_days.remember(lake, part, inputs)
    assert feature_days.unfinished(lake, days, inputs) == []
    moved = snapshots().filter(pl.col("dt") == days[3][0]).with_columns(p_yes=pl.lit(0.5))
    lake.upsert("market_snapshot", moved)
    assert feature_days.unfinished(lake, days, feature_days.inputs_of(lake)) == days[3:]


def test_a_match_that_is_found_later_reaches_the_days_of_its_markets(
    lake: Lake, registry: pl.DataFrame
) -> None:
    days = batches.day_batches(lake, until=BASE + timedelta(days=DAYS), rows_at_once=1)
    inputs = feature_days.inputs_of(lake)
    for part, frame in feature_days.feature_days(lake, days, registry):
        lake.replace_part("feature_frame", frame, column="dt", values=part)
        feature_days.remember(lake, part, inputs)
    first = lake.read("market_snapshot", pl.col("market_id") == "m3")["dt"].min()
    lake.upsert(
        "market_match",
        pl.DataFrame({"market_id": ["m3"], "other_id": ["m7"], "score": [1.0], "reason": [""]}),
    )
    left = feature_days.unfinished(lake, days, feature_days.inputs_of(lake))
    assert left == [part for part in days if part[0] >= first]


def test_a_day_whose_rows_are_gone_is_unfinished(lake: Lake, registry: pl.DataFrame) -> None:
    days = batches.day_batches(lake, until=BASE + timedelta(days=DAYS), rows_at_once=1)
    inputs = feature_days.inputs_of(lake)
    for part in days:
        feature_days.remember(lake, part, inputs)  # and nothing is stored
    assert feature_days.unfinished(lake, days, inputs) == days


def test_the_last_snapshot_of_every_market_is_found_up_to_an_instant(lake: Lake) -> None:
    until = BASE + timedelta(days=5, hours=3)
    found = batches.last_snapshots(lake, until=until)
    known = lake.read("market_snapshot").filter(pl.col("ts") <= until)
    expected = known.sort("ts").group_by("market_id").last().select(found.columns)
    assert found.sort("market_id").equals(expected.sort("market_id"))
