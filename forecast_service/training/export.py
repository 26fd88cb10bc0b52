"""From trained weights to the file that is served: ONNX, matrices in eight bits."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

# isort: split
import forecast_service.models.onnx_runtime  # noqa: F401 - first: it keeps the library quiet

# isort: split
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod
from onnxruntime.quantization.shape_inference import quant_pre_process

from forecast_service.training.layout import ANCHOR_SHARE, CONTEXT, KNOTS, LEVELS
from forecast_service.training.network import Network
from forecast_service.training.samples import Samples, filled

INPUTS = ("values", "mask", "steps_to_event", "step_seconds")
KEPT_EXACT = ("embed_summary", "readout.2")
"""Layers left in single precision: the first reads raw statistics, the last one scales."""


def export(network: Network, path: Path) -> None:
    """Writes ``network`` in single precision."""
    example = (
        torch.full((2, CONTEXT), 0.5),
        torch.ones(2, CONTEXT),
        torch.full((2,), -1.0),
        torch.full((2,), 300.0),
    )
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.onnx.export(
        network.eval(),
        example,
        dynamo=True,
        input_names=list(INPUTS),
        output_names=["quantiles"],
        dynamic_shapes=({0: batch}, {0: batch}, {0: batch}, {0: batch}),
        verbose=False,
    )
    if program is None:
        raise RuntimeError("the network cannot be exported")
    program.save(str(path))


def quantise(exact: Path, path: Path, samples: Samples, version: str, cadences: list[int]) -> None:
    """Writes ``exact`` with its matrices in eight bits and what the server must know of it.

    Ranges of the activations are fixed from ``samples``, so an answer does not depend on the other
    series of its batch. ``cadences`` are those of the recorded markets in training, in seconds.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(str(exact), str(prepared), skip_symbolic_shape=True)
        graph = onnx.load(str(prepared)).graph
        quantize_static(
            str(prepared),
            str(path),
            _Reader(samples),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["MatMul", "Gemm"],
            nodes_to_exclude=_exact_nodes(graph),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.Percentile,
            extra_options={"CalibPercentile": 99.995},
        )
    model = onnx.load(str(path))
    _without_traces(model)
    about = {
        "version": version,
        "context": str(CONTEXT),
        "knots": json.dumps(KNOTS),
        "levels": json.dumps(LEVELS),
        "recorded_cadences": json.dumps(cadences),
        "anchor_share": str(ANCHOR_SHARE),
    }
    onnx.helper.set_model_props(model, about)
    onnx.save(model, str(path))


def _without_traces(model: onnx.ModelProto) -> None:
    """Drops what the exporter notes of the machine that it ran on, and names of inner values."""
    del model.metadata_props[:]
    del model.graph.metadata_props[:]
    del model.graph.value_info[:]
    for initializer in model.graph.initializer:
        initializer.doc_string = ""
        del initializer.metadata_props[:]
    bodies = [model.graph.node, *(function.node for function in model.functions)]
    for node in (node for body in bodies for node in body):
        node.doc_string = ""
        del node.metadata_props[:]


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Calibration inputs, some windows at a time."""

    def __init__(self, samples: Samples, at_once: int = 64) -> None:
        values, mask = filled(samples.context)
        to_event = np.nan_to_num(samples.steps_to_event, nan=-1.0).astype(np.float32)
        arrays = dict(zip(INPUTS, (values, mask, to_event, samples.step_seconds), strict=True))
        self._parts: Iterator[dict[str, Any]] = iter(
            [
                {name: array[start : start + at_once] for name, array in arrays.items()}
                for start in range(0, len(values), at_once)
            ]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._parts, None)


def _exact_nodes(graph: onnx.GraphProto) -> list[str]:
    """Products of two activations, and the layers that stay exact."""
    constants = {item.name for item in graph.initializer}
    exact = []
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        weights = [name for name in node.input if name in constants]
        if not weights or any(name.startswith(KEPT_EXACT) for name in weights):
            exact.append(node.name)
    return exact
