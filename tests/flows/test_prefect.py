"""Every flow as a Prefect server sees it: stages, states, artifacts, and nothing persisted."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from prefect.events.worker import EventsWorker
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_HOME,
    PREFECT_LOGGING_LEVEL,
    PREFECT_LOGGING_TO_API_ENABLED,
    temporary_settings,
)
from pydantic import SecretStr

from flows import daily
from flows.backfill import backfill
from flows.conformal import conformal
from flows.daily import CALIBRATION, INGESTION, SHARED
from flows.dead_letters import replay as replay_letters
from flows.evaluate import evaluate
from flows.evaluation_settings import EvaluationSettings
from flows.evaluation_stages import Order
from flows.postmortem import postmortem
from flows.refit import refit
from flows.retention import retention
from flows.runs import NoDataError, Run
from flows.settings import FlowSettings
from market_data.errors import VenueUnreachable
from market_data.replay.archive import Archive
from market_data.replay.faults import FaultPlan
from market_data.replay.server import RunningReplay, serve

pytestmark = pytest.mark.prefect
STAGES = [stage.name for stage in (*INGESTION, *CALIBRATION)]
MakeSettings = Callable[..., FlowSettings]


@dataclass(frozen=True, slots=True)
class Server:
    """A running Prefect server; ``ask`` posts to its API."""

    api: str
    home: Path

    def ask(self, path: str, **body: Any) -> Any:
        answer = httpx.post(f"{self.api}/{path}", json=body, timeout=20)
        answer.raise_for_status()
        return answer.json()

    def run_named(self, run_name: str) -> dict[str, Any]:
        """The flow run with this name."""
        found = self.ask("flow_runs/filter", flow_runs={"name": {"any_": [run_name]}})
        assert len(found) == 1
        return dict(found[0])

    def of_run(self, run: dict[str, Any], what: str) -> list[dict[str, Any]]:
        """Task runs or artifacts of a flow run."""
        return list(self.ask(f"{what}/filter", flow_runs={"id": {"any_": [run["id"]]}}))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A Prefect server in its own process and folder, on a port that the kernel picks."""
    home = tmp_path_factory.mktemp("prefect")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_API_URL": "",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_LOGGING_SERVER_LEVEL": "WARNING",
    }
    command = (
        "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app",
        "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning",
    )  # fmt: skip
    with (home / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, *command], env=environment, stdout=log, stderr=log
        )
    try:
        wait_until_healthy(f"http://127.0.0.1:{port}/api/health", process, home / "server.log")
        changes = {
            PREFECT_API_URL: f"http://127.0.0.1:{port}/api",
            PREFECT_HOME: home,
            PREFECT_LOGGING_LEVEL: "CRITICAL",
            PREFECT_LOGGING_TO_API_ENABLED: False,
        }
        with temporary_settings(changes):
            yield Server(f"http://127.0.0.1:{port}/api", home)
            EventsWorker.drain_all()  # else this process would wait at its end for a dead server
    finally:
        process.terminate()
        process.wait(20)


