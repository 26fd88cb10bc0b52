"""What is deployed, under which names, and what the backend makes of a replica's results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from forecast_service import serving
from forecast_service.batch import Batch, BatchAnswer, Query
from forecast_service.envelope import Packed, pack_answer, pack_failure, unpack
from forecast_service.models import port
from forecast_service.models.baselines import BASELINE_MODEL
from forecast_service.models.catalog import Family
from forecast_service.models.errors import ModelAway, ModelRefused, WeightsError
from forecast_service.settings import ForecastSettings
from forecast_service.transform import LOGIT

pytestmark = pytest.mark.ray


@pytest.fixture(autouse=True, scope="module")
def environment() -> None:
    serving.prepare_environment()


class Handle:
    """A handle whose replica fails the batches of the models that it is told."""

    def __init__(self, failing: dict[str, Exception]) -> None:
        self.failing = failing
        self.budgets: list[float] = []

    async def remote(self, batches: list[Packed], budget: float) -> list[Packed]:
        self.budgets.append(budget)
        return [self._result(unpack(packed)) for packed in batches]

    def _result(self, batch: Batch) -> Packed:
        error = self.failing.get(batch.query.model)
        return pack_failure(error) if error else pack_answer(port.answer(BASELINE_MODEL, batch, 1))


def batch(model: str) -> Batch:
    return Batch(Query(model, 3, (0.1, 0.5, 0.9), LOGIT), np.full((2, 40), 0.5))


def test_only_families_of_configured_models_are_deployed() -> None:
    assert serving.families(ForecastSettings()) == [Family.BASELINE, Family.NATIVE]
    alone = ForecastSettings(models=(), default_model="ewma")
    assert serving.families(alone) == [Family.BASELINE]
    settings = ForecastSettings(models=("tollama-mock", "native"))
    assert serving.families(settings) == [Family.BASELINE, Family.NATIVE, Family.TOLLAMA]
    assert serving.app_name(settings, Family.NATIVE) == "marketcal-native"


def config_of(family: Family, **settings: Any) -> Any:
    bound = serving.deployment(ForecastSettings(**settings), family)
    return bound._bound_deployment


@pytest.mark.parametrize("family", list(Family))
def test_a_deployment_grows_before_it_is_full(family: Family) -> None:
    made = config_of(family)
    scaling = made._deployment_config.autoscaling_config
    assert made.name == serving.DEPLOYMENTS[family]
    assert scaling.target_ongoing_requests < made._deployment_config.max_ongoing_requests
    assert scaling.min_replicas == (1 if family in serving.ALWAYS_UP else 0)


def test_delays_of_scaling_are_settings() -> None:
    made = config_of(
        Family.NATIVE, upscale_seconds=1, downscale_seconds=2, load_window_seconds=5, max_replicas=7
    )
    scaling = made._deployment_config.autoscaling_config
    assert (scaling.upscale_delay_s, scaling.downscale_delay_s, scaling.max_replicas) == (1, 2, 7)
    assert scaling.metrics_interval_s < scaling.look_back_period_s == 5


async def test_the_budget_travels_and_the_answers_come_back_in_order() -> None:
    handle = Handle({})
    backend = serving.RayBackend(handle, "Baselines")
    given = await backend.answer([batch("ewma"), batch("last_value")], 0.75)
    assert handle.budgets == [0.75]
    assert backend.served_by == "ray:Baselines"
    answers = [answer for answer in given if isinstance(answer, BatchAnswer)]
    assert len(answers) == 2
    assert all(np.isfinite(answer.quantiles).all() for answer in answers)


async def test_each_batch_has_its_own_answer_or_the_reason_for_none() -> None:
    backend = serving.RayBackend(
        Handle({"last_value": ModelAway("gone"), "auto": ModelRefused("no")}), "Tollama"
    )
    good, away, refused = await backend.answer([batch(n) for n in ("ewma", *_FAILING)], 1.0)
    assert isinstance(good, BatchAnswer)
    assert np.isfinite(good.quantiles).all()
    assert (type(away), type(refused)) == (ModelAway, ModelRefused)


_FAILING = ("last_value", "auto")


def test_missing_weights_are_found_before_anything_is_deployed(tmp_path: Any) -> None:
    settings = ForecastSettings(
        models=("chronos-2",), default_model="ewma", weights_folder=str(tmp_path)
    )
    with pytest.raises(WeightsError, match="chronos-2: its weights chronos-2 are missing"):
        serving.deploy(settings)
