"""Models of this process: each batch has its own result, within one budget."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from forecast_service.batch import Batch, BatchAnswer, Query
from forecast_service.in_process import InProcess
from forecast_service.models.port import RawBands
from forecast_service.transform import LOGIT


class Told:
    """A model that does as it is told before it answers."""

    def __init__(self, manner: Callable[[], None] = lambda: None) -> None:
        self.manner = manner
        self.budgets: list[float] = []

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        self.budgets.append(budget)
        self.manner()
        steps = batch.query.horizon_steps
        return RawBands(np.full((batch.values.shape[0], steps, 1), 0.5), np.array([0.5]))


def batch(model: str) -> Batch:
    return Batch(Query(model, 3, (0.1, 0.5, 0.9), LOGIT), np.full((1, 40), 0.5))


def _bug() -> None:
    raise RuntimeError("bug")


async def test_a_batch_that_fails_does_not_fail_the_others() -> None:
    backend = InProcess({"good": Told(), "bad": Told(_bug)})
    given = await backend.answer([batch(name) for name in ("good", "bad", "good")], 5.0)
    assert [type(one) for one in given] == [BatchAnswer, RuntimeError, BatchAnswer]


async def test_a_later_batch_has_what_earlier_ones_left_of_the_budget() -> None:
    slow = Told(lambda: time.sleep(0.1))
    given = await InProcess({"slow": slow}).answer([batch("slow")] * 3, 0.15)
    assert 0.1 < slow.budgets[0] <= 0.15
    assert slow.budgets[1] <= 0.05
    assert [type(one) for one in given] == [BatchAnswer, BatchAnswer, TimeoutError]


async def test_baselines_answer_however_late_it_is() -> None:
    (given,) = await InProcess().answer([batch("ewma")], 0.0)
    assert isinstance(given, BatchAnswer)
