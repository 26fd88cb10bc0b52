"""What Prefect is told to run: flows by the names of their modules, at times that exist."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import Flow
from prefect.client.schemas.schedules import CronSchedule
from prefect.flows import load_flow_from_entrypoint

FILE = Path(__file__).parents[2] / "deploy" / "prefect.yaml"
DEPLOYMENTS: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["deployments"]
SCHEDULED = {
    "alert_quality", "conformal", "daily", "evaluate", "postmortem", "refit", "retention",
}  # fmt: skip


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: str(one["name"]))
def test_an_entry_point_is_a_flow_by_the_name_of_its_module(deployment: dict[str, Any]) -> None:
    entry = deployment["entrypoint"]
    assert not set(entry) & set(":/\\")
    module, _, name = entry.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), Flow)
    found = load_flow_from_entrypoint(entry, use_placeholder_flow=False)
    assert found.name == deployment["name"] == name
    known = set(found.parameters.properties)
    assert set(deployment.get("parameters", {})) <= known


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda one: str(one["name"]))
def test_a_schedule_is_in_utc_and_no_two_runs_of_a_flow_overlap(
    deployment: dict[str, Any],
) -> None:
    schedules = deployment.get("schedules", [])
    assert (deployment["name"] in SCHEDULED) == bool(schedules)
    for schedule in schedules:
        assert CronSchedule(**schedule).timezone == "UTC"
    assert deployment["concurrency_limit"] == 1


def test_every_scheduled_flow_is_there_once() -> None:
    names = [one["name"] for one in DEPLOYMENTS]
    assert sorted(names) == sorted(set(names))
    assert set(names) >= SCHEDULED


def test_nothing_is_fetched_or_loaded_from_a_path() -> None:
    told = yaml.safe_load(FILE.read_text())
    assert [told[step] for step in ("build", "push", "pull")] == [None, None, None]
    assert ".py" not in FILE.read_text()
