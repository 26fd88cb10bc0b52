"""``marketcal conformal``: what each stage did, and one line when there is nothing to do it on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from market_data.lake import Lake

SMALL = {
    "MIN_SAMPLES": "20", "MIN_EVENTS": "10", "EVERY_STEPS": "1", "MAX_STEPS": "2", "DAYS": "90",
    "MODELS": '["last_value"]',
}  # fmt: skip


@pytest.fixture
def lake(publish: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name, value in SMALL.items():
        monkeypatch.setenv(f"MARKETCAL_FLOWS__CONFORMAL__{name}", value)
    made = publish(tmp_path / "lake", markets=120, seed=5)
    monkeypatch.setenv("MARKETCAL_FLOWS__LAKE", str(made.lake))
    return made


def test_the_stages_of_a_run_are_told_and_a_second_one_writes_nothing(run: Any, lake: Any) -> None:
    asked = ("conformal", "--as-of", f"{lake.as_of:%Y-%m-%d}", "--output", "json")
    first = run(*asked)
    assert first.exit_code == 0, first.output
    stages = json.loads(first.stdout)
    assert [row["stage"] for row in stages] == ["bands", "corrections", "coverage"]
    assert all(row["written"] > 0 for row in stages[:2])
    assert Lake(lake.lake).read("conformal_state")["version"].n_unique() == 1
    assert [row["written"] for row in json.loads(run(*asked).stdout)] == [0, 0, 0]


def test_a_lake_without_prices_is_one_line_and_no_success(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MARKETCAL_FLOWS__LAKE", str(tmp_path / "none"))
    result = run("conformal")
    assert result.exit_code == 5
    assert "conformal: NoDataError: no price before" in result.output
