"""Cutoffs: no look-ahead, no silent fallback, no lost column."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from market_data.cutoffs import CutoffPolicy, build_cutoffs
from market_data.labels import build_labels
from market_data.lake import polars_schema

BASE = datetime(2026, 9, 1, tzinfo=UTC)
Rows = Callable[..., pl.DataFrame]


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Any], list[Any]]:
    markets, points = [], []
    for number in range(draw(st.integers(1, 4))):
        name = f"m{number}"
        end = BASE + timedelta(seconds=draw(st.integers(0, 6 * 86_400)))
        is_open = draw(st.booleans())
        markets.append((name, None if is_open else end, end))
        seconds = draw(st.lists(st.integers(0, 8 * 86_400), unique=True, max_size=25))
        points += [(name, BASE + timedelta(seconds=s), 0.5) for s in seconds]
    return markets, points


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=histories(), seed=st.integers(0, 99), wide=st.sampled_from([None, 10**7]))
def test_nothing_after_the_cutoff_or_the_resolution_is_ever_chosen(
    registry_rows: Rows, snapshot_rows: Rows, data: Any, seed: int, wide: int | None
) -> None:
    markets, points = data
    registry, snapshots = registry_rows(markets), snapshot_rows(points)
    policy = CutoffPolicy(wide_lookback=wide)
    cutoffs = build_cutoffs(snapshots, registry, None, policy)
    ends = registry.select("market_id", "resolved_at", "status")
    joined = cutoffs.join(ends, on="market_id", how="left", suffix="_m")
    assert joined.filter(pl.col("selected_ts") > pl.col("cutoff_ts")).is_empty()
    assert joined.filter(pl.col("cutoff_ts") >= pl.col("resolved_at")).is_empty()
    assert joined.filter(pl.col("selected_ts") >= pl.col("resolved_at")).is_empty()
    is_t_minus = pl.col("cutoff_type") != "DAILY"
    assert joined.filter(is_t_minus & (pl.col("status") == "ACTIVE")).is_empty()
    known = set(snapshots.select("market_id", "ts").iter_rows())
    assert set(cutoffs.select("market_id", "selected_ts").iter_rows()) <= known
    # Between the chosen snapshot and the cutoff there is no other one.
    later = cutoffs.join(snapshots.select("market_id", "ts"), on="market_id").filter(
        (pl.col("ts") > pl.col("selected_ts")) & (pl.col("ts") <= pl.col("cutoff_ts"))
    )
    assert later.is_empty()
    shuffled = build_cutoffs(
        snapshots.sample(fraction=1, shuffle=True, seed=seed),
        registry.sample(fraction=1, shuffle=True, seed=seed),
        None,
        policy,
    )
    assert shuffled.equals(cutoffs)


def test_the_nearest_earlier_snapshot_is_taken_with_its_age(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(100), at(120))])
    snapshots = snapshot_rows([("m", at(70), 0.2), ("m", at(75.5), 0.3), ("m", at(76.1), 0.4)])
    row = build_cutoffs(snapshots, registry).filter(pl.col("cutoff_type") == "T-24h")
    assert row["p_yes"].to_list() == [0.3]
    assert row["age_seconds"].to_list() == [1800.0]
    assert row["selection_rule"].to_list() == ["NEAREST_EARLIER"]


def test_resolution_comes_before_the_announced_end(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(50), at(500))])
    snapshots = snapshot_rows([("m", at(26), 0.3), ("m", at(475), 0.9)])
    rows = build_cutoffs(snapshots, registry).filter(pl.col("cutoff_type") == "T-24h")
    assert rows["cutoff_ts"].to_list() == [at(26)]
    assert rows["p_yes"].to_list() == [0.3]


def test_a_wider_lookback_is_only_taken_when_configured_and_is_marked(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(100), at(100))])
    snapshots = snapshot_rows([("m", at(60), 0.3)])
    is_24h = pl.col("cutoff_type") == "T-24h"
    assert build_cutoffs(snapshots, registry).filter(is_24h).is_empty()
    wide = build_cutoffs(snapshots, registry, None, CutoffPolicy(wide_lookback=72 * 3600))
    assert wide.filter(is_24h)["selection_rule"].to_list() == ["WIDE_FALLBACK"]


def test_daily_is_one_row_per_day_strictly_before_resolution(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(72), at(72))])
    snapshots = snapshot_rows([("m", at(h), 0.5) for h in range(5, 80)])
    daily = build_cutoffs(snapshots, registry).filter(pl.col("cutoff_type") == "DAILY")
    assert daily["cutoff_ts"].to_list() == [at(24), at(48)]


def test_a_cutoff_row_keeps_every_snapshot_column(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(48), at(48))])
    snapshots = snapshot_rows([("m", at(24), 0.25)])
    row = build_cutoffs(snapshots, registry).row(0, named=True)
    source = snapshots.row(0, named=True)
    carried = set(polars_schema("market_snapshot")) - {"ts", "market_id", "dt"}
    assert carried <= set(row)
    assert {name: row[name] for name in carried} == {name: source[name] for name in carried}


def test_labels_and_registry_give_the_same_cutoffs(
    registry_rows: Rows, snapshot_rows: Rows, at: Callable[[float], datetime]
) -> None:
    registry = registry_rows([("m", at(48), at(60))])
    snapshots = snapshot_rows([("m", at(h), 0.5) for h in range(50)])
    assert build_cutoffs(snapshots, registry, build_labels(registry)).equals(
        build_cutoffs(snapshots, registry)
    )


@pytest.mark.parametrize("rows", [[], [("unknown", BASE, 0.5)]])
def test_snapshots_of_no_known_market_give_no_rows(
    registry_rows: Rows, snapshot_rows: Rows, rows: list[Any]
) -> None:
    assert build_cutoffs(snapshot_rows(rows), registry_rows([("m", BASE, BASE)])).is_empty()
