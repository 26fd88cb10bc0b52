"""The native model: quantiles of the log-odds from an ONNX file.

The file says about itself what it needs: the names of its inputs, and in its metadata the levels,
the longest context, and the steps at which it answers (``knots``). Contract:

==================  =================  =========================================================
``values``          float32 [B, C]     prices in [0, 1], oldest first; a missing one is the one
                                       before it, and before the first one the first one
``mask``            float32 [B, C]     1 where there is a price, else 0
``steps_to_event``  float32 [B]        steps from the last price to the event; -1 = unknown
``step_seconds``    float32 [B]        length of a step (optional)
``quantiles``       float32 [B, n, K]  the answer at the n knots, in log-odds, not decreasing
                                       along K
==================  =================  =========================================================

Between two knots log-odds are interpolated along the square root of the step, which keeps the band
of a random walk as it is.

At cadences of which training saw no recorded market (``recorded_cadences``), the answer is the mean
of the network's log-odds and those of the random walk, which has a share of ``anchor_share``: what
was learnt from simulations alone is held to what the series itself shows.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from forecast_service.baselines.registry import forecast
from forecast_service.batch import Batch, InvalidAnswerError
from forecast_service.models.errors import WeightsError
from forecast_service.models.onnx_runtime import ort, ort_errors
from forecast_service.models.port import RawBands
from forecast_service.transform import LOGIT, FloatArray, Transform, expit

CHUNK = 64
"""Series per run: the activations of more no longer fit into the caches."""
_SAME = 1e-9
_CLIPPED = Transform(LOGIT.space, 0.0005)
SMALL = 8
"""Series of a batch that is not worth dividing among threads."""
UNKNOWN = -1.0
"""Steps to an event that nobody knows."""
_UNLOADABLE = (
    ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf, ort_errors.NoModel, ort_errors.NoSuchFile,
    ort_errors.NotImplemented, ort_errors.RuntimeException,
)  # fmt: skip
_NEEDED = frozenset({"values", "mask"})
_POSSIBLE = _NEEDED | {"steps_to_event", "step_seconds"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the file's metadata say.

    Attributes:
        context: C, steps that the model sees.
        knots: [n] int64, increasing steps from 1 on at which it answers.
        levels: [K] float64 in (0, 1), strictly increasing.
        version: of the weights.
        recorded_cadences: lengths of a step, in seconds, of the recorded markets in training.
        anchor_share: of the random walk at other cadences, in [0, 1].
    """

    context: int
    knots: NDArray[np.int64]
    levels: FloatArray
    version: str
    recorded_cadences: frozenset[int] = frozenset()
    anchor_share: float = 0.0

    @property
    def horizon(self) -> int:
        """The last step."""
        return int(self.knots[-1])


