"""Forecasts of a daily run: for open markets with a price of now, at the run's own instant."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import polars as pl

from flows import daily
from flows.forecasts import SOURCE, forecasts
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay

MakeSettings = Callable[..., FlowSettings]


def test_open_markets_have_a_band_from_the_last_step_before_the_runs_end(
    undisturbed: Run, archive: Archive
) -> None:
    bands = undisturbed.lake.read("forecast_band", pl.col("source") == SOURCE)
    assert bands.height > 0
    registry = undisturbed.lake.read("market_registry")
    open_markets = registry.filter(pl.col("status") == "ACTIVE")["market_id"].to_list()
    assert set(bands["market_id"]) <= set(open_markets)
    late = bands.filter(pl.col("ts") + pl.duration(seconds="step_seconds") <= archive.as_of)
    assert late.is_empty(), "the origin is the last step at or before the end"
    for row in bands.head(50).iter_rows(named=True):
        assert row["values"] == sorted(row["values"])
        assert 0.0 <= row["values"][0] <= row["values"][-1] <= 1.0


def test_a_price_of_days_ago_stands_for_no_present(
    replay: RunningReplay, archive: Archive, settings_for: MakeSettings
) -> None:
    settings = settings_for(replay.base_url)
    run = daily.ingest.fn(as_of=archive.as_of, flow_settings=settings)
    later = Run(
        pipeline="daily",
        lake=Lake(settings.lake),
        settings=settings,
        interval_start=run.interval_start,
        interval_end=archive.as_of + timedelta(days=20),
        now=run.now,
    )
    done = forecasts(later)
    assert done.rows_out == 0
    assert done.note.startswith("0 of ")
