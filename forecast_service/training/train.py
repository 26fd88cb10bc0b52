"""The training loop: fixed seeds, resumable, a running average of the weights as its result."""

from __future__ import annotations

import copy
import json
import logging
import math
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from forecast_service.evaluation.splits import held_out
from forecast_service.training import recorded
from forecast_service.training.layout import EPS, KNOTS, LEVELS
from forecast_service.training.network import Network, Size
from forecast_service.training.samples import (
    RecordedMarkets,
    Samples,
    SimulatedMarkets,
    Source,
    filled,
    mix,
)

_LOG = logging.getLogger("forecast_service.training")
TRAINED_ON = "sports"
"""The one recorded family whose licence allows training."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that the result depends on, besides the data.

    Attributes:
        seed: of all random numbers.
        steps: updates of the weights.
        batch: windows per update.
        recorded_share: of the windows of a batch, in [0, 1]; the rest is simulated.
        rate: largest learning rate; it warms up and falls to a fiftieth along a cosine.
        decay: weight decay.
        quiet_weight: windows are weighted by their scale of moves to minus this power.
        odds_weight: weight of the loss in log-odds beside the loss in prices.
        stock: chunks of simulated markets in memory.
        renew_every: updates after which one chunk is simulated anew.
        size: of the network.
    """

    seed: int = 7
    steps: int = 10_000
    batch: int = 512
    recorded_share: float = 0.35
    rate: float = 1.5e-3
    decay: float = 0.02
    quiet_weight: float = 0.1
    odds_weight: float = 0.002
    stock: int = 10
    renew_every: int = 100
    size: Size = field(default_factory=Size)


def train(recipe: Recipe, data: Path | None, work: Path) -> Network:
    """Trains, or goes on with what ``work`` holds of the same recipe.

    Args:
        recipe: what to do.
        data: folder of recorded data; None trains on simulated markets alone.
        work: folder of the checkpoint.

    Raises:
        ValueError: ``work`` holds a checkpoint of another recipe.
    """
    torch.manual_seed(recipe.seed)
    network = Network(recipe.size)
    average = copy.deepcopy(network)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1.0, weight_decay=recipe.decay)
    done = _resume(work / "checkpoint.pt", recipe, network, average, optimiser)
    rng = np.random.default_rng((recipe.seed, done))
    simulated = SimulatedMarkets(rng, recipe.stock)
    sources: list[tuple[Source, int]] = [(simulated, recipe.batch)]
    if data is not None:
        count = round(recipe.batch * recipe.recorded_share)
        sources = [(simulated, recipe.batch - count), (recorded_source(data), count)]
    began, losses = time.monotonic(), []
    for step in range(done, recipe.steps):
        if step % recipe.renew_every == recipe.renew_every - 1:
            simulated.renew(rng)
        samples = mix(rng, [source.draw(rng, count) for source, count in sources])
        for group in optimiser.param_groups:
            group["lr"] = _rate(recipe, step)
        loss = _loss(network, samples, recipe)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        _average(average, network, min(0.999, (step + 1) / (step + 10)))
        losses.append(loss.item())
        if (step + 1) % 500 == 0 or step + 1 == recipe.steps:
            _save(work / "checkpoint.pt", recipe, step + 1, network, average, optimiser)
            pace = (time.monotonic() - began) / (step + 1 - done)
            _LOG.info("step %d loss %.5f %.3f s/step", step + 1, np.mean(losses), pace)
            losses = []
    average.eval()
    return average


def recorded_source(data: Path) -> RecordedMarkets:
    """The recorded markets that may be trained on: not held out, and before the last fifth."""
    series = recorded.load(data, TRAINED_ON)
    return RecordedMarkets(
        [item for item in series if not held_out(item.event)], recorded.time_split(series)
    )


def _loss(network: Network, samples: Samples, recipe: Recipe) -> Tensor:
    """Mean pinball loss over windows, knots and levels, in prices and a little in log-odds."""
    values, mask = filled(samples.context)
    prices = torch.from_numpy(values)
    to_event = torch.from_numpy(np.nan_to_num(samples.steps_to_event, nan=-1.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        encoded, last, scale = network.encode(
            prices, torch.from_numpy(mask), to_event, torch.from_numpy(samples.step_seconds)
        )
    odds = network.read(encoded.float(), last, scale)
    target = torch.from_numpy(samples.target)
    seen = torch.isfinite(target)
    actual = torch.where(seen, target, 0.5).clamp(EPS, 1.0 - EPS)
    by_knot = torch.tensor(KNOTS, dtype=torch.float32).rsqrt()
    moves = (prices[:, 1:] - prices[:, :-1]).square()
    scale = torch.sqrt(0.5 * moves.mean(1) + 0.5 * moves[:, -36:].mean(1)) + 0.002
    by_window = scale.pow(-recipe.quiet_weight)
    by_window = by_window / by_window.mean()
    weight = seen * (by_knot / by_knot.mean()) * by_window[:, None]
    in_prices = _pinball(torch.sigmoid(odds), actual)
    in_odds = torch.log1p(20.0 * _pinball(odds, torch.logit(actual)))
    return ((100.0 * in_prices + 100.0 * recipe.odds_weight * in_odds) * weight).sum() / seen.sum()


def _pinball(quantiles: Tensor, actual: Tensor) -> Tensor:
    """[B, KNOTS] mean over levels."""
    levels = torch.tensor(LEVELS)
    above = actual[..., None] - quantiles
    return torch.maximum(levels * above, (levels - 1.0) * above).mean(-1)


def _rate(recipe: Recipe, step: int) -> float:
    warm = min(1.0, (step + 1) / 200)
    cosine = 0.5 * (1.0 + math.cos(math.pi * step / recipe.steps))
    return recipe.rate * warm * (0.02 + 0.98 * cosine)


@torch.no_grad()  # type: ignore[untyped-decorator]
def _average(average: Network, network: Network, keep: float) -> None:
    for mean, now in zip(average.parameters(), network.parameters(), strict=True):
        mean.lerp_(now, 1.0 - keep)


def _save(
    path: Path,
    recipe: Recipe,
    step: int,
    network: Network,
    average: Network,
    optimiser: torch.optim.Optimizer,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {
        "recipe": json.dumps(asdict(recipe)),
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimiser": optimiser.state_dict(),
    }
    torch.save(state, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def _resume(
    path: Path,
    recipe: Recipe,
    network: Network,
    average: Network,
    optimiser: torch.optim.Optimizer,
) -> int:
    """Takes over a checkpoint; returns the updates that it has behind it."""
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["recipe"] != json.dumps(asdict(recipe)):
        raise ValueError(f"{path} is of another recipe; move it away to begin anew")
    network.load_state_dict(state["network"])
    average.load_state_dict(state["average"])
    optimiser.load_state_dict(state["optimiser"])
    return int(state["step"])