def wait_until_healthy(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        try:
            if httpx.get(url, timeout=2).status_code == 200:
                return
        except httpx.TransportError:
            pass
    raise AssertionError(f"no Prefect server within 60 s: {log.read_text()}")


@pytest.fixture(scope="module")
def seen(
    server: Server, archive: Archive, replay: RunningReplay, tmp_path_factory: Any
) -> tuple[Run, dict[str, Any]]:
    """A run through Prefect and what the server keeps of it."""
    folder = tmp_path_factory.mktemp("seen")
    settings = FlowSettings(
        lake=str(folder / "lake"),
        raw=str(folder / "raw"),
        gamma_url=f"{replay.base_url}/gamma",
        clob_url=f"{replay.base_url}/clob",
        subgraph_url=f"{replay.base_url}/subgraph/activity",
        venue_rate=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = daily.daily(as_of=archive.as_of, flow_settings=settings)
    return run, server.run_named("daily 2026-10-01")


def test_each_stage_is_one_completed_task_run_with_its_name(
    server: Server, seen: tuple[Run, dict[str, Any]]
) -> None:
    run, flow_run = seen
    assert isinstance(run, Run)
    assert (flow_run["state"]["type"], flow_run["state"]["name"]) == ("COMPLETED", "Completed")
    tasks = server.of_run(flow_run, "task_runs")
    assert sorted(task["name"] for task in tasks) == sorted(STAGES)
    assert {task["state"]["name"] for task in tasks} == {"Completed"}
    begun = sorted(tasks, key=lambda task: task["start_time"])
    assert [task["name"] for task in begun] == STAGES


def test_a_run_shows_its_rows_its_scores_and_its_reliability(
    server: Server, seen: tuple[Run, dict[str, Any]]
) -> None:
    run, flow_run = seen
    artifacts = {artifact["key"]: artifact for artifact in server.of_run(flow_run, "artifacts")}
    assert set(artifacts) == {
        "daily-stages", "daily-scores", "daily-reliability-30d", "daily-reliability-90d",
        "daily-recalibration", "daily-recalibration-map", "daily-trust",
    }  # fmt: skip
    stages = artifacts["daily-stages"]["data"]
    assert f'"rows out": {run.stages["prices"].rows_out}' in stages
    assert all(f'"stage": "{stage}"' in stages for stage in STAGES)
    assert "category=*|liquidity=*|tte=*" in artifacts["daily-scores"]["data"]
    reliability = [f"daily-reliability-{window}" for window in run.settings.windows]
    for key in (*reliability, "daily-recalibration-map", "daily-trust"):
        assert "](data:image/png;base64,iVBORw0KGgo" in artifacts[key]["data"]


def test_prefect_keeps_no_result(server: Server, seen: tuple[Run, dict[str, Any]]) -> None:
    _, flow_run = seen
    assert flow_run["state"]["data"] is None
    kept = server.home / "storage"
    assert not kept.exists() or not list(kept.iterdir())


def test_a_run_that_failed_in_parts_is_a_partial_success_that_names_them(
    server: Server,
    archive: Archive,
    replay: RunningReplay,
    settings_for: MakeSettings,
    run_row: Callable[[Run], dict[str, Any]],
) -> None:
    with serve(archive, faults=FaultPlan(server_error=0.1, seed=3)) as shaky:
        settings = settings_for(
            replay.base_url, clob_url=f"{shaky.base_url}/clob", venue_attempts=1
        )
        until = archive.as_of + timedelta(days=1)
        state: Any = daily.daily(as_of=until, flow_settings=settings, return_state=True)
    assert (state.type, state.name) == ("COMPLETED", "PartialSuccess")
    kept = server.run_named("daily 2026-10-02")["state"]
    assert (kept["type"], kept["name"]) == ("COMPLETED", "PartialSuccess")
    assert "price histories failed for good: polymarket:" in kept["message"]
    row = run_row(settings)
    assert (row["status"], row["error"]) == ("PARTIAL_SUCCESS", kept["message"])


def test_a_stage_that_fails_is_tried_again_and_then_fails_the_run(
    server: Server, archive: Archive, settings_for: MakeSettings
) -> None:
    settings = settings_for("http://127.0.0.1:9", venue_attempts=1, retry_seconds=(0.0, 0.0))
    with pytest.raises(VenueUnreachable, match="no answer"):
        daily.daily(as_of=archive.as_of + timedelta(days=3), flow_settings=settings)
    flow_run = server.run_named("daily 2026-10-04")
    assert flow_run["state"]["type"] == "FAILED"
    assert "VenueUnreachable" in flow_run["state"]["message"]
    (task,) = server.of_run(flow_run, "task_runs")
    assert (task["name"], task["state"]["type"], task["run_count"]) == ("markets", "FAILED", 3)


def test_a_run_without_data_fails_at_once(
    server: Server, archive: Archive, replay: RunningReplay, settings_for: MakeSettings
) -> None:
    settings = settings_for(replay.base_url, retry_seconds=(0.0, 0.0))
    with pytest.raises(NoDataError):
        daily.daily(as_of=archive.as_of - timedelta(days=500), flow_settings=settings)
    flow_run = server.run_named("daily 2025-05-19")
    assert (flow_run["state"]["type"], flow_run["name"]) == ("FAILED", "daily 2025-05-19")
    (failed,) = [
        task for task in server.of_run(flow_run, "task_runs") if task["state"]["type"] == "FAILED"
    ]
    assert (failed["name"], failed["run_count"]) == ("metrics", 1)


def test_an_evaluation_shows_verdicts_and_pictures_and_not_the_key(
    server: Server, archive: Archive, seen: tuple[Run, dict[str, Any]], tmp_path: Path
) -> None:
    small = EvaluationSettings(
        reports=str(tmp_path), context_steps=12, horizon_steps=2, stride_steps=2, time_share=0.5
    )
    settings = seen[0].settings.model_copy(update={"evaluation": small})
    order = Order(models=("random_walk",), champion="ewma", key=SecretStr("mk_secret"))
    run = evaluate(order, as_of=archive.as_of, flow_settings=settings)
    assert list(run.stages) == ["histories", "forecasts", "scores", "promotion", "report"]
    flow_run = server.run_named("evaluate 2026-10-01")
    assert flow_run["state"]["name"] == "Completed"
    assert "mk_secret" not in str(flow_run)
    artifacts = {artifact["key"]: artifact for artifact in server.of_run(flow_run, "artifacts")}
    assert set(artifacts) == {
        "evaluate-stages", "evaluation", "evaluation-fan", "evaluation-coverage",
        "evaluation-pinball",
    }  # fmt: skip
    assert "| random_walk | ewma |" in artifacts["evaluation"]["data"]
    assert "data:image/png;base64,iVBORw0KGgo" in artifacts["evaluation-fan"]["data"]


def keys_of(server: Server, flow_run: dict[str, Any]) -> set[str]:
    return {artifact["key"] for artifact in server.of_run(flow_run, "artifacts")}


def tasks_of(server: Server, flow_run: dict[str, Any]) -> list[str]:
    tasks = server.of_run(flow_run, "task_runs")
    return [task["name"] for task in sorted(tasks, key=lambda task: task["start_time"])]


def of_conformal(settings: FlowSettings) -> FlowSettings:
    small = settings.conformal.model_copy(
        update={
            "models": ("last_value",), "min_samples": 20, "min_events": 10,
            "every_steps": 1, "max_steps": 2,
        }
    )  # fmt: skip
    return settings.model_copy(update={"conformal": small})


def test_a_backfill_shows_each_stage_of_each_day_and_names_the_days_that_failed(
    server: Server, seen: tuple[Run, dict[str, Any]]
) -> None:
    settings = seen[0].settings.model_copy(update={"windows": ("1d",)})
    state: Any = backfill(
        date(2026, 9, 29), date(2026, 10, 2), flow_settings=settings, return_state=True
    )
    assert state.name == "PartialSuccess"
    flow_run = server.run_named("backfill 2026-09-29 … 2026-10-02")
    assert "2026-10-02: metrics: NoDataError" in flow_run["state"]["message"]
    names = tasks_of(server, flow_run)
    assert names[: len(SHARED)] == [stage.name for stage in SHARED]
    assert {f"metrics 2026-{day}" for day in ("09-29", "09-30", "10-01", "10-02")} <= set(names)
    assert names.index("scoreboard 2026-09-29") < names.index("scoreboard 2026-09-30")
    stages = server.of_run(flow_run, "artifacts")
    assert {artifact["key"] for artifact in stages} == {"backfill-stages"}
    assert '"stage": "2026-09-30"' in stages[0]["data"]


def test_a_refit_shows_its_fit_and_the_conformal_run_below_it(
    server: Server, seen: tuple[Run, dict[str, Any]]
) -> None:
    settings = of_conformal(seen[0].settings)
    until = seen[0].interval_end + timedelta(days=5)
    refit(until, settings)
    flow_run = server.run_named("refit 2026-10-06")
    assert set(tasks_of(server, flow_run)) >= {"drift", "recalibration", "conformal_refresh"}
    assert {"refit-stages", "refit-recalibration", "refit-recalibration-map"} <= keys_of(
        server, flow_run
    )
    below = server.run_named("conformal 2026-10-06")
    assert below["parent_task_run_id"]
    assert tasks_of(server, below) == ["bands", "corrections", "coverage"]


def test_a_conformal_run_shows_its_stages(server: Server, seen: tuple[Run, dict[str, Any]]) -> None:
    conformal(seen[0].interval_end, of_conformal(seen[0].settings))
    flow_run = server.run_named("conformal 2026-10-01")
    assert tasks_of(server, flow_run) == ["bands", "corrections", "coverage"]
    assert "conformal-stages" in keys_of(server, flow_run)


@pytest.mark.parametrize(
    ("flow", "name", "stages"),
    [
        (retention, "retention", ["old_days", "old_runs", "old_answers", "upkeep"]),
        (replay_letters, "replay", ["letters"]),
        (daily.ingest, "ingest", [stage.name for stage in INGESTION]),
    ],
)
def test_another_flow_shows_each_stage_and_its_rows(
    server: Server, seen: tuple[Run, dict[str, Any]], flow: Any, name: str, stages: list[str]
) -> None:
    flow(as_of=seen[0].interval_end, flow_settings=seen[0].settings)
    flow_run = server.run_named(f"{name} 2026-10-01")
    assert flow_run["state"]["name"] == "Completed"
    assert tasks_of(server, flow_run) == stages
    assert keys_of(server, flow_run) == {f"{name}-stages"}


def test_a_daily_run_shows_the_days_that_it_caught_up_with(
    server: Server, archive: Archive, replay: RunningReplay, settings_for: MakeSettings
) -> None:
    settings = settings_for(replay.base_url)
    daily.daily.fn(as_of=archive.as_of, flow_settings=settings)
    daily.daily(as_of=archive.as_of + timedelta(days=2, hours=6), flow_settings=settings)
    names = tasks_of(server, server.run_named("daily 2026-10-03"))
    assert "catch_up" in names
    assert "metrics 2026-10-01" in names


def test_a_post_mortem_run_shows_its_newest_and_a_picture(
    server: Server, seen: tuple[Run, dict[str, Any]]
) -> None:
    settings = seen[0].settings.model_copy(update={"windows": ("4d",)})
    postmortem(seen[0].interval_end, settings)
    flow_run = server.run_named("postmortem 2026-10-01")
    artifacts = {artifact["key"]: artifact for artifact in server.of_run(flow_run, "artifacts")}
    assert set(artifacts) == {"postmortem-stages", "postmortem-newest", "postmortem-path"}
    assert "polymarket:" in artifacts["postmortem-newest"]["data"]
    assert "](data:image/png;base64,iVBORw0KGgo" in artifacts["postmortem-path"]["data"]
