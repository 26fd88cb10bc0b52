"""The native model's adapter: the contract with the weights file, and what it does with a batch."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast_service.bands import QuantileSource
from forecast_service.baselines.registry import forecast
from forecast_service.batch import Batch, Query, scatter
from forecast_service.models import port
from forecast_service.models.errors import WeightsError
from forecast_service.models.native import CHUNK, Native, aligned
from forecast_service.postprocess import WidthLimits
from forecast_service.transform import LOGIT, expit, logit

LEVELS = (0.1, 0.5, 0.9)


@pytest.fixture(scope="module")
def native(model_file: Path) -> Native:
    return Native(model_file)


def batch(values: Any, *, steps: int = 12, to_event: Any = None) -> Batch:
    query = Query("native", steps, LEVELS, LOGIT, limits=WidthLimits(0.0, 1.0))
    return Batch(query, np.asarray(values, dtype=np.float64), to_event)


def test_the_file_says_its_shape(native: Native) -> None:
    shape = native.shape
    assert (shape.context, shape.horizon, shape.version) == (512, 288, "test")


@pytest.mark.parametrize("steps", [1, 24, 25, 288])
def test_gives_the_steps_that_are_asked_for(native: Native, steps: int) -> None:
    raw = native.forecast(batch([[0.4, 0.6]], steps=steps), 1.0)
    assert raw.quantiles.shape == (1, steps, 3)
    assert raw.quantiles[0, :, 1] == pytest.approx(0.6, abs=1e-6)


def test_all_its_levels_are_given_where_one_asked_for_is_not_its_own(native: Native) -> None:
    asked = batch([[0.4, 0.6]])
    other = Batch(replace(asked.query, levels=(0.1, 0.2)), asked.values)
    assert native.forecast(other, 1.0).levels.tolist() == native.shape.levels.tolist()
    assert native.forecast(asked, 1.0).levels.tolist() == list(LEVELS)


def test_a_longer_horizon_is_extended_and_says_so(native: Native) -> None:
    answer = port.answer(native, batch([[0.5, 0.5]], steps=400), 1.0)
    assert answer.quantiles.shape == (1, 400, 3)
    assert (answer.effective_horizon, answer.source) == (288, QuantileSource.EXTRAPOLATED)


def test_its_own_levels_are_native_and_others_are_interpolated(native: Native) -> None:
    given = port.answer(native, batch([[0.3, 0.3]]), 1.0)
    assert given.source is QuantileSource.NATIVE
    assert np.diff(logit(given.quantiles[0, 3])) == pytest.approx(0.2 * 1.2815516, abs=1e-4)


@pytest.mark.parametrize("length", [1, 511, 512, 900])
def test_the_last_value_stands_at_the_right_edge(native: Native, length: int) -> None:
    values = np.linspace(0.2, 0.8, length)[None] if length > 1 else np.array([[0.8]])
    bands = port.answer(native, batch(values, steps=1), 1.0)
    assert bands.quantiles[0, 0, 1] == pytest.approx(0.8, abs=1e-6)


def test_the_event_s_distance_reaches_the_model(native: Native) -> None:
    far, at_event, unknown = native.forecast(
        batch(np.full((3, 4), 0.5), to_event=np.array([40.0, 0.0, np.nan])), 1.0
    ).quantiles
    assert np.ptp(at_event) == pytest.approx(0.0, abs=1e-7)
    assert (far == unknown).all()
    assert np.ptp(far) > 0.1


def test_many_series_are_cut_into_chunks_and_stay_in_order(native: Native) -> None:
    prices = np.linspace(0.1, 0.9, 3 * CHUNK + 1)
    given = native.forecast(batch(np.repeat(prices[:, None], 3, axis=1)), 1.0)
    assert given.quantiles[:, 5, 1] == pytest.approx(prices, abs=1e-6)


def test_stops_when_the_budget_is_spent(model_file: Path) -> None:
    times = iter([0.0, 0.01, 0.2, 0.3])
    slow = Native(model_file, clock=lambda: next(times))
    with pytest.raises(TimeoutError, match="64 of 130 series"):
        slow.forecast(batch(np.full((130, 2), 0.5)), 0.1)


def test_threads_may_ask_at_once(native: Native) -> None:
    prices = np.linspace(0.1, 0.9, 16)
    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda p: native.forecast(batch([[p, p]]), 5.0), prices))
    assert [raw.quantiles[0, 0, 1] for raw in given] == pytest.approx(prices, abs=1e-6)


def test_an_answer_passes_the_checks_of_the_pool(native: Native) -> None:
    asked = batch([[0.999999, 1.0], [0.0, np.nan]])
    (high, low) = scatter(asked, port.answer(native, asked, 1.0), "here")
    assert high.quantiles.max() <= 1.0
    assert low.quantiles.min() >= 0.0


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "native.onnx"
    path.write_bytes(b"no model")
    with pytest.raises(WeightsError, match=r"native\.onnx is no model"):
        Native(path)


@pytest.mark.parametrize(
    "broken",
    [{"levels": "[0.5, 0.1]"}, {"levels": "[]"}, {"levels": "x"}, {"knots": "[0, 1]"},
     {"knots": "[1, 1]"}, {"knots": "3"}, {"context": "many"}],
)  # fmt: skip
def test_senseless_metadata_are_refused(
    write_model: Callable[..., Path], tmp_path: Path, broken: dict[str, str]
) -> None:
    good = {"levels": json.dumps([0.1]), "version": "1", "context": "512", "knots": "[1]"}
    with pytest.raises(WeightsError, match=r"native\.onnx"):
        Native(write_model(tmp_path / "native.onnx", good | broken))


def test_between_knots_a_random_walk_stays_one(native: Native) -> None:
    raw = native.forecast(batch([[0.5, 0.5]], steps=288), 1.0)
    expected = 0.1 * np.sqrt(np.arange(1, 289)) * 1.2815516
    assert logit(raw.quantiles[0, :, 2]) == pytest.approx(expected, abs=1e-5)


def test_holes_are_filled_with_what_came_before_and_masked() -> None:
    nan = np.nan
    values, mask = aligned(np.array([[nan, 0.25, nan, 0.75]]), 6)
    assert values.tolist() == [[0.25, 0.25, 0.25, 0.25, 0.25, 0.75]]
    assert mask.tolist() == [[0, 0, 0, 1, 0, 1]]


def test_the_tiny_model_is_a_random_walk(native: Native) -> None:
    raw = native.forecast(batch([[0.5, 0.5]], steps=100), 1.0)
    upper = expit(np.array(0.1 * np.sqrt(100) * 1.2815516))
    assert raw.quantiles[0, -1, 2] == pytest.approx(float(upper), abs=1e-5)


def test_at_a_cadence_never_recorded_it_is_held_to_the_random_walk(
    write_model: Callable[..., Path], native: Native, tmp_path: Path
) -> None:
    about = {"version": "1", "context": "512", "recorded_cadences": "[300]", "anchor_share": "0.25"}
    about |= {"knots": json.dumps(native.shape.knots.tolist())}
    about |= {"levels": json.dumps(native.shape.levels.tolist())}
    model = Native(write_model(tmp_path / "native.onnx", about))
    values = np.clip(0.5 + np.cumsum(np.random.default_rng(1).normal(0, 0.01, (3, 90)), 1), 0, 1)
    own, mixed = (
        logit(
            model.forecast(
                Batch(Query("native", 12, LEVELS, LOGIT, seconds), values), 1.0
            ).quantiles
        )
        for seconds in (300, 3600)
    )
    levels = np.array(LEVELS)
    walk = forecast("random_walk", values, horizon_steps=12, levels=levels, transform=LOGIT)
    assert mixed == pytest.approx(0.75 * own + 0.25 * logit(walk.quantiles), abs=1e-4)
