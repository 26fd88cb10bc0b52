"""The network, its training and its export; left out where the extra [train] is not installed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch, of the extra [train], is not installed")
pytest.importorskip("onnxscript", reason="onnxscript, of the extra [train], is not installed")

from forecast_service.batch import Batch, Query  # noqa: E402
from forecast_service.models.native import Native  # noqa: E402
from forecast_service.training.export import export, quantise  # noqa: E402
from forecast_service.training.layout import CONTEXT, KNOTS, LEVELS  # noqa: E402
from forecast_service.training.network import Network, Size  # noqa: E402
from forecast_service.training.samples import SimulatedMarkets, filled, mix  # noqa: E402
from forecast_service.training.train import Recipe, train  # noqa: E402
from forecast_service.transform import LOGIT, expit  # noqa: E402

SMALL = Size(width=16, heads=2, layers=2, feed_forward=32)
RECIPE = Recipe(steps=4, batch=16, stock=1, size=SMALL)


def windows(count: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(4)
    return filled(SimulatedMarkets(rng, 1).draw(rng, count).context)


def test_quantiles_never_cross_whatever_the_weights() -> None:
    torch.manual_seed(1)
    network = Network(SMALL)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter))
    values, mask = windows()
    event, step = torch.full((len(values),), -1.0), torch.full((len(values),), 300.0)
    odds = network(torch.from_numpy(values), torch.from_numpy(mask), event, step)
    assert odds.shape == (len(values), len(KNOTS), len(LEVELS))
    assert (odds.diff(dim=2) >= 0).all()
    assert odds.isfinite().all()


def test_a_series_without_moves_is_answered_with_finite_numbers() -> None:
    network = Network(SMALL)
    ones = torch.ones(1, CONTEXT)
    odds = network(ones, ones, torch.zeros(1), torch.ones(1))
    assert odds.isfinite().all()


def test_training_goes_on_where_it_stopped_and_refuses_another_recipe(tmp_path: Path) -> None:
    train(dataclasses.replace(RECIPE, steps=4), None, tmp_path)
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    again = train(RECIPE, None, tmp_path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, state["average"][name])
    with pytest.raises(ValueError, match="another recipe"):
        train(dataclasses.replace(RECIPE, rate=1.0), None, tmp_path)


def test_the_file_in_eight_bits_answers_as_the_network(tmp_path: Path) -> None:
    torch.manual_seed(1)
    network = Network(SMALL).eval()
    rng = np.random.default_rng(4)
    samples = mix(rng, [SimulatedMarkets(rng, 1).draw(rng, 256)])
    export(network, tmp_path / "exact.onnx")
    quantise(tmp_path / "exact.onnx", tmp_path / "native.onnx", samples, "7", [300])
    model = Native(tmp_path / "native.onnx")
    assert model.shape.version == "7"
    values, mask = filled(samples.context)
    with torch.no_grad():
        event, step = torch.full((len(values),), -1.0), torch.full((len(values),), 300.0)
        odds = network(torch.from_numpy(values), torch.from_numpy(mask), event, step).numpy()
    query = Query("native", KNOTS[-1], LEVELS, LOGIT)
    given = model.forecast(Batch(query, samples.context.astype(np.float64)), 60.0).quantiles
    at_knots = given[:, np.array(KNOTS) - 1]
    assert np.abs(at_knots - expit(odds.astype(np.float64))).mean() < 5e-3


def test_an_answer_does_not_depend_on_the_rest_of_its_batch(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    samples = mix(rng, [SimulatedMarkets(rng, 1).draw(rng, 64)])
    export(Network(SMALL).eval(), tmp_path / "exact.onnx")
    quantise(tmp_path / "exact.onnx", tmp_path / "native.onnx", samples, "7", [300])
    model = Native(tmp_path / "native.onnx")
    query = Query("native", 12, LEVELS, LOGIT)
    values = samples.context.astype(np.float64)
    together = model.forecast(Batch(query, values), 60.0).quantiles
    alone = model.forecast(Batch(query, values[5:6]), 60.0).quantiles
    assert np.allclose(together[5:6], alone, atol=1e-6)
