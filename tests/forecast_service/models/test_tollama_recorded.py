"""The tollama adapter against what the real server said when its contract was recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.tollama_like import Manner, TollamaLike, running
from forecast_service.batch import Batch, InvalidAnswerError, Query
from forecast_service.models.catalog import known_models
from forecast_service.models.errors import ModelAway, ModelRefused
from forecast_service.models.tollama.adapter import Tollama
from forecast_service.models.tollama.messages import Question, read_reply
from forecast_service.models.tollama.transport import BadQuestion, Server, Transport
from forecast_service.transform import IDENTITY

RECORDED = Path(__file__).resolve().parents[4] / "shared" / "data" / "tollama"
MOCK = known_models()["tollama-mock"]

pytestmark = pytest.mark.skipif(not RECORDED.is_dir(), reason="the recordings are not here")

FAILURES = {
    "10_forecast_model_not_installed": ModelRefused,
    "11_forecast_unknown_model": ModelRefused,
    "24b_cov_strict": BadQuestion,
    "30_missing_horizon": BadQuestion,
    "30e_extra_field": BadQuestion,
    "30g_len_mismatch": BadQuestion,
    "30i_target_null": BadQuestion,
    "30n_invalid_json": BadQuestion,
    "31_quantiles_unsorted": BadQuestion,
    "36_method_not_allowed": ModelRefused,
    "36b_not_found": ModelRefused,
    "40b_forecast_forecastpfn": BadQuestion,
    "41b_forecast_nhits_dep_missing": ModelAway,
    "62_body_too_large": BadQuestion,
    "70_timeout_tiny": ModelAway,
    "70b_circuit_open": ModelAway,
    "80f_auth_forecast_missing": ModelRefused,
    "81_rate_limit_3": ModelAway,
    "91_nhits_timeout_2s": ModelAway,
    "91b_nhits_circuit_open": ModelAway,
}


def recorded(name: str) -> dict[str, Any]:
    transcript: dict[str, Any] = json.loads((RECORDED / f"{name}.json").read_text())
    return transcript


@pytest.fixture
def server() -> Iterator[TollamaLike]:
    with running(Manner(seconds=0.0)) as started:
        yield started


@pytest.fixture
def transport(server: TollamaLike) -> Iterator[Transport]:
    made = Transport(Server(f"{server.url}/v1/forecast"))
    yield made
    made.close()


@pytest.mark.parametrize("name", sorted(FAILURES))
def test_a_recorded_failure_is_told_for_what_it_is(
    name: str, server: TollamaLike, transport: Transport
) -> None:
    response = recorded(name)["response"]
    server.manner.reply = response["status"], response.get("body")
    with pytest.raises(FAILURES[name], match=r"^mock: "):
        transport.post("mock", b"{}", 5.0)


def test_no_failure_repeats_what_was_sent(server: TollamaLike, transport: Transport) -> None:
    sent = recorded("30g_len_mismatch")
    server.manner.reply = sent["response"]["status"], sent["response"]["body"]
    with pytest.raises(BadQuestion) as caught:
        transport.post("mock", b"{}", 5.0)
    assert not re.search(r"0\.\d{3}", str(caught.value))


def replayed(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recorded request and its reply, with ids as ours are."""
    transcript = recorded(name)
    asked, said = transcript["request"]["body"], transcript["response"]["body"]
    for i, item in enumerate(said["forecasts"]):
        item["id"] = f"s{i}"
    return asked, said


@pytest.mark.parametrize(
    "name",
    ["21_forecast_quantiles", "21b_forecast_quantiles_small", "90b_nhits_forecast_288_h12_q"],
)
def test_recorded_bands_are_read(name: str, server: TollamaLike, transport: Transport) -> None:
    asked, said = replayed(name)
    server.manner.reply = 200, said
    card = MOCK.model_copy(update={"upstream": asked["model"]})
    values = np.array([series["target"] for series in asked["series"]])
    query = Query("tollama-mock", asked["horizon"], tuple(asked["quantiles"]), IDENTITY)
    raw = Tollama(card, transport).forecast(Batch(query, values), 5.0)
    first = said["forecasts"][0]["quantiles"]
    assert raw.levels.tolist() == asked["quantiles"]
    expected = np.array([first[f"{level:g}"] for level in asked["quantiles"]]).T
    assert raw.quantiles[0] == pytest.approx(np.clip(expected, 0.0, 1.0))


@pytest.mark.parametrize("name", ["20_forecast_v1_288_h12", "30k_target_nan_literal"])
def test_a_recorded_answer_without_quantiles_or_numbers_is_refused(name: str) -> None:
    said = recorded(name)["response"]["body"]
    for i, item in enumerate(said["forecasts"]):
        item["id"] = f"s{i}"
    question = Question("mock", len(said["forecasts"][0]["mean"]), (0.1, 0.5, 0.9), 300)
    with pytest.raises(InvalidAnswerError, match=r"not finite|only the levels"):
        read_reply(json.dumps(said).encode(), question, len(said["forecasts"]))
