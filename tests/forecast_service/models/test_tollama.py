"""The tollama adapter against a server that speaks the protocol and fails in every way."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from benchmarks.tollama_like import Manner, TollamaLike, running
from forecast_service.bands import QuantileSource
from forecast_service.batch import Batch, InvalidAnswerError, Query
from forecast_service.models import port
from forecast_service.models.catalog import known_models
from forecast_service.models.errors import ModelAway, ModelBroke, ModelRefused
from forecast_service.models.tollama.adapter import Tollama
from forecast_service.models.tollama.messages import (
    Question,
    forward_filled,
    read_reply,
    timestamps,
)
from forecast_service.models.tollama.transport import COOL_DOWN, Server, Transport
from forecast_service.postprocess import WidthLimits
from forecast_service.transform import IDENTITY, LOGIT, Transform, logit

LEVELS = (0.05, 0.1, 0.5, 0.9, 0.95)
CARD = known_models()["tollama-chronos2"]


class Clock:
    """Monotonic seconds that a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server() -> Iterator[TollamaLike]:
    with running(Manner(seconds=0.0)) as started:
        yield started


@pytest.fixture
def transport(server: TollamaLike, clock: Clock) -> Iterator[Transport]:
    made = Transport(Server(f"{server.url}/v1/forecast"), clock=clock)
    yield made
    made.close()


@pytest.fixture
def model(transport: Transport, clock: Clock) -> Tollama:
    return Tollama(CARD, transport, clock=clock)


def batch(
    prices: Any, *, levels: tuple[float, ...] = LEVELS, steps: int = 3, freq: int = 300,
    transform: Transform = LOGIT,
) -> Batch:  # fmt: skip
    values = np.asarray(prices, dtype=np.float64)
    values = values if values.ndim == 2 else np.repeat(values[:, None], 6, axis=1)
    query = Query("tollama-chronos2", steps, levels, transform, freq, WidthLimits(0.0, 1.0))
    return Batch(query, values)


def test_answers_in_log_odds_with_a_request_as_the_server_wants_it(
    model: Tollama, server: TollamaLike
) -> None:
    raw = model.forecast(batch([0.2, 0.8]), 5.0)
    (asked,) = server.requests
    assert asked["quantiles"] == list(LEVELS)
    assert set(asked) == {"model", "horizon", "quantiles", "timeout", "series"}
    assert (asked["model"], asked["horizon"]) == ("chronos2", 3)
    assert [series["id"] for series in asked["series"]] == ["s0", "s1"]
    assert asked["series"][0]["freq"] == "5min"
    assert asked["series"][0]["timestamps"][:2] == ["1970-01-01T00:00:00Z", "1970-01-01T00:05:00Z"]
    assert asked["series"][1]["target"] == pytest.approx([float(logit(np.array(0.8)))] * 6)
    assert raw.levels.tolist() == list(LEVELS)
    assert raw.quantiles[:, 0, 2] == pytest.approx([0.2, 0.8], abs=1e-6)


def test_the_server_s_three_attempts_fit_into_the_budget(
    model: Tollama, server: TollamaLike
) -> None:
    model.forecast(batch([0.5]), 3.05)
    assert 0.95 < server.requests[0]["timeout"] <= 1.0


def test_gaps_are_filled_forward_and_what_comes_before_the_first_value_is_left_out(
    model: Tollama, server: TollamaLike
) -> None:
    nan = np.nan
    model.forecast(batch([[nan, 0.2, nan, 0.4]], transform=IDENTITY), 5.0)
    (series,) = server.requests[0]["series"]
    assert series["target"] == [0.2, 0.2, 0.4]
    assert len(series["timestamps"]) == 3
    assert forward_filled(np.array([1.0, nan])).tolist() == [1.0, 1.0]


def test_a_context_above_the_model_s_is_cut_and_a_horizon_extended(
    transport: Transport, server: TollamaLike
) -> None:
    small = CARD.model_copy(update={"max_context": 4, "max_horizon": 5})
    answer = port.answer(Tollama(small, transport), batch([0.5], steps=9), 5.0)
    assert server.requests[0]["horizon"] == 5
    assert len(server.requests[0]["series"][0]["target"]) == 4
    assert answer.quantiles.shape == (1, 9, 5)
    assert (answer.effective_horizon, answer.source) == (5, QuantileSource.EXTRAPOLATED)


def test_a_model_with_levels_of_its_own_is_asked_for_those(
    transport: Transport, server: TollamaLike
) -> None:
    deciles = known_models()["tollama-timesfm-2.5"]
    answer = port.answer(Tollama(deciles, transport), batch([0.5], levels=(0.15, 0.5)), 5.0)
    assert server.requests[0]["quantiles"] == list(deciles.levels)
    assert answer.source is QuantileSource.INTERPOLATED


