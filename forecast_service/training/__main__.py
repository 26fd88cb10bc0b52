"""``python -m forecast_service.training``: from nothing to the weights that are served.

Trains (or goes on), exports, puts the matrices in eight bits, evaluates on recorded markets where
they are there, and writes the model card beside the weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
from pathlib import Path

import numpy as np
import torch

from forecast_service.models.native import Native
from forecast_service.training.card import card
from forecast_service.training.evaluate import evaluate
from forecast_service.training.export import export, quantise
from forecast_service.training.samples import SimulatedMarkets, mix
from forecast_service.training.train import Recipe, recorded_source, train

CALIBRATION_WINDOWS = 2048
_LOG = logging.getLogger("forecast_service.training")


def main() -> None:
    """Runs all stages; each reads what the one before has written."""
    arguments = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    torch.set_num_threads(arguments.threads)
    recipe = dataclasses.replace(Recipe(), steps=arguments.steps)
    data: Path | None = arguments.data if arguments.data and arguments.data.is_dir() else None
    _LOG.info("recorded markets: %s", data or "none, simulated ones alone")
    network = train(recipe, data, arguments.work)
    exact, weights = (
        arguments.work / "exact.onnx",
        arguments.out / f"native-{arguments.version}.onnx",
    )
    export(network, exact)
    rng = np.random.default_rng(recipe.seed)
    drawn = [SimulatedMarkets(rng, 1).draw(rng, CALIBRATION_WINDOWS)]
    if data is not None:
        drawn.append(recorded_source(data).draw(rng, CALIBRATION_WINDOWS))
    quantise(exact, weights, mix(rng, drawn), arguments.version, [300] if data else [])
    table = evaluate(Native(weights), data) if data is not None else {}
    (arguments.work / "evaluation.json").write_text(json.dumps(table, indent=1))
    weights.with_suffix(".md").write_text(card(weights, recipe, network, table))
    _LOG.info("%s, %d bytes", weights, weights.stat().st_size)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m forecast_service.training", description=__doc__
    )
    parser.add_argument("--data", type=Path, help="folder of recorded markets")
    parser.add_argument("--work", type=Path, default=Path("var/training"))
    parser.add_argument("--out", type=Path, default=Path("forecast_service/models/weights"))
    parser.add_argument("--version", default="1")
    parser.add_argument("--steps", type=int, default=Recipe().steps)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
