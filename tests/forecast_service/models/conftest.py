"""A native model that is small enough to be written by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from scipy import special

CONTEXT = 512
KNOTS = (1, 2, 4, 12, 48, 144, 288)
LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
METADATA = {
    "levels": json.dumps(LEVELS),
    "version": "test",
    "context": str(CONTEXT),
    "knots": json.dumps(KNOTS),
}

_NODES = [
    helper.make_node("Gather", ["values", "last"], ["price"], axis=1),
    helper.make_node("Clip", ["price", "low", "high"], ["p"]),
    helper.make_node("Sub", ["one", "p"], ["q"]),
    helper.make_node("Div", ["p", "q"], ["odds"]),
    helper.make_node("Log", ["odds"], ["logit"]),
    helper.make_node("Reshape", ["logit", "to_row"], ["centre"]),
    helper.make_node("Sign", ["steps_to_event"], ["sign"]),
    helper.make_node("Abs", ["sign"], ["moves"]),
    helper.make_node("Reshape", ["moves", "to_row"], ["scale"]),
    helper.make_node("Mul", ["scale", "spread"], ["width"]),
    helper.make_node("Add", ["centre", "width"], ["quantiles"]),
]


def tiny_model(metadata: Mapping[str, str] = METADATA) -> onnx.ModelProto:
    """A random walk of 0.1 log-odds a step from the last column; at the event it stands still."""
    steps = np.sqrt(np.array(KNOTS))[:, None] * 0.1
    constants = {
        "spread": (steps * special.ndtri(np.array(LEVELS))).astype(np.float32),
        "last": np.array([-1]),
        "low": np.float32(1e-6),
        "high": np.float32(1 - 1e-6),
        "one": np.float32(1.0),
        "to_row": np.array([-1, 1, 1]),
    }
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        _NODES,
        "tiny",
        [
            value("values", TensorProto.FLOAT, ["B", CONTEXT]),
            value("mask", TensorProto.FLOAT, ["B", CONTEXT]),
            value("steps_to_event", TensorProto.FLOAT, ["B"]),
        ],
        [value("quantiles", TensorProto.FLOAT, ["B", len(KNOTS), len(LEVELS)])],
        [numpy_helper.from_array(np.asarray(held), name) for name, held in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="session")
def write_model() -> Callable[..., Path]:
    """Writes the tiny model: ``write_model(path, metadata)``."""

    def write(path: Path, metadata: Mapping[str, str] = METADATA) -> Path:
        path.write_bytes(tiny_model(metadata).SerializeToString())
        return path

    return write


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory, write_model: Callable[..., Path]) -> Path:
    """The tiny model's file; nobody changes it."""
    return write_model(tmp_path_factory.mktemp("weights") / "native.onnx")
