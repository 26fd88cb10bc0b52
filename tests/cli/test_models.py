"""Models from the command line: lists, statistics as bars, comparisons, and what stands beside."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.cli.meta import meta_lines
from gateway.cli.models import bar_lines, comparison_rows
from gateway.cli.queries import forecast_rows
from marketcal import Client
from marketcal.v1 import forecast_pb2 as pb


@pytest.fixture
def to(gateway: Any) -> tuple[str, ...]:
    key = gateway.key("forecaster", rate_per_minute=1e7, burst=1_000_000)
    return ("--address", gateway.address, "--key", key)


@pytest.fixture
def market(gateway: Any) -> str:
    """An open market with prices."""
    with Client(gateway.address, key=gateway.key("forecaster")) as client:
        for found in client.list_markets(status="MARKET_STATUS_ACTIVE"):
            if len(list(client.price_history(found.market_id))) > 10:
                return str(found.market_id)
    pytest.fail("no open market has prices")


def test_a_model_is_shown_with_what_it_has_done(run: Any, to: Any, market: str) -> None:
    assert run("forecast", market, "--model", "local_level", *to).exit_code == 0
    shown = run("models", "local_level", *to).output
    assert "name             local_level" in shown
    assert "ms per batch" in shown
    assert "█" in shown
    (row,) = json.loads(run("models", "local_level", "--output", "json", *to).stdout)
    assert row["series"] >= 1
    assert sum(bar["count"] for bar in row["series per batch"]) >= 1


def test_without_a_name_all_models_are_listed(run: Any, to: Any) -> None:
    rows = json.loads(run("models", "--output", "json", *to).stdout)
    assert {"ewma", "random_walk"} <= {row["name"] for row in rows}


def test_an_unknown_model_is_refused(run: Any, to: Any) -> None:
    result = run("models", "crystal_ball", *to)
    assert (result.exit_code, "MODEL_NOT_FOUND" in result.output) == (1, True)


def test_models_are_compared_step_by_step(run: Any, to: Any, market: str) -> None:
    asked = ("compare", market, "--models", "ewma,random_walk", "--horizon", "3")
    rows = json.loads(run(*asked, "--output", "json", *to).stdout)
    assert [row["step"] for row in rows] == [1, 2, 3]
    assert set(rows[0]) == {"step", "ewma", "ewma 80 %", "random_walk", "random_walk 80 %"}
    shown = run(*asked, *to).output
    assert "ewma: served by in-process, model ewma" in shown


def test_a_model_that_gives_no_forecast_is_named(run: Any, to: Any, market: str) -> None:
    result = run("compare", market, "--models", "ewma,crystal_ball", *to)
    assert result.exit_code == 0
    assert "crystal_ball: no forecast: " in result.output
    assert run("compare", market, "--models", "a,b", *to).exit_code == 1


def test_one_model_is_no_comparison(run: Any) -> None:
    result = run("compare", "m", "--models", "ewma")
    assert (result.exit_code, "two models or more" in result.output) == (2, True)


def test_what_is_out_of_the_ordinary_stands_beside_a_forecast() -> None:
    meta = pb.ForecastMeta(
        model_name="ewma", model_version="1", served_by="in-process", fallback_used=True,
        fallback_reason=pb.FALLBACK_REASON_BREAKER_OPEN, breaker_state=pb.BREAKER_STATE_OPEN,
        degradation_state=pb.DEGRADATION_STATE_NORMAL, cache=pb.CACHE_STATE_STALE,
        route="liquid", segment="category=sports", conformal_version="2026-10-01",
        warnings=[pb.ForecastWarning(code=pb.WARNING_CODE_SHORT_HISTORY, count=1, message="few")],
    )  # fmt: skip
    assert meta_lines(pb.ForecastResponse(meta=meta)) == [
        "served by in-process, model ewma 1",
        "a baseline stands in: BREAKER_OPEN",
        "route liquid",
        "segment category=sports",
        "corrected by conformal version 2026-10-01",
        "breaker OPEN",
        "answer STALE",
        "warning SHORT_HISTORY (1): few",
    ]


def test_an_ordinary_forecast_has_one_line() -> None:
    meta = pb.ForecastMeta(
        model_name="native", served_by="ray:Native", breaker_state=pb.BREAKER_STATE_CLOSED,
        degradation_state=pb.DEGRADATION_STATE_NORMAL, cache=pb.CACHE_STATE_MISS,
    )  # fmt: skip
    assert meta_lines(pb.ForecastResponse(meta=meta)) == ["served by ray:Native, model native"]


def test_corrected_bands_stand_beside_the_models_own_and_are_compared() -> None:
    answer = pb.ForecastResponse(
        horizon_steps=1,
        quantile_paths=[pb.QuantilePath(level=q, values=[q]) for q in (0.1, 0.5, 0.9)],
        conformal_paths=[pb.QuantilePath(level=q, values=[q / 2]) for q in (0.1, 0.5, 0.9)],
    )
    assert list(forecast_rows(answer)[0]) == [
        "step", "q0.1", "q0.5", "q0.9", "corrected 0.1", "corrected 0.5", "corrected 0.9",
    ]  # fmt: skip
    assert comparison_rows({"m": answer}, 1) == [{"step": 1, "m": 0.25, "m 80 %": "0.05–0.45"}]


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    bounds = (1.0, 2.0, 5.0, float("inf"))
    found = [pb.HistogramBucket(upper_bound=b, count=c) for b, c in zip(bounds, (0, 30, 3, 0), strict=True)]  # fmt: skip  # noqa: E501
    assert [line.count("█") for line in bar_lines(found)] == [30, 3]
    assert bar_lines(found[:1]) == ["  (nothing yet)"]
