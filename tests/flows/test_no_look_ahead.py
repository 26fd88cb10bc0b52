"""A run over the past sees what was known then, and nothing of what came later."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.runs import Run
from flows.settings import FlowSettings
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay, serve

MakeSettings = Callable[..., FlowSettings]
DERIVED = (
    "feature_frame", "calibration_metrics", "reliability_curve", "trust_score", "scoreboard",
)  # fmt: skip


@pytest.fixture(scope="module")
def instant(archive: Archive) -> datetime:
    return archive.as_of - timedelta(days=4, hours=5)


def as_known_at(archive: Archive, instant: datetime) -> Archive:
    """What the venue held at an instant: no later market, outcome, price or flow."""
    until = int(instant.timestamp())

    def then(record: dict[str, Any]) -> dict[str, Any]:
        if not record["closed"] or datetime.fromisoformat(record["closedTime"]) <= instant:
            return record
        final = ("closedTime", "umaResolutionStatus", "umaResolutionStatuses")
        reopened = {k: v for k, v in record.items() if k not in final}
        return reopened | {"closed": False, "outcomePrices": '["0.5", "0.5"]'}

    markets = [
        then(record)
        for record in archive.markets
        if datetime.fromisoformat(record["createdAt"]) <= instant
    ]
    points = archive.prices.explode("t", "p").filter(pl.col("t") <= until)
    flows = {
        name: [flow for flow in getattr(archive, name) if int(flow["timestamp"]) <= until]
        for name in ("splits", "merges", "redemptions")
    }
    prices = points.group_by("token_id", maintain_order=True).agg("t", "p")
    return dataclasses.replace(archive, markets=markets, prices=prices, **flows)


def test_a_run_over_the_past_equals_the_run_of_that_day(
    archive: Archive,
    replay: RunningReplay,
    instant: datetime,
    settings_for: MakeSettings,
    contents: Any,
) -> None:
    later = settings_for(replay.base_url, "later")
    daily.daily.fn(as_of=instant, flow_settings=later)
    with serve(as_known_at(archive, instant)) as venue:
        on_the_day = settings_for(venue.base_url, "on-the-day")
        daily.daily.fn(as_of=instant, flow_settings=on_the_day)
    found, expected = contents(later), contents(on_the_day)
    assert found["market_snapshot"].height > expected["market_snapshot"].height
    for table in DERIVED:
        assert expected[table].height > 0
        assert found[table].equals(expected[table]), f"table {table} differs"


def test_nothing_that_was_published_is_later_than_the_run(
    archive: Archive, replay: RunningReplay, instant: datetime, settings_for: MakeSettings
) -> None:
    run = daily.daily.fn(as_of=instant, flow_settings=settings_for(replay.base_url))
    board = run.lake.read("scoreboard")
    assert board["price_ts"].max() <= instant  # type: ignore[operator]
    assert run.lake.read("trust_score")["ts"].max() <= instant  # type: ignore[operator]
    assert run.lake.read("feature_frame")["ts"].max() <= instant  # type: ignore[operator]
    registry = run.lake.read("market_registry")
    open_then = registry.filter(pl.col("closed_at") > instant)["market_id"]
    assert open_then.len() > 0
    assert set(board.filter(pl.col("market_id").is_in(open_then.implode()))["status"]) == {"ACTIVE"}
    overall = run.lake.read("calibration_metrics").filter(
        (pl.col("segment_key") == "category=*|liquidity=*|tte=*") & (pl.col("window") == "90d")
    )
    resolved_then = run.lake.read("label_status").filter(
        pl.col("label").str.starts_with("RESOLVED") & (pl.col("resolved_at") <= instant)
    )
    cutoffs = run.lake.read("cutoff_snapshot").join(resolved_then, on="market_id", how="semi")
    assert overall["sample_size"].item() == cutoffs.height


def test_a_run_over_the_past_leaves_a_newer_scoreboard_in_place(
    archive: Archive, replay: RunningReplay, instant: datetime, settings_for: MakeSettings
) -> None:
    settings = settings_for(replay.base_url)
    newest: Run = daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
    version = newest.lake.version("scoreboard")
    past = daily.daily.fn(as_of=instant, flow_settings=settings)
    assert past.lake.version("scoreboard") == version
    assert "is newer and stays" in past.stages["scoreboard"].note
    assert past.lake.read("calibration_metrics", pl.col("run_id") == past.run_id).height > 0
