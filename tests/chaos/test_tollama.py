"""The server behind a deployment fails in every way, and each answer says what stood in and why."""

from __future__ import annotations

import time
from typing import Any

import pytest

from forecast_service.models.catalog import Family
from forecast_service.policy.decision import FallbackReason

pytestmark = pytest.mark.ray

REASONS = {
    "hang": FallbackReason.DEADLINE,
    "drip": FallbackReason.DEADLINE,
    "drop": FallbackReason.BACKEND_UNAVAILABLE,
    "half": FallbackReason.BACKEND_UNAVAILABLE,
    "garbage": FallbackReason.BACKEND_UNAVAILABLE,
    "500": FallbackReason.BACKEND_ERROR,
    "502": FallbackReason.BACKEND_ERROR,
    "404": FallbackReason.BACKEND_ERROR,
    "401": FallbackReason.BACKEND_ERROR,
    "400": FallbackReason.BACKEND_ERROR,
    "null_mean": FallbackReason.INVALID_OUTPUT,
    "nan": FallbackReason.INVALID_OUTPUT,
    "short": FallbackReason.INVALID_OUTPUT,
    "no_quantiles": FallbackReason.INVALID_OUTPUT,
    "other_model": FallbackReason.INVALID_OUTPUT,
}


@pytest.fixture(scope="module")
def awake(cluster: Any) -> Any:
    """The cluster with a replica of the family tollama."""
    forecaster = cluster.forecaster()

    def answered() -> bool:
        (answer,) = cluster.answers(forecaster, [cluster.ask("tollama-chronos2")], 5.0)
        return bool(answer.made.bands.served_by == "ray:Tollama")

    cluster.until(answered)
    return cluster


@pytest.mark.parametrize("fault", sorted(REASONS))
def test_a_failing_server_is_stood_in_for(awake: Any, fault: str) -> None:
    forecaster = awake.forecaster()
    awake.tollama.manner.fault = fault
    began = time.monotonic()
    (answer,) = awake.answers(forecaster, [awake.ask("tollama-chronos2")], 0.5)
    assert time.monotonic() - began < 1.0
    assert answer.made.card.family == Family.BASELINE
    assert answer.made.reason is REASONS[fault]


def test_a_server_that_comes_back_is_asked_again(awake: Any) -> None:
    forecaster = awake.forecaster()
    awake.tollama.manner.fault, awake.tollama.manner.times = "drop", 2

    def served_by() -> str:
        ask = awake.ask("tollama-chronos2")
        return str(awake.answers(forecaster, [ask], 2.0)[0].made.bands.served_by)

    assert served_by() == "in-process"
    awake.until(lambda: served_by() == "ray:Tollama")


def test_a_server_that_is_too_slow_is_stood_in_for_within_the_budget(awake: Any) -> None:
    forecaster = awake.forecaster()
    awake.tollama.manner.seconds = 1.0
    began = time.monotonic()
    (answer,) = awake.answers(forecaster, [awake.ask("tollama-chronos2")], 0.4)
    assert time.monotonic() - began < 0.6
    assert answer.made.reason is FallbackReason.DEADLINE


def test_one_bad_series_is_stood_in_for_and_the_others_are_not(awake: Any) -> None:
    from forecast_service.series import series_of

    forecaster = awake.forecaster()
    awake.tollama.manner.reject_above = 5.0
    good = [awake.ask("tollama-chronos2", market=str(i)) for i in range(7)]
    high = series_of([0.9999] * 96, "5m")
    bad = awake.ask("tollama-chronos2", market="bad")._replace(series=high)
    answers = awake.answers(forecaster, [*good, bad], 3.0)
    served = [answer.made.bands.served_by for answer in answers]
    assert set(served[:-1]) == {"ray:Tollama"}
    assert served[-1] != "ray:Tollama"


@pytest.mark.parametrize(
    ("status", "model"), [("503", "tollama-mock"), ("429", "tollama-timesfm-2.5")]
)
def test_a_server_that_asks_for_peace_gets_it(awake: Any, status: str, model: str) -> None:
    awake.tollama.manner.fault, awake.tollama.manner.times = status, 1
    awake.tollama.requests.clear()
    for market in "abc":
        (answer,) = awake.answers(awake.forecaster(), [awake.ask(model, market)], 2.0)
        assert answer.made.reason is FallbackReason.BACKEND_UNAVAILABLE
    assert len(awake.tollama.requests) == 1