def test_the_median_is_always_asked_for(model: Tollama, server: TollamaLike) -> None:
    model.forecast(batch([0.5], levels=(0.00001, 0.123456)), 5.0)
    assert server.requests[0]["quantiles"] == [0.0001, 0.1235, 0.5]


def test_many_series_travel_in_requests_of_bounded_size(
    transport: Transport, server: TollamaLike
) -> None:
    prices = np.linspace(0.1, 0.9, 25)
    raw = Tollama(CARD, transport, max_series=10).forecast(batch(prices), 5.0)
    assert [len(asked["series"]) for asked in server.requests] == [10, 10, 5]
    assert raw.quantiles[:, 0, 2] == pytest.approx(prices, abs=1e-6)
    server.requests.clear()
    Tollama(CARD, transport, max_bytes=6_000).forecast(batch(prices), 5.0)
    assert len(server.requests) > 2


def test_lost_levels_are_a_degradation_that_the_answer_says(
    model: Tollama, server: TollamaLike
) -> None:
    server.manner.fault = "lost_levels"
    answer = port.answer(model, batch([0.5, 0.6]), 5.0)
    assert answer.source is QuantileSource.CLAMPED
    assert (answer.quantiles[:, :, 0] == answer.quantiles[:, :, 1]).all()


def test_crossing_quantiles_are_sorted_and_counted(model: Tollama, server: TollamaLike) -> None:
    server.manner.fault = "crossing"
    answer = port.answer(model, batch([0.5]), 5.0)
    assert (np.diff(answer.quantiles, axis=2) >= 0).all()
    assert answer.adjusted[0, 1] > 0


@pytest.mark.parametrize(
    "fault",
    ["other_model", "nan", "lost_median", "reversed", "duplicates", "one_too_few"],
)
def test_a_reply_that_is_not_what_was_asked_for_is_refused(
    model: Tollama, server: TollamaLike, fault: str
) -> None:
    server.manner.fault = fault
    with pytest.raises(InvalidAnswerError, match="chronos2: "):
        model.forecast(batch([0.5, 0.6]), 5.0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["null_mean", "short", "no_quantiles"])
def test_what_is_wrong_with_one_series_of_a_reply_fails_it_alone(
    model: Tollama, server: TollamaLike, fault: str
) -> None:
    server.manner.fault = fault
    answer = port.answer(model, batch([0.5, 0.6]), 5.0)
    assert np.isnan(answer.quantiles).all(axis=(1, 2)).tolist() == [True, False]


@pytest.mark.parametrize("fault", ["drop", "half", "garbage"])
def test_a_connection_lost_on_the_way_is_not_tried_again(
    model: Tollama, server: TollamaLike, fault: str
) -> None:
    server.manner.fault = fault
    with pytest.raises(ModelAway, match="connection lost"):
        model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 1


@pytest.mark.parametrize("fault", ["hang", "drip"])
def test_the_deadline_is_the_client_s_however_slowly_bytes_arrive(
    model: Tollama, server: TollamaLike, fault: str
) -> None:
    server.manner.fault = fault
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        model.forecast(batch([0.5]), 0.3)
    assert time.monotonic() - began < 0.6


def test_502_is_tried_once_more(model: Tollama, server: TollamaLike) -> None:
    server.manner.fault, server.manner.times = "502", 1
    model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 2
    server.manner.times = 2
    with pytest.raises(ModelBroke, match="502"):
        model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 4


def test_no_server_is_a_connection_error_at_once() -> None:
    nobody = Transport(Server("http://127.0.0.1:9/v1/forecast"))
    began = time.monotonic()
    with pytest.raises(ConnectionError, match="no connection"):
        Tollama(CARD, nobody).forecast(batch([0.5]), 5.0)
    assert time.monotonic() - began < 1.0
    nobody.close()


def test_after_503_the_model_is_left_alone(
    model: Tollama, server: TollamaLike, clock: Clock
) -> None:
    server.manner.fault, server.manner.times = "503", 1
    for said in ("503", "left alone", "left alone"):
        with pytest.raises(ModelAway, match=said):
            model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 1
    clock.ahead = COOL_DOWN
    assert model.forecast(batch([0.5]), 5.0).quantiles.shape == (1, 3, 5)


def test_after_429_the_pause_doubles(model: Tollama, server: TollamaLike, clock: Clock) -> None:
    server.manner.fault, server.manner.times = "429", 2
    for pause in (1.0, 2.0):
        with pytest.raises(ModelAway, match="429"):
            model.forecast(batch([0.5]), 5.0)
        clock.ahead += pause - 0.5
        with pytest.raises(ModelAway, match="left alone"):
            model.forecast(batch([0.5]), 5.0)
        clock.ahead += 0.5
    model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", ["401", "404", "405", "409"])
