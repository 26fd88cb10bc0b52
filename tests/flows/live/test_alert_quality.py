"""What became of alerts, and what another policy would have raised, from the tables of the lake."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from calibration_service.alerts.errors import PolicyError
from calibration_service.alerts.policy import DEFAULT_FILE
from flows.alert_quality import alert_quality
from flows.live_lake import alert_frame, alerts_from, export_alerts, export_bars, prune
from flows.runs import NoDataError
from flows.settings import FlowSettings
from market_data.lake import Lake, empty
from market_data.streaming.events import Resolved
from tests.flows.live.conftest import Day, Machine

UNTIL = datetime(2026, 9, 15, 3, tzinfo=UTC)


@pytest.fixture
async def told(machine: Machine, day: Day, tmp_path: Path) -> tuple[Machine, Lake, FlowSettings]:
    """The simulated hours worked on, and written to a lake."""
    lake = Lake(tmp_path / "lake")
    over = {one.market_id: one.ms for one in day.events if isinstance(one, Resolved)}
    rows = [
        {
            "market_id": name, "event_id": f"e:{name}", "platform": "polymarket", "question": "Q?",
            "venue_market_id": name, "outcomes": ["Yes", "No"], "token_ids": ["1", "2"],
            "tick_size": 0.01, "status": "ACTIVE",
            "resolved_at": datetime.fromtimestamp(over[name] / 1e3, UTC) if name in over else None,
        }
        for name in sorted(day.markets)
    ]  # fmt: skip
    table = empty("market_registry").drop("schema_version")
    lake.upsert("market_registry", pl.concat([table, pl.DataFrame(rows)], how="diagonal_relaxed"))
    machine.facts._markets.clear()
    machine.facts.read(lake, day.markets)
    await machine.publish(day.events)
    await machine.work()
    export_bars(machine.engine, lake)
    export_alerts(machine.engine, lake)
    settings = FlowSettings(lake=str(tmp_path / "lake"), raw=str(tmp_path / "raw"))
    return machine, lake, settings


Told = tuple[Machine, Lake, FlowSettings]


def run(settings: FlowSettings, **more: Any) -> pl.DataFrame:
    done = alert_quality.fn(as_of=UNTIL, flow_settings=settings, days=2, **more)
    return Lake(settings.lake).read("alert_quality", pl.col("run_id") == done.run_id)


def test_the_lake_has_the_bars_and_alerts_of_the_store(told: Told) -> None:
    machine, lake, _ = told
    assert lake.read("bar").height == len(machine.bars())
    stored = sorted(alerts_from(lake.read("alert")), key=lambda one: (one.at_ms, one.alert_id))
    assert stored == machine.alerts()
    assert export_bars(machine.engine, lake) == 0
    assert export_alerts(machine.engine, lake) == 0


def test_a_report_has_a_row_with_intervals_for_each_severity(told: Told) -> None:
    machine, _, settings = told
    found = {row["severity"]: row for row in run(settings).iter_rows(named=True)}
    assert set(found) == {"FYI", "MED", "HIGH"}
    total = sum(row["alerts"] for row in found.values())
    assert total == len(machine.alerts()) > 3
    one = next(row for row in found.values() if row["alerts"])
    assert one["rate"] == pytest.approx(one["alerts"] / one["market_days"])
    assert one["rate_lo"] <= one["rate"] <= one["rate_hi"]
    assert one["nominal_rate"] == pytest.approx(2.88)
    assert 0.5 < one["market_days"] < 1.0  # two hours of ten markets
    assert one["source"] == "stream"


def test_the_batch_raises_what_the_stream_raised(told: Told, tmp_path: Path) -> None:
    machine, _, settings = told
    policy = tmp_path / "policy.toml"
    policy.write_text(DEFAULT_FILE.read_text())
    report = run(settings, policy_file=policy)
    streamed = run(settings)
    assert report["alerts"].to_list() == streamed["alerts"].to_list()
    assert report["rate"].to_list() == streamed["rate"].to_list()
    assert set(report["source"]) == {"batch"}
    assert machine.alerts()[0].policy_version in set(report["policy_version"])


def test_the_nominal_rate_is_that_of_the_policy_of_the_alerts(told: Told, tmp_path: Path) -> None:
    machine, lake, settings = told
    wider = tmp_path / "wider.toml"
    wider.write_text(
        DEFAULT_FILE.read_text().replace("alert_low_level = 0.005", "alert_low_level = 0.01")
    )
    tried = run(settings, policy_file=wider)
    assert tried["nominal_rate"].to_list() == [pytest.approx(288 * 0.015)] * 3
    assert run(settings, stream_policy=wider)["nominal_rate"].to_list() == [None] * 3
    first = machine.alerts()[0]
    other = replace(first, alert_id="0" * 36, policy_version="earlier+00000000")
    lake.upsert("alert", alert_frame([(other, "")]))
    both = run(settings)
    assert both["nominal_rate"].to_list() == both["policy_version"].to_list() == [None] * 3


def test_refuses_thresholds_that_need_longer_bands(told: Told) -> None:
    with pytest.raises(PolicyError, match="reference_minutes"):
        run(told[2], policy_file=DEFAULT_FILE, steps=10)


def test_a_report_is_valid_json(told: Told) -> None:
    shown = json.dumps(run(told[2]).drop("as_of").to_dicts(), allow_nan=False)
    assert "NaN" not in shown


def test_another_policy_raises_other_alerts(told: Told, tmp_path: Path) -> None:
    _, _, settings = told
    text = DEFAULT_FILE.read_text().replace("minimum_move = 0.02", "minimum_move = 0.9")
    policy = tmp_path / "strict.toml"
    policy.write_text(text)
    assert run(settings, policy_file=policy)["alerts"].sum() == 0


def test_no_bars_are_no_report(tmp_path: Path) -> None:
    settings = FlowSettings(lake=str(tmp_path / "lake"), raw=str(tmp_path / "raw"))
    with pytest.raises(NoDataError, match="no bar"):
        run(settings)


def test_old_bars_leave_the_store_once_the_lake_has_them(told: Told) -> None:
    machine, lake, _ = told
    before = lake.read("bar").height
    prune(machine.engine, keep_days=0)
    assert len(machine.bars()) < 30
    assert lake.read("bar").height == before
