"""Chronos and TimesFM with tiny random weights: loading, shapes and refusals, not their skill."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from forecast_service.batch import Batch, Query, scatter
from forecast_service.models import port
from forecast_service.models.catalog import ModelCard, known_models
from forecast_service.models.digests import digest_of, verified
from forecast_service.models.errors import WeightsError
from forecast_service.transform import LOGIT

DECILES = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
SMALL = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 1, "num_heads": 2}
pytestmark = pytest.mark.filterwarnings("default")  # what third parties warn of is theirs


def batch(name: str, *, rows: int = 3, steps: int = 12) -> Batch:
    values = np.linspace(0.3, 0.7, rows * 80).reshape(rows, 80)
    values[0, :50] = np.nan
    values[1, 40] = np.nan
    return Batch(Query(name, steps, (0.1, 0.5, 0.9), LOGIT), values)


def tiny_bolt(folder: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: extra [chronos]")
    bolt = pytest.importorskip("chronos.chronos_bolt", reason="needs the extra [chronos]")
    from transformers import T5Config

    torch.manual_seed(0)
    config = T5Config(**SMALL, num_decoder_layers=1, vocab_size=2, feed_forward_proj="relu")
    config.decoder_start_token_id = 0
    config.architectures = ["ChronosBoltModelForForecasting"]
    config.chronos_config = {
        "context_length": 64, "prediction_length": 16, "input_patch_size": 8,
        "input_patch_stride": 8, "quantiles": DECILES, "use_reg_token": True,
    }  # fmt: skip
    config.chronos_pipeline_class = "ChronosBoltPipeline"
    bolt.ChronosBoltModelForForecasting(config).save_pretrained(folder)


def tiny_chronos_2(folder: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: extra [chronos]")
    chronos = pytest.importorskip("chronos.chronos2", reason="needs the extra [chronos]")
    from chronos.chronos2.config import Chronos2CoreConfig

    torch.manual_seed(0)
    config = Chronos2CoreConfig(**SMALL)
    config.architectures = ["Chronos2Model"]
    config.chronos_config = {
        "context_length": 64, "output_patch_size": 8, "input_patch_size": 8,
        "input_patch_stride": 8, "quantiles": DECILES, "use_reg_token": True,
        "use_arcsinh": True, "max_output_patches": 2,
    }  # fmt: skip
    config.chronos_pipeline_class = "Chronos2Pipeline"
    chronos.Chronos2Model(config).save_pretrained(folder)


BUILDERS = {"chronos-bolt-tiny": tiny_bolt, "chronos-2": tiny_chronos_2}


def pinned(name: str, folder: Path) -> ModelCard:
    weights = folder / known_models()[name].weights
    return known_models()[name].model_copy(update={"digest": digest_of(weights)})


@pytest.fixture(params=sorted(BUILDERS))
def chronos_model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Any]:
    """Name and model, loaded from a folder that this test wrote."""
    name = request.param
    BUILDERS[name](tmp_path / known_models()[name].weights)
    from forecast_service.models.chronos import Chronos

    card = pinned(name, tmp_path)
    return name, Chronos(card, verified(card, str(tmp_path)))


def test_chronos_answers_a_batch_with_gaps(chronos_model: tuple[str, Any]) -> None:
    name, model = chronos_model
    asked = batch(name)
    bands = scatter(asked, port.answer(model, asked, 30.0), "here")
    assert len(bands) == 3
    assert model.forecast(asked, 30.0).levels.tolist() == DECILES


def test_chronos_says_how_far_it_sees(chronos_model: tuple[str, Any]) -> None:
    name, model = chronos_model
    answer = port.answer(model, batch(name, steps=40), 30.0)
    assert answer.quantiles.shape == (3, 40, 3)
    assert answer.effective_horizon == 16


def test_chronos_answers_each_series_by_itself(chronos_model: tuple[str, Any]) -> None:
    name, model = chronos_model
    together = batch(name)
    alone = Batch(together.query, together.values[2:])
    assert model.forecast(alone, 30.0).quantiles[0] == pytest.approx(
        model.forecast(together, 30.0).quantiles[2], abs=1e-4
    )


def test_chronos_stops_when_the_budget_is_spent(chronos_model: tuple[str, Any]) -> None:
    name, model = chronos_model
    with pytest.raises(TimeoutError, match=name):
        model.forecast(batch(name, rows=40), 0.0)


def test_a_folder_without_a_chronos_model_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("chronos", reason="chronos-forecasting is not installed: extra [chronos]")
    from forecast_service.models.chronos import Chronos

    (tmp_path / "config.json").write_text(json.dumps({"model_type": "t5"}))
    with pytest.raises(WeightsError, match="cannot be loaded"):
        Chronos(known_models()["chronos-bolt-tiny"], tmp_path)


@pytest.fixture
def timesfm_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """TimesFM, with layers as small as its definition allows."""
    pytest.importorskip("torch", reason="PyTorch is not installed: extra [timesfm]")
    inner = pytest.importorskip(
        "timesfm.timesfm_2p5.timesfm_2p5_torch", reason="timesfm is not installed: extra [timesfm]"
    )
    from safetensors.torch import save_file

    from forecast_service.models.timesfm import TimesFM

    module = inner.TimesFM_2p5_200M_torch_module
    monkeypatch.setattr(module, "config", small_timesfm(module.config))
    folder = tmp_path / "timesfm-2.5-200m-pytorch"
    folder.mkdir()
    save_file(module().state_dict(), folder / "model.safetensors")
    card = pinned("timesfm-2.5", tmp_path)
    return TimesFM(card, verified(card, str(tmp_path)))


def small_timesfm(config: Any) -> Any:
    """The definition with 16 dimensions and one layer; patches keep their lengths."""
    layers, change = config.stacked_transformers, dataclasses.replace
    return change(
        config,
        tokenizer=change(config.tokenizer, hidden_dims=16, output_dims=16),
        stacked_transformers=change(
            layers,
            num_layers=1,
            transformer=change(layers.transformer, model_dims=16, hidden_dims=16, num_heads=2),
        ),
        output_projection_point=change(
            config.output_projection_point, input_dims=16, hidden_dims=16
        ),
        output_projection_quantiles=change(
            config.output_projection_quantiles, input_dims=16, hidden_dims=16
        ),
    )


@pytest.mark.parametrize("steps", [1, 12, 200])
def test_timesfm_answers_a_batch_with_gaps(timesfm_model: Any, steps: int) -> None:
    asked = batch("timesfm-2.5", steps=steps)
    raw = timesfm_model.forecast(asked, 30.0)
    assert raw.quantiles.shape == (3, steps, 9)
    scatter(asked, port.answer(timesfm_model, asked, 30.0), "here")


def test_timesfm_stops_when_the_budget_is_spent(timesfm_model: Any) -> None:
    with pytest.raises(TimeoutError, match="timesfm"):
        timesfm_model.forecast(batch("timesfm-2.5"), 0.0)


def test_a_folder_without_timesfm_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("timesfm", reason="timesfm is not installed: extra [timesfm]")
    from forecast_service.models.timesfm import TimesFM

    with pytest.raises(WeightsError, match="cannot be loaded"):
        TimesFM(known_models()["timesfm-2.5"], tmp_path)