def test_a_refusal_is_never_repeated(model: Tollama, server: TollamaLike, status: str) -> None:
    server.manner.fault = status
    with pytest.raises(ModelRefused, match=status):
        model.forecast(batch([0.5]), 5.0)
    assert len(server.requests) == 1


def test_a_wrong_path_is_not_a_missing_model(server: TollamaLike) -> None:
    transport = Transport(Server(f"{server.url}/v1/timeseries/forecast"))
    with pytest.raises(ModelRefused, match="no such path, see tollama_path"):
        Tollama(CARD, transport).forecast(batch([0.5]), 5.0)
    transport.close()


def test_one_bad_series_fails_alone(model: Tollama, server: TollamaLike) -> None:
    server.manner.reject_above = 5.0
    prices = np.full(20, 0.4)
    prices[7] = 0.9999
    answer = port.answer(model, batch(prices), 5.0)
    bad = np.isnan(answer.quantiles).all(axis=(1, 2))
    assert np.flatnonzero(bad).tolist() == [7]
    assert np.isfinite(answer.quantiles[~bad]).all()


def _reply(*bends: dict[str, Any]) -> bytes:
    path = [0.0, 0.1]
    whole = {"mean": path, "quantiles": {"0.1": path, "0.5": path, "0.9": path}}
    forecasts = [{"id": f"s{i}"} | whole | bend for i, bend in enumerate(bends)]
    return json.dumps({"model": "m", "forecasts": forecasts}).encode()


_BENDS: list[dict[str, Any]] = [
    {"mean": [None, 0.1]}, {"mean": None}, {"quantiles": {"0.5": [0.1, 0.1]}},
    {"quantiles": {"0.1": [0.0, None], "0.5": [0.0, 0.1], "0.9": [0.0, 0.1]}},
]  # fmt: skip


@pytest.mark.parametrize("bend", _BENDS)
def test_a_series_that_comes_back_wrong_fails_alone(bend: dict[str, Any]) -> None:
    question = Question("m", 2, (0.1, 0.5, 0.9), 300)

    reply = read_reply(_reply({}, bend, {}), question, 3)

    assert reply.levels.tolist() == [0.1, 0.5, 0.9]
    assert np.isnan(reply.quantiles[1]).all()
    assert np.isfinite(reply.quantiles[[0, 2]]).all()
    with pytest.raises(InvalidAnswerError):
        read_reply(_reply(bend, bend), question, 2)


def test_a_reply_that_cannot_be_read_fails_its_own_request_alone(
    transport: Transport, server: TollamaLike
) -> None:
    server.manner.fault, server.manner.times = "other_model", 1
    answer = port.answer(Tollama(CARD, transport, max_series=2), batch([0.4] * 6), 5.0)
    bad = np.isnan(answer.quantiles).all(axis=(1, 2))
    assert bad.tolist() == [True, True, False, False, False, False]


def test_a_fault_of_the_whole_request_is_not_searched_for_in_every_series(
    model: Tollama, server: TollamaLike
) -> None:
    server.manner.fault = "400"
    with pytest.raises(ModelRefused):
        model.forecast(batch(np.full(64, 0.4)), 5.0)
    assert len(server.requests) < 20


def test_the_key_is_shown_to_the_server_and_to_nobody_else(server: TollamaLike) -> None:
    server.manner.key = "geheim"
    place = Server(f"{server.url}/v1/forecast", "geheim")
    assert "geheim" not in repr(place)
    transport = Transport(place)
    Tollama(CARD, transport).forecast(batch([0.5]), 5.0)
    transport.close()


def test_a_refusal_does_not_repeat_the_prices(model: Tollama, server: TollamaLike) -> None:
    server.manner.reject_above = 0.0
    with pytest.raises(ModelRefused) as caught:
        model.forecast(batch([0.8]), 5.0)
    assert "1.386" not in str(caught.value)


def test_threads_may_ask_at_once(model: Tollama) -> None:
    prices = np.linspace(0.1, 0.9, 12)
    with ThreadPoolExecutor(4) as threads:
        given = list(threads.map(lambda p: model.forecast(batch([p]), 5.0), prices))
    assert [raw.quantiles[0, 0, 2] for raw in given] == pytest.approx(prices, abs=1e-6)


def test_no_time_means_no_request(model: Tollama, server: TollamaLike) -> None:
    with pytest.raises(TimeoutError):
        model.forecast(batch([0.5]), 0.01)
    assert server.requests == []


def test_dates_stay_where_every_reader_knows_them() -> None:
    assert timestamps(7 * 86_400, 8_192)[-1].startswith("2126-")
