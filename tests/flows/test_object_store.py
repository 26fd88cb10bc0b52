"""A whole run whose lake and raw files lie on an object store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flows import daily
from flows.settings import FlowSettings
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay

MakeSettings = Callable[..., FlowSettings]
COMPARED = (
    "market_registry", "label_status", "cutoff_snapshot", "feature_frame", "trust_score",
    "forecast_band", "calibration_metrics", "recalibration_state", "scoreboard",
)  # fmt: skip


def test_a_run_on_an_object_store_writes_the_tables_of_one_in_a_folder(
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: Any,
    run_row: Any,
    bucket: str,
) -> None:
    local = settings_for(replay.base_url, "local")
    remote = local.model_copy(update={"lake": f"{bucket}/lake", "raw": f"{bucket}/raw"})
    daily.daily.fn(as_of=archive.as_of, flow_settings=local)
    run = daily.daily.fn(as_of=archive.as_of, flow_settings=remote)
    assert run_row(run)["status"] == "SUCCESS"
    expected, found = contents(local), contents(remote)
    for table in COMPARED:
        assert expected[table].height > 0
        assert found[table].equals(expected[table]), f"table {table} differs"
