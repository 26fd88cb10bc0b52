"""A replica of a deployment: loaded models of one family, asked from an event loop.

It knows nothing of Ray. Calls are computed by a bounded number of threads; a call waits for a free
one no longer than its budget. Health is asked in a thread of its own, so that a busy replica is
not taken for a sick one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from forecast_service.batch import Batch, BatchAnswer
from forecast_service.envelope import Packed, pack_answer, pack_failure, unpack
from forecast_service.models import port
from forecast_service.models.errors import ModelRefused
from forecast_service.models.port import Model

HEALTH_SECONDS = 5.0
"""How long a canary may take until the replica counts as sick."""
WARM_UP_SECONDS = 60.0
_LOG = logging.getLogger("forecast_service.replica")


class Sick(Exception):
    """The replica cannot answer its canary."""


class Replica:
    """Answers batches with the models that it holds.

    Args:
        models: by name.
        canaries: batches that it must be able to answer.
        threads: calls that are computed at once.
        health_seconds: how long the canaries may take later on.
        clock: monotonic seconds.

    Raises:
        Sick: a model does not answer its canary; such a replica must not become ready.
    """

    def __init__(
        self,
        models: Mapping[str, Model],
        canaries: Sequence[Batch],
        *,
        threads: int,
        health_seconds: float = HEALTH_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._models = dict(models)
        self._canaries = list(canaries)
        self._health_seconds = health_seconds
        self._clock = clock
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="model")
        self._health = ThreadPoolExecutor(1, thread_name_prefix="health")
        self._examine(WARM_UP_SECONDS)

    async def answer(self, batches: Sequence[Packed], budget: float) -> list[Packed]:
        """One result per batch, packed by `envelope`: an answer, or why there is none.

        Args:
            batches: packed by `envelope.pack`.
            budget: seconds that the caller waits, from now.
        """
        until = self._clock() + budget
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, self._answer_all, batches, until)

    async def check_health(self) -> None:
        """Answers the canaries.

        Raises:
            Sick: it cannot, or not in time.
        """
        loop, seconds = asyncio.get_running_loop(), self._health_seconds
        examined = loop.run_in_executor(self._health, self._examine, seconds)
        try:
            await asyncio.wait_for(asyncio.shield(examined), seconds)
        except TimeoutError:
            raise Sick(f"no canary within {seconds:g} s") from None

    def close(self) -> None:
        """Lets the threads go; what is under way ends by itself."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._health.shutdown(wait=False, cancel_futures=True)

    def _examine(self, seconds: float) -> None:
        for canary in self._canaries:
            _, told = result = self._answer_one(canary, self._clock() + seconds)
            if result[0] != "answer":
                raise Sick(f"{canary.query.model} cannot answer its canary: {told}")
            if not np.isfinite(told[0]).all():
                raise Sick(f"{canary.query.model} answers its canary with what is no number")

    def _answer_all(self, batches: Sequence[Packed], until: float) -> list[Packed]:
        return [self._answer_one(unpack(packed), until) for packed in batches]

    def _answer_one(self, batch: Batch, until: float) -> Packed:
        result = result_of(self._models, batch, until - self._clock())
        if isinstance(result, BatchAnswer):
            return pack_answer(result)
        _LOG.warning("%s: %s", batch.query.model, result)
        return pack_failure(result)


def result_of(
    models: Mapping[str, Model], batch: Batch, remaining: float
) -> BatchAnswer | Exception:
    """The answer to one batch of a call within ``remaining`` seconds, or why there is none."""
    name = batch.query.model
    try:
        if remaining <= 0:
            raise TimeoutError(f"{name}: its turn came after the deadline")
        model = models.get(name)
        if model is None:
            raise ModelRefused(f"{name} is not deployed here")
        return port.answer(model, batch, remaining)
    except Exception as error:  # noqa: BLE001 - one batch's error must not fail the others
        return error
