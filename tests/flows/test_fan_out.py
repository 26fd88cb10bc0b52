"""Stages spread over a Ray cluster write what the same stages write in one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from flows import daily
from flows.fan_out import InTurn
from flows.settings import FlowSettings
from market_data.lake import Lake
from market_data.replay.archive import Archive
from market_data.replay.server import RunningReplay

MakeSettings = Callable[..., FlowSettings]
DERIVED = ("label_status", "cutoff_snapshot", "feature_frame", "trust_score",
           "calibration_metrics", "reliability_curve", "scoreboard")  # fmt: skip


@dataclass(frozen=True)
class Letters:
    """Work that says which part it was."""

    def __call__(self, lake: Lake, part: str) -> Iterator[pl.DataFrame]:
        yield pl.DataFrame({"part": [part]})
        yield pl.DataFrame({"part": [part.upper()]})


def test_parts_in_turn_come_in_their_order(tmp_path: Path) -> None:
    frames = InTurn().frames(Letters(), Lake(tmp_path / "lake"), ["a", "b"])
    assert pl.concat(frames)["part"].to_list() == ["a", "A", "b", "B"]


@pytest.mark.ray
def test_a_calibration_over_ray_writes_the_same_tables(
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    contents: Any,
    tmp_path: Path,
) -> None:
    here, there = settings_for(replay.base_url, "here"), settings_for(replay.base_url, "there")
    daily.ingest.fn(as_of=archive.as_of, flow_settings=here)
    shutil.copytree(here.lake, there.lake)
    daily.calibrate.fn(as_of=archive.as_of, flow_settings=here)
    environment = os.environ | {
        "MARKETCAL_FLOWS__LAKE": there.lake,
        "MARKETCAL_FLOWS__RAW": there.raw,
        "MARKETCAL_FLOWS__RAY_ADDRESS": "local",
    }
    for name in ("calibrate", "refit"):  # a refit holds a run of another pipeline inside its own
        command = [sys.executable, "-m", "gateway.cli.main", name, "--as-of",
                   archive.as_of.isoformat()]  # fmt: skip
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    expected, found = contents(here), contents(there)
    for table in DERIVED:
        assert expected[table].height > 0
        assert found[table].equals(expected[table]), f"table {table} differs"