class Native:
    """A loaded ONNX model; several threads may ask it at once."""

    def __init__(
        self, path: Path, *, threads: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Loads the file.

        Args:
            path: the ONNX file.
            threads: chunks of a batch that are computed at once.
            clock: monotonic seconds.

        Raises:
            WeightsError: the file is no ONNX model or does not keep the contract.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except _UNLOADABLE as error:
            raise WeightsError(f"{path.name} is no model that can be run: {error}") from error
        self._inputs = frozenset(given.name for given in self._session.get_inputs())
        if not _NEEDED <= self._inputs <= _POSSIBLE:
            raise WeightsError(f"{path.name} has the inputs {', '.join(sorted(self._inputs))}")
        self.shape = _shape(path.name, self._session.get_modelmeta().custom_metadata_map)
        self._clock = clock
        self._threads = threads
        self._weights: dict[int, FloatArray] = {}
        self._workers = ThreadPoolExecutor(threads, thread_name_prefix="native")

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Quantiles at the levels asked for, where the model has all of them, else at all its own.

        Raises:
            TimeoutError: ``budget`` seconds are over before the last series had its turn.
            InvalidAnswerError: the model answered with another shape.
        """
        until = self._clock() + budget
        steps = min(batch.query.horizon_steps, self.shape.horizon)
        between = self._between(steps)
        columns = self._columns(batch.query.levels)
        levels = self.shape.levels[columns]
        inputs = self._prepared(batch)
        rows = batch.values.shape[0]
        logits = np.empty((rows, steps, levels.size))
        size = min(CHUNK, math.ceil(rows / self._threads)) if rows > SMALL else CHUNK

        def run(start: int) -> None:
            if self._clock() >= until:
                raise TimeoutError(f"{batch.query.model}: {start} of {rows} series in time")
            chunk = slice(start, min(start + size, rows))
            logits[chunk] = between @ self._run(inputs, chunk)[:, :, columns]

        starts = range(0, rows, size)
        for _ in map(run, starts) if len(starts) == 1 else self._workers.map(run, starts):
            pass
        if batch.query.freq_seconds not in self.shape.recorded_cadences:
            self._anchor(logits, levels, batch)
        return RawBands(expit(logits), levels)

    def _between(self, steps: int) -> FloatArray:
        found = self._weights.get(steps)
        if found is None:
            found = self._weights[steps] = weights_between(self.shape.knots, steps)
        return found

    def _columns(self, levels: tuple[float, ...]) -> NDArray[np.intp]:
        """Places of ``levels`` among the model's own; all places where one is not among them."""
        own = self.shape.levels
        places = np.minimum(np.searchsorted(own, np.asarray(levels) - _SAME), own.size - 1)
        return places if (np.abs(own[places] - levels) < _SAME).all() else np.arange(own.size)

    def _anchor(self, logits: FloatArray, levels: FloatArray, batch: Batch) -> None:
        """Draws log-odds [B, H, K] towards those of the random walk, in place."""
        share = self.shape.anchor_share
        if share:
            walk = forecast(
                "random_walk",
                batch.values[:, -self.shape.context :],
                horizon_steps=logits.shape[1],
                levels=levels,
                transform=_CLIPPED,
            )
            logits *= 1.0 - share
            logits += share * _CLIPPED.forward(walk.quantiles)

    def _prepared(self, batch: Batch) -> dict[str, NDArray[Any]]:
        values, mask = aligned(batch.values, self.shape.context)
        to_event = np.full(values.shape[0], UNKNOWN, dtype=np.float32)
        if batch.steps_to_event is not None:
            known = np.nan_to_num(batch.steps_to_event, nan=UNKNOWN)
            to_event = np.maximum(known, UNKNOWN).astype(np.float32)
        step = np.full(values.shape[0], batch.query.freq_seconds, dtype=np.float32)
        return {"values": values, "mask": mask, "steps_to_event": to_event, "step_seconds": step}

    def _run(self, inputs: Mapping[str, NDArray[Any]], chunk: slice) -> FloatArray:
        """[b, n, K] log-odds of some rows."""
        feed = {name: value[chunk] for name, value in inputs.items() if name in self._inputs}
        given = np.asarray(self._session.run(["quantiles"], feed)[0], dtype=np.float64)
        wanted = (feed["values"].shape[0], self.shape.knots.size, self.shape.levels.size)
        if given.shape != wanted:
            raise InvalidAnswerError(f"the native model gave log-odds of shape {given.shape}")
        return given


def weights_between(knots: NDArray[np.int64], steps: int) -> FloatArray:
    """[steps, n] weights that turn values at ``knots`` into values at 1 … ``steps``.

    >>> weights_between(np.array([1, 4, 9]), 4).round(2).tolist()[1]
    [0.59, 0.41, 0.0]
    """
    wanted, given = np.sqrt(np.arange(1, steps + 1)), np.sqrt(knots)
    return np.stack([np.interp(wanted, given, unit) for unit in np.eye(knots.size)], axis=1)


def aligned(values: FloatArray, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The last ``context`` values at the right edge without holes, and where there is one.

    Args:
        values: [B, T] float64, NaN = missing, at least one finite per row.
        context: C.

    Returns:
        values and mask, [B, C] float32 each.

    >>> values, mask = aligned(np.array([[0.5, np.nan]]), 3)
    >>> values.tolist(), mask.tolist()
    ([[0.5, 0.5, 0.5]], [[0.0, 1.0, 0.0]])
    """
    kept = values[:, -context:]
    known = np.isfinite(kept)
    latest = np.maximum.accumulate(np.where(known, np.arange(kept.shape[1]), -1), axis=1)
    latest = np.where(latest < 0, known.argmax(axis=1)[:, None], latest)
    full = np.take_along_axis(kept, latest, axis=1)
    missing = context - kept.shape[1]
    out = np.empty((values.shape[0], context), dtype=np.float32)
    out[:, missing:] = full
    out[:, :missing] = full[:, :1]
    mask = np.zeros_like(out)
    mask[:, missing:] = known
    return out, mask


def _shape(name: str, metadata: Mapping[str, str]) -> Shape:
    try:
        shape = Shape(
            context=int(metadata["context"]),
            knots=np.asarray(json.loads(metadata["knots"]), dtype=np.int64),
            levels=np.asarray(json.loads(metadata["levels"]), dtype=np.float64),
            version=metadata["version"],
            recorded_cadences=frozenset(json.loads(metadata.get("recorded_cadences", "[]"))),
            anchor_share=float(metadata.get("anchor_share", "0")),
        )
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{name}: its metadata are not complete: {error!r}") from error
    knots, levels = shape.knots, shape.levels
    listed = knots.ndim == levels.ndim == 1 and knots.size > 0 and levels.size > 0
    if not (listed and shape.context > 0 and knots[0] == 1 and (np.diff(knots) > 0).all()):
        raise WeightsError(f"{name}: its context or its knots make no sense")
    if not 0.0 <= shape.anchor_share <= 1.0:
        raise WeightsError(f"{name}: its anchor share makes no sense")
    if not (levels.min() > 0.0 and levels.max() < 1.0 and (np.diff(levels) > 0).all()):
        raise WeightsError(f"{name}: its levels make no sense")
    return shape
