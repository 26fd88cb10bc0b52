"""The native model: quantiles of the log-odds from an ONNX file.

The file says about itself what it needs: the names of its inputs, and in its metadata the levels,
the longest context and the horizon. Contract:

==================  ===============  ===========================================================
``values``          float32 [B, C]   prices in [0, 1], oldest first; 0 where there is none
``mask``            float32 [B, C]   1 where there is a price, else 0
``steps_to_event``  float32 [B]      steps from the last price to the event; -1 = unknown
``patches``         int64 scalar     how many patches of the horizon to compute (optional)
``quantiles``       float32 [B, n, K]  the answer, in log-odds, not decreasing along K
==================  ===============  ===========================================================
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from forecast_service.batch import Batch, InvalidAnswerError
from forecast_service.models.errors import WeightsError
from forecast_service.models.port import RawBands
from forecast_service.transform import FloatArray, expit

CHUNK = 64
"""Series per run: the activations of more no longer fit into the caches."""
UNKNOWN = -1.0
"""Steps to an event that nobody knows."""
_UNLOADABLE = (
    ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf, ort_errors.NoModel, ort_errors.NoSuchFile,
    ort_errors.NotImplemented, ort_errors.RuntimeException,
)  # fmt: skip
_NEEDED = frozenset({"values", "mask"})
_POSSIBLE = _NEEDED | {"steps_to_event", "patches"}


@dataclass(frozen=True, slots=True)
class Shape:
    """What the file's metadata say.

    Attributes:
        context: C, steps that the model sees.
        horizon: steps that it gives.
        patch: steps of one patch of the horizon.
        levels: [K] float64 in (0, 1), strictly increasing.
        version: of the weights.
    """

    context: int
    horizon: int
    patch: int
    levels: FloatArray
    version: str


class Native:
    """A loaded ONNX model; several threads may ask it at once."""

    def __init__(
        self, path: Path, *, threads: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Loads the file.

        Args:
            path: the ONNX file.
            threads: threads of one run.
            clock: monotonic seconds.

        Raises:
            WeightsError: the file is no ONNX model or does not keep the contract.
        """
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
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

    def forecast(self, batch: Batch, budget: float) -> RawBands:
        """Quantiles at the model's own levels.

        Raises:
            TimeoutError: ``budget`` seconds are over before the last series had its turn.
            InvalidAnswerError: the model answered with another shape.
        """
        until = self._clock() + budget
        steps = min(batch.query.horizon_steps, self.shape.horizon)
        inputs = self._prepared(batch, steps)
        rows = batch.values.shape[0]
        logits = np.empty((rows, steps, self.shape.levels.size))
        for start in range(0, rows, CHUNK):
            if self._clock() >= until:
                raise TimeoutError(f"{batch.query.model}: {start} of {rows} series in time")
            chunk = slice(start, min(start + CHUNK, rows))
            logits[chunk] = self._run(inputs, chunk, steps)
        return RawBands(expit(logits), self.shape.levels)

    def _prepared(self, batch: Batch, steps: int) -> dict[str, NDArray[Any]]:
        values, mask = aligned(batch.values, self.shape.context)
        to_event = np.full(values.shape[0], UNKNOWN, dtype=np.float32)
        if batch.steps_to_event is not None:
            known = np.nan_to_num(batch.steps_to_event, nan=UNKNOWN)
            to_event = np.maximum(known, UNKNOWN).astype(np.float32)
        patches = np.array(math.ceil(steps / self.shape.patch), dtype=np.int64)
        return {"values": values, "mask": mask, "steps_to_event": to_event, "patches": patches}

    def _run(self, inputs: Mapping[str, NDArray[Any]], chunk: slice, steps: int) -> NDArray[Any]:
        feed = {
            name: value if value.ndim == 0 else value[chunk]
            for name, value in inputs.items()
            if name in self._inputs
        }
        given: NDArray[Any] = self._session.run(["quantiles"], feed)[0]
        wanted = (feed["values"].shape[0], self.shape.levels.size)
        if given.ndim != 3 or (given.shape[0], given.shape[2]) != wanted or given.shape[1] < steps:
            raise InvalidAnswerError(f"the native model gave log-odds of shape {given.shape}")
        return given[:, :steps]


def aligned(values: FloatArray, context: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """The last ``context`` values at the right edge, and where there is one.

    Args:
        values: [B, T] float64, NaN = missing.
        context: C.

    Returns:
        values and mask, [B, C] float32 each; 0 where nothing is known.

    >>> values, mask = aligned(np.array([[0.5, np.nan]]), 3)
    >>> values.tolist(), mask.tolist()
    ([[0.0, 0.5, 0.0]], [[0.0, 1.0, 0.0]])
    """
    kept = values[:, -context:]
    known = np.isfinite(kept)
    out = np.zeros((values.shape[0], context), dtype=np.float32)
    mask = np.zeros_like(out)
    out[:, context - kept.shape[1] :] = np.where(known, kept, 0.0)
    mask[:, context - kept.shape[1] :] = known
    return out, mask


def _shape(name: str, metadata: Mapping[str, str]) -> Shape:
    try:
        levels = np.asarray(json.loads(metadata["levels"]), dtype=np.float64)
        horizon = int(metadata["horizon"])
        shape = Shape(
            context=int(metadata["context"]),
            horizon=horizon,
            patch=int(metadata.get("patch", horizon)),
            levels=levels,
            version=metadata["version"],
        )
    except (KeyError, ValueError, TypeError) as error:
        raise WeightsError(f"{name}: its metadata are not complete: {error!r}") from error
    inside = levels.ndim == 1 and levels.size > 0 and levels.min() > 0.0 and levels.max() < 1.0
    if not inside or (np.diff(levels) <= 0).any() or min(shape.context, horizon, shape.patch) < 1:
        raise WeightsError(f"{name}: levels, context, horizon or patch make no sense")
    return shape
