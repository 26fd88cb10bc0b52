"""A model behind a tollama server, as a model of ours.

Log-odds are taken before a series is sent and undone after. Many series travel in one request;
when the server refuses one, it is halved until the series at fault is alone, and the others are
answered. A reply that cannot be read fails the series of its own request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from forecast_service.batch import Batch, InvalidAnswerError
from forecast_service.models.catalog import ModelCard
from forecast_service.models.errors import ModelRefused
from forecast_service.models.port import RawBands
from forecast_service.models.tollama.messages import (
    Question,
    Reply,
    askable_levels,
    read_reply,
    request_body,
    series_message,
)
from forecast_service.models.tollama.transport import BadQuestion, Transport
from forecast_service.transform import FloatArray, Transform

MAX_BYTES = 8 << 20
"""Of a request; the server takes ten."""
ATTEMPTS = 3
"""How often the server itself tries."""
MARGIN = 0.05
"""Seconds of a budget that are kept for the way there and back."""
SHORTEST = 0.01
"""Seconds below which a timeout says nothing."""
MAX_FAULTS = 16
"""Refused requests after which the fault is not that of single series."""
_HEAD_BYTES = 4_096

Part = tuple[int, Reply | None]
"""How many series, and the reply; None where there is none for them."""


class Tollama:
    """One model of the server.

    Args:
        card: what is known of the model; ``upstream`` is its name at the server.
        transport: connections to the server.
        max_series: most series of one request.
        max_bytes: most bytes of one request.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        card: ModelCard,
        transport: Transport,
        *,
        max_series: int = 64,
        max_bytes: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._card = card
        self._transport = transport
        self._max_series = max_series
        self._max_bytes = max_bytes
        self._clock = clock

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Quantiles at the levels that the server gave.

        Raises:
            TimeoutError: ``budget`` seconds are over.
            ModelAway: the server cannot be reached or wants to be left alone.
            ModelRefused: the server wants none of these series, or no question at all.
            InvalidAnswerError: no reply is what was asked for.
        """
        query = batch.query
        question = Question(
            model=self._card.upstream,
            horizon=min(query.horizon_steps, self._card.max_horizon),
            levels=askable_levels(self._card.levels or query.levels),
            freq_seconds=query.freq_seconds,
        )
        values = query.transform.forward(batch.values[:, -self._card.max_context :])
        talk = _Talk(self._transport, question, self._clock, self._clock() + budget)
        parts: list[Part] = []
        for rows in self._portions(values, question.freq_seconds):
            parts += talk.ask(values[rows])
        if talk.unread is not None and all(reply is None for _, reply in parts):
            raise talk.unread
        return _joined(parts, question, query.transform)

    def _portions(self, values: FloatArray, freq_seconds: int) -> list[slice]:
        """Rows that fit into one request each."""
        rows, length = values.shape
        longest = len(series_message(np.full(length, -12.345678), rows, freq_seconds)) + 1
        size = max(1, min(self._max_series, (self._max_bytes - _HEAD_BYTES) // longest))
        return [slice(i, i + size) for i in range(0, rows, size)]


class _Talk:
    """The requests that one batch leads to; ``unread`` is what is wrong with a reply."""

    def __init__(
        self, transport: Transport, question: Question, clock: Callable[[], float], until: float
    ) -> None:
        self._transport = transport
        self._question = question
        self._clock = clock
        self._until = until
        self._faults = 0
        self.unread: InvalidAnswerError | None = None

    def ask(self, values: FloatArray) -> list[Part]:
        """The replies to ``values`` [B, T], halved as often as the server finds fault."""
        count = values.shape[0]
        try:
            return [(count, self._once(values))]
        except InvalidAnswerError as error:
            self.unread = error
            return [(count, None)]
        except BadQuestion:
            self._faults += 1
            if self._faults > MAX_FAULTS:
                raise
            if count == 1:
                return [(1, None)]
        half = count // 2
        return self.ask(values[:half]) + self.ask(values[half:])

    def _once(self, values: FloatArray) -> Reply:
        remaining = self._until - self._clock()
        if remaining <= MARGIN:
            raise TimeoutError(f"{self._question.model}: {remaining:.3f} s are too few")
        freq = self._question.freq_seconds
        series = [series_message(row, i, freq) for i, row in enumerate(values)]
        timeout = max((remaining - MARGIN) / ATTEMPTS, SHORTEST)
        body = request_body(self._question, series, timeout)
        reply = self._transport.post(self._question.model, body, self._until - self._clock())
        return read_reply(reply, self._question, len(series))


def _joined(parts: Sequence[Part], question: Question, transform: Transform) -> RawBands:
    """All replies at the levels that every one of them has."""
    given = [reply for _, reply in parts if reply is not None]
    if not given:
        raise ModelRefused(f"{question.model}: the server wants none of these series")
    common = set.intersection(*(set(reply.levels.tolist()) for reply in given))
    levels = np.array(sorted(common))
    blocks, refused = [], []
    for count, reply in parts:
        refused += [reply is None] * count
        if reply is None:
            blocks.append(np.full((count, question.horizon, levels.size), 0.0))
        else:
            blocks.append(reply.quantiles[:, :, np.isin(reply.levels, levels)])
    return RawBands(
        transform.inverse(np.concatenate(blocks)),
        levels,
        refused=np.array(refused) if any(refused) else None,
    )
