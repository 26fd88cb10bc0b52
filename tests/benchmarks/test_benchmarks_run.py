"""Each benchmark suite runs in its smallest size and yields figures with their units."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import pytest

from benchmarks import __main__ as command
from benchmarks import (
    calibration,
    daily_flow,
    figures,
    front_door,
    gateway_forecast,
    lake_scale,
    models,
    reads,
)
from benchmarks.figures import TINY, Figure


def by_name(found: list[Figure]) -> dict[tuple[str, str], float]:
    """Values by (name, unit); checks that every figure can be read and stands alone."""
    values = {(figure.name, figure.unit): figure.value for figure in found}
    assert len(values) == len(found)
    assert all(figure.unit and figure.name and math.isfinite(figure.value) for figure in found)
    return values


def test_forecasts_are_measured_beside_a_bare_echo(tmp_path: Path) -> None:
    values = by_name(gateway_forecast.run(TINY, tmp_path))
    for clients in ("1 client", "4 clients"):
        for server in ("bare grpc.aio echo", "bare grpc.aio echo on uvloop", "gateway, in process"):
            for unit in ("requests/s", "ms p50", "ms p95"):
                assert values[f"{server}, {clients}", unit] > 0
        assert values[
            f"gateway, in process ÷ bare grpc.aio echo, {clients}", "ratio of requests/s"
        ] == pytest.approx(
            values[f"gateway, in process, {clients}", "requests/s"]
            / values[f"bare grpc.aio echo, {clients}", "requests/s"]
        )
    assert values["BatchForecast of 50 series, in process", "series/s"] > 0
    assert values["memory of the gateway, idle", "MiB"] > 10


def test_the_rules_are_measured_beside_a_bare_echo(tmp_path: Path) -> None:
    values = by_name([*front_door.chain(TINY, tmp_path), *front_door.limiter(TINY)])

    for clients in ("1 client", "4 clients"):
        behind = values[f"the same echo behind every rule, {clients}", "requests/s"]
        bare = values[f"bare grpc.aio echo, {clients}", "requests/s"]
        ratio = f"behind every rule ÷ bare grpc.aio echo, {clients}"
        assert values[ratio, "ratio of requests/s"] == pytest.approx(behind / bare)
    assert 0 < values["rate limit, in process", "µs per check"] < 50
    assert values["rate limit, in Redis, 64 callers at once", "µs per check"] > 0


def test_under_five_times_its_capacity_the_gateway_goes_on_and_says_so(tmp_path: Path) -> None:
    values = by_name(front_door.overload(tmp_path, seconds=3.0, settle=1.0))

    assert values["overload, refused as UNAVAILABLE or RESOURCE_EXHAUSTED", "calls"] > 0
    assert values["overload, failed otherwise", "calls"] == 0
    assert values["overload, refused without a hint", "calls"] == 0
    assert values["overload, of them failed", "calls"] == 0
    assert values["overload, answered", "of capacity"] > 0.3


@pytest.mark.soak
def test_two_processes_are_measured_beside_one(tmp_path: Path) -> None:
    values = by_name(front_door.workers(TINY, tmp_path))

    assert values["two processes ÷ one", "ratio of requests/s"] > 0


@pytest.mark.soak
def test_a_minute_of_five_times_its_capacity_leaves_the_gateway_as_it_was(tmp_path: Path) -> None:
    values = by_name(front_door.overload(tmp_path, seconds=60.0, settle=10.0))
    for (name, unit), value in values.items():
        print(f"{name}: {value:.4g} {unit}")

    assert values["overload, offered", "times capacity"] > 4.5
    assert values["overload, answered", "of capacity"] > 0.7
    assert values["overload ÷ unloaded", "ratio of p99"] <= 3.0
    assert values["overload, failed otherwise", "calls"] == 0
    assert values["overload, refused without a hint", "calls"] == 0
    assert values["overload, calls of the polite caller", "calls"] > 100
    assert values["overload, of them failed", "calls"] == 0
    assert values["overload, memory grown", "MiB"] < 32


def small_weights(folder: Path, root: Path) -> None:
    """The tiny native model of the tests of models."""
    place = root / "tests" / "forecast_service" / "models" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_models", place)
    assert spec is not None
    assert spec.loader is not None
    tiny = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tiny)
    (folder / "native.onnx").write_bytes(tiny.tiny_model().SerializeToString())


def test_without_weights_the_alternatives_are_measured_and_the_reason_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(models, "native_settings", lambda _folder: "there are no weights")
    monkeypatch.setenv("BENCH_TORCH_PYTHON", str(tmp_path / "none"))
    monkeypatch.setenv("BENCH_CHRONOS_PYTHON", str(tmp_path / "none"))
    values = by_name(models.run(TINY, tmp_path))
    assert values["bare grpc.aio echo, 4 clients", "series/s"] > 0
    assert values["a server like tollama's, 1 client", "ms p50"] >= 27.0
    said = capsys.readouterr().err
    assert "native is left out: there are no weights" in said
    assert "chronos-bolt in PyTorch is left out: BENCH_CHRONOS_PYTHON" in said


@pytest.mark.ray
@pytest.mark.soak
def test_the_native_model_is_measured_through_ray_and_answers_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small_weights(tmp_path, Path(models.__file__).parents[1])
    monkeypatch.setenv("BENCH_WEIGHTS", str(tmp_path))
    scale = dataclasses.replace(TINY, clients=(1,), with_ray=True)
    monkeypatch.setattr(models, "_beside", lambda _scale: [])
    monkeypatch.setattr(models, "_ratios", lambda *_: [])
    values = by_name(models.run(scale, tmp_path))
    assert values["native, through Ray, BatchForecast of 50 × 288", "series/s"] > 0
    assert values["native, through Ray, series that another model answered", "share"] == 0.0


@pytest.mark.ray
@pytest.mark.soak
def test_forecasts_through_ray_are_measured_too(tmp_path: Path) -> None:
    scale = dataclasses.replace(TINY, clients=(1,), with_ray=True)
    values = by_name(gateway_forecast.run(scale, tmp_path))
    assert values["gateway, through Ray, 1 client", "requests/s"] > 0
    alone = values["gateway, through Ray, 1 client", "µs server CPU per request"]
    assert values["gateway, through Ray, 1 client", "µs CPU with Ray per request"] >= alone


def test_the_stages_are_measured_by_size_with_their_growth(tmp_path: Path) -> None:
    values = by_name(calibration.run(TINY, tmp_path))
    for stage in ("labels", "cutoffs", "features", "trust", "metrics", "scoreboard"):
        for rows in ("500", "2,000"):
            assert values[f"{stage}, {rows} rows", "s"] > 0
        assert (f"{stage}, growth 500 → 2,000 rows", "exponent") in values
    assert any(unit == "ratio of seconds" for _, unit in values)


def test_the_plain_scores_are_those_of_the_metrics_stage() -> None:
    from datetime import UTC, datetime

    import numpy as np

    from benchmarks.synthetic import scored
    from calibration_service.metrics import build_metrics

    rows = scored(2_000)
    ours = build_metrics(
        rows, window="90d", run_id="x", as_of=datetime.now(UTC), rng=np.random.default_rng(0)
    )
    plain = calibration.plain_scores(rows)
    for column in ("brier", "log_loss"):
        theirs = sorted(value for frame in plain for value in frame[column].to_list())
        np.testing.assert_allclose(sorted(ours[column].to_list()), theirs, rtol=1e-9)


@pytest.mark.soak
def test_the_daily_flow_is_measured_from_end_to_end(tmp_path: Path) -> None:
    values = by_name(daily_flow.run(TINY, tmp_path))
    assert values["first run, 60 markets × 12 snapshots", "s"] > 0
    assert values["first run, 60 markets × 12 snapshots", "MiB peak"] > 50
    assert values["repeated run, 60 markets × 12 snapshots", "s"] > 0
    assert ("first run, 60 markets × 12 snapshots, stage metrics", "s") in values


def test_reads_are_measured_by_number_of_markets(tmp_path: Path) -> None:
    values = by_name(reads.run(TINY, tmp_path))
    for call in ("ListScores, a page of 50", "GetMarket"):
        assert values[f"{call}, 200 markets", "ms p50"] > 0
        assert values[f"{call}, 200 markets", "requests/s"] > 0


def test_the_command_prints_a_table_and_writes_what_surrounded_the_figures(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "QUICK", TINY)  # the command has no smaller size
    results = tmp_path / "deeper" / "results.json"
    assert command.main(["--quick", "--only", "calibration", "--json", str(results)]) == 0
    written = json.loads(results.read_text())
    assert written["surroundings"]["cores"] >= 1
    assert {"grpcio", "polars", "ray"} <= set(written["surroundings"]["versions"])
    assert len(written["surroundings"]["load_average"]) == 3
    assert {figure["suite"] for figure in written["figures"]} == {"calibration"}
    shown = capsys.readouterr().out
    assert "metrics, 2,000 rows" in shown
    assert str(results) in shown


def test_a_table_names_suite_figure_unit_and_spread() -> None:
    found = [
        Figure("speed", "short", 1234.5, "requests/s"),
        figures.median("speed", "a longer name", [0.012, 0.010, 0.014], "s"),
    ]
    assert figures.table(found).splitlines() == [
        "speed",
        "  short                1,234 requests/s",
        "  a longer name        0.012 s  [0.01 … 0.014]",
    ]


@pytest.mark.soak
def test_all_stages_are_measured_by_the_size_of_the_lake(tmp_path: Path) -> None:
    values = by_name(lake_scale.run(TINY, tmp_path))
    assert values["all stages, 2,000 snapshots", "s"] > 0
    assert values["all stages, 2,000 snapshots", "MiB peak"] > 50
    for stage in ("labels", "cutoffs", "features", "metrics", "trust", "forecasts", "scoreboard"):
        assert values[f"{stage}, 2,000 snapshots", "s"] > 0
