"""Corrected bands at the gateway: a new state changes answers, and issued bands are kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from market_data.lake import Lake, empty
from marketcal.v1 import forecast_pb2 as pb

EVERYWHERE = "category=*|liquidity=*|tte=*"
SPORTS = "category=sports|liquidity=LOW|tte=LE_6H"


def state(version: str, corrections: dict[str, float], age_hours: float = 0.0) -> pl.DataFrame:
    """Rows of a state of ewma, one correction for both sides by segment."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=age_hours)
    return pl.DataFrame(
        [
            {
                "version": version, "fitted_at": at, "model": "ewma", "model_version": "1",
                "freq_seconds": 300, "segment": segment, "width_class": width, "horizon_step": 1,
                "level": level, "correction": value, "samples": 100, "events": 100,
                "window_start": at, "window_end": at,
            }
            for segment, value in corrections.items()
            for width in ("wide", "quiet")
            for level in (0.1, 0.9)
        ]
    )  # fmt: skip


def registered(market: str) -> pl.DataFrame:
    """The row of a market in the registry that says no more than it must."""
    blank = empty("market_registry").drop("schema_version")
    return pl.concat([blank, pl.DataFrame({"market_id": [market]})], how="diagonal_relaxed")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as open_things:
        yield open_things


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def running(serve_gateway: Any, stack: ExitStack, tmp_path: Path) -> Any:
    """A gateway over the lake of this test; it keeps the bands of baselines too."""
    return serve_gateway(
        stack,
        flows={"lake": str(tmp_path / "lake")},
        forecast={
            "default_model": "ewma",
            "policy": {"cache_baselines": True},
            "band_log": {"baselines": True, "seconds": 0.1},
        },
    )


@pytest.fixture
def ask(
    running: Any, stubs_on: Any, bearer: Any, make_request: Any
) -> Callable[..., pb.ForecastResponse]:
    stubs, metadata = stubs_on(running.channel), bearer(running.key("forecaster"))
    wavering = [0.4 + 0.05 * (i % 7) for i in range(96)]
    return lambda **fields: stubs.forecasts.Forecast(
        make_request(values=wavering, **fields), metadata=metadata, timeout=20
    )


def widths(paths: Any) -> Any:
    return np.array(paths[-1].values) - np.array(paths[0].values)


def test_a_new_state_changes_answers_without_restart(
    running: Any, ask: Any, lake: Lake, until: Any
) -> None:
    first = ask()
    assert (len(first.conformal_paths), first.meta.conformal_version) == (0, "")

    lake.replace("conformal_state", state("v1", {EVERYWHERE: 0.5, SPORTS: -0.5}))
    until(lambda: ask().meta.conformal_version == "v1")
    second = ask()
    assert second.quantile_paths == first.quantile_paths
    assert (widths(second.conformal_paths) > widths(second.quantile_paths)).all()
    assert [path.level for path in second.conformal_paths] == [0.1, 0.5, 0.9]
    sports = ask(category="sports", liquidity_bucket=1, time_to_event={"seconds": 3_600})
    assert sports.meta.segment == SPORTS
    assert (widths(sports.conformal_paths) < widths(sports.quantile_paths)).all()

    lake.replace("conformal_state", state("v2", {EVERYWHERE: 1.5}))
    until(lambda: ask().meta.conformal_version == "v2")
    assert (widths(ask().conformal_paths) > widths(second.conformal_paths)).all()


def test_raw_bands_alone_come_to_those_who_want_them(ask: Any, lake: Lake, until: Any) -> None:
    lake.replace("conformal_state", state("v1", {EVERYWHERE: 0.5}))
    until(lambda: ask().meta.conformal_version == "v1")
    raw = ask(band=pb.BAND_KIND_RAW)
    assert (len(raw.conformal_paths), raw.meta.conformal_version) == (0, "")
    for band in (pb.BAND_KIND_CONFORMAL, pb.BAND_KIND_BOTH):
        both = ask(band=band)
        assert both.quantile_paths == raw.quantile_paths
        assert len(both.conformal_paths) == 3
    other_model = ask(model={"name": "random_walk"})
    assert (len(other_model.conformal_paths), other_model.meta.conformal_version) == (0, "")
    other_step = ask(freq="1h")
    assert other_step.meta.conformal_version == ""


def test_a_broken_state_is_said_once_and_the_one_before_stays(
    running: Any, ask: Any, lake: Lake, until: Any, caplog: Any
) -> None:
    lake.replace("conformal_state", state("v1", {EVERYWHERE: 0.5}))
    until(lambda: ask().meta.conformal_version == "v1")
    broken = state("v2", {EVERYWHERE: float("nan")})
    lake.replace("conformal_state", broken)
    until(lambda: "is broken, v1 stays" in caplog.text)
    assert ask().meta.conformal_version == "v1"
    for _ in range(3):
        assert not running.parts.forecasting.corrections.refresh()
    assert caplog.text.count("is broken") == 1
    lake.replace("conformal_state", state("v3", {EVERYWHERE: 0.1}))
    until(lambda: ask().meta.conformal_version == "v3")


def test_issued_bands_are_kept_raw_with_the_version_that_corrected_them(
    ask: Any, lake: Lake, until: Any
) -> None:
    lake.replace("conformal_state", state("v1", {EVERYWHERE: 0.5}))
    until(lambda: ask().meta.conformal_version == "v1")
    now = datetime.now(UTC).replace(microsecond=0)
    at = Timestamp()
    at.FromDatetime(now)
    lake.upsert("market_registry", registered("m:kept"))
    answer = ask(as_of_time=at, market_id="m:kept")
    assert answer.as_of_time == at
    until(lambda: not lake.read("forecast_band").is_empty())
    rows = lake.read("forecast_band").sort("horizon_step")
    assert rows["horizon_step"].to_list() == [1, 2, 3, 4, 6, 8, 12]
    assert set(rows["conformal_version"]) == {"v1"}
    assert set(rows["model_id"]) == {"ewma@1"}
    assert set(rows["ts"]) == {now}
    raw = [path.values[11] for path in answer.quantile_paths]
    assert rows["values"][-1].to_list() == raw
    assert rows["origin_price"][0] == pytest.approx(0.4 + 0.05 * (95 % 7))


def test_what_waits_when_the_gateway_drains_is_written(
    serve_gateway: Any, stubs_on: Any, bearer: Any, make_request: Any, tmp_path: Path
) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    at = Timestamp()
    at.FromDatetime(now)
    Lake(tmp_path / "lake").upsert("market_registry", registered("polymarket:1"))
    with ExitStack() as life:
        running = serve_gateway(
            life,
            flows={"lake": str(tmp_path / "lake")},
            forecast={
                "default_model": "ewma",
                "band_log": {"baselines": True, "seconds": 3_600.0},
            },
        )
        metadata = bearer(running.key("forecaster"))
        stubs_on(running.channel).forecasts.Forecast(
            make_request(as_of_time=at), metadata=metadata, timeout=20
        )
        assert len(running.parts.forecasting.band_log) == 1
    assert set(Lake(tmp_path / "lake").read("forecast_band")["market_id"]) == {"polymarket:1"}
