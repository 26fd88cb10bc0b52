"""The native network: a patch transformer over log-odds that answers with monotone quantiles.

Context patches (coarse over the whole context, fine over its end) and one summary token of
multi-scale statistics go through a small encoder; the summary token alone is read out, so the last
layer is computed for it only. It gives, at each of `KNOTS` steps, a median and positive gaps around
it in units of a scale that the network itself chooses: quantiles cannot cross. Steps between knots
are interpolated by whoever asks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import special
from torch import Tensor, nn
from torch.nn import functional

from forecast_service.training.layout import CONTEXT, EPS, KNOTS, LEVELS

PATCH, FINE, FINE_STEPS = 32, 8, 32
WINDOWS = (4, 12, 36, 144, CONTEXT)
MEDIAN = LEVELS.index(0.5)


@dataclass(frozen=True, slots=True)
class Size:
    """Size of the network."""

    width: int = 128
    heads: int = 4
    layers: int = 3
    feed_forward: int = 256


class Block(nn.Module):  # type: ignore[misc]
    """A pre-norm encoder layer whose queries may be fewer than its tokens."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.heads = size.heads
        self.before = nn.LayerNorm(size.width)
        self.query = nn.Linear(size.width, size.width)
        self.key_value = nn.Linear(size.width, 2 * size.width)
        self.out = nn.Linear(size.width, size.width)
        self.between = nn.LayerNorm(size.width)
        self.widen = nn.Linear(size.width, size.feed_forward)
        self.narrow = nn.Linear(size.feed_forward, size.width)

    def forward(self, tokens: Tensor, asking: int) -> Tensor:
        """[B, N, D] → [B, asking, D]: the first ``asking`` tokens ask all."""
        batch, _, width = tokens.shape
        head = width // self.heads
        normed = self.before(tokens)
        query = _each(self.query, normed[:, :asking]).reshape(batch, asking, self.heads, head)
        key, value = _each(self.key_value, normed).reshape(batch, -1, 2, self.heads, head).unbind(2)
        scores = torch.matmul(query.transpose(1, 2), key.permute(0, 2, 3, 1)) / math.sqrt(head)
        mixed = torch.matmul(scores.softmax(-1), value.transpose(1, 2)).transpose(1, 2)
        kept = tokens[:, :asking] + _each(self.out, mixed.reshape(batch, asking, width))
        widened = functional.relu(_each(self.widen, self.between(kept)))
        return kept + _each(self.narrow, widened)


class Network(nn.Module):  # type: ignore[misc]
    """Context in, quantiles in log-odds at the knots out."""

    def __init__(self, size: Size | None = None) -> None:
        super().__init__()
        size = size or Size()
        self.size = size
        coarse, fine = CONTEXT // PATCH, FINE_STEPS // FINE
        self.embed_coarse = nn.Linear(3 * PATCH, size.width)
        self.embed_fine = nn.Linear(3 * FINE, size.width)
        self.place = nn.Parameter(torch.randn(coarse + fine, size.width) * 0.02)
        self.embed_summary = nn.Sequential(
            nn.Linear(_summary_size(), size.width), nn.ReLU(), nn.Linear(size.width, size.width)
        )
        self.blocks = nn.ModuleList(Block(size) for _ in range(size.layers))
        self.last_norm = nn.LayerNorm(size.width)
        self.readout = nn.Sequential(
            nn.Linear(size.width, 2 * size.width),
            nn.ReLU(),
            nn.Linear(2 * size.width, len(KNOTS) * (len(LEVELS) + 1)),
        )
        scores = torch.tensor(special.ndtri(LEVELS), dtype=torch.float32)
        self.register_buffer("gap_bias", torch.log(torch.expm1(scores.diff())))
        self.register_buffer("root", torch.tensor(KNOTS, dtype=torch.float32).sqrt()[:, None])

    def forward(
        self, values: Tensor, mask: Tensor, steps_to_event: Tensor, step_seconds: Tensor
    ) -> Tensor:
        """Quantiles in log-odds.

        Args:
            values: [B, CONTEXT] probabilities, missing places filled with the value before them
                (the first observation where there is none).
            mask: [B, CONTEXT] 1 where a value was observed, else 0.
            steps_to_event: [B] steps from the last value to the event, -1 when unknown.
            step_seconds: [B] length of a step.

        Returns:
            [B, KNOTS, LEVELS], increasing along the last axis.
        """
        encoded, last, scale = self.encode(values, mask, steps_to_event, step_seconds)
        return self.read(encoded, last, scale)

    def encode(
        self, values: Tensor, mask: Tensor, steps_to_event: Tensor, step_seconds: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """[B, D] what the summary token has gathered; last log-odds and scale, [B, 1] each."""
        clipped = values.clamp(EPS, 1.0 - EPS)
        odds = torch.log(clipped) - torch.log1p(-clipped)
        moves = functional.pad(odds[:, 1:] - odds[:, :-1], (1, 0))
        last = odds[:, -1:]
        summary, scale = _summary(clipped, odds, moves, mask, steps_to_event)
        summary = torch.cat([summary, torch.log(step_seconds / 300.0)[:, None] / 3.0], dim=1)
        channels = torch.stack(
            [_asinh((odds - last) / (4.0 * scale)), _asinh(moves / scale), mask], dim=1
        )
        tokens = torch.cat(
            [
                self.embed_summary(summary)[:, None],
                torch.cat(
                    [
                        _each(self.embed_fine, _patches(channels[:, :, -FINE_STEPS:], FINE)),
                        _each(self.embed_coarse, _patches(channels, PATCH)),
                    ],
                    dim=1,
                )
                + self.place,
            ],
            dim=1,
        )
        for block in self.blocks[:-1]:
            tokens = block(tokens, tokens.shape[1])
        return self.last_norm(self.blocks[-1](tokens, 1)[:, 0]), last, scale

    def read(self, encoded: Tensor, last: Tensor, scale: Tensor) -> Tensor:
        """[B, KNOTS, LEVELS] quantiles in log-odds."""
        read = self.readout(encoded).reshape(-1, len(KNOTS), len(LEVELS) + 1)
        own = scale[:, None] * self.root * torch.exp(read[:, :, -1:].clamp(-7.0, 4.0))
        gaps = functional.softplus(read[:, :, : len(LEVELS) - 1] + self.gap_bias)
        median = read[:, :, len(LEVELS) - 1 : len(LEVELS)]
        below = gaps[:, :, :MEDIAN].flip(2).cumsum(2).flip(2)
        above = gaps[:, :, MEDIAN:].cumsum(2)
        return last[:, None] + own * torch.cat([median - below, median, median + above], dim=2)


def _each(layer: nn.Linear, tokens: Tensor) -> Tensor:
    """``layer`` on each token of [B, N, D], as one flat product: 8-bit kernels add its bias."""
    flat = layer(tokens.reshape(-1, layer.in_features))
    return flat.reshape(tokens.shape[0], tokens.shape[1], layer.out_features)


def _asinh(values: Tensor) -> Tensor:
    """The inverse hyperbolic sine, from operations that a server runs fast."""
    size = values.abs()
    return values.sign() * torch.log(size + torch.sqrt(size.square() + 1.0))


def _patches(channels: Tensor, size: int) -> Tensor:
    """[B, C, T] → [B, T / size, C * size]."""
    batch, count, length = channels.shape
    cut = channels.reshape(batch, count, length // size, size)
    return cut.permute(0, 2, 1, 3).reshape(batch, length // size, count * size)


def _summary_size() -> int:
    return 7 + 4 * len(WINDOWS)


def _summary(
    values: Tensor, odds: Tensor, moves: Tensor, mask: Tensor, steps_to_event: Tensor
) -> tuple[Tensor, Tensor]:
    """Statistics at several scales [B, S], and the scale [B, 1] of a one-step move in log-odds."""
    squares, jumps = moves.square(), functional.pad(values[:, 1:] - values[:, :-1], (1, 0)).abs()
    still = (jumps < 1e-6).float()
    features, variances = [], []
    for window in WINDOWS:
        seen = mask[:, -window:]
        count = seen.sum(1) + 1.0
        variance = (squares[:, -window:] * seen).sum(1) / count
        variances.append(variance)
        features += [
            torch.log(variance + 1e-6) / 4.0,
            torch.log((jumps[:, -window:] * seen).sum(1) / count + 1e-4) / 3.0,
            (still[:, -window:] * seen).sum(1) / count,
            seen.mean(1),
        ]
    scale = torch.sqrt(0.5 * variances[2] + 0.5 * variances[4] + 9e-6)[:, None]
    known = (steps_to_event >= 0).float()
    event = torch.log1p(steps_to_event.clamp(min=0.0)) * known / 5.0
    last = odds[:, -1]
    spread = (odds.amax(1) - odds.amin(1)) / 4.0
    rest = [last / 4.0, last.abs() / 4.0, torch.log(scale[:, 0]) / 3.0, known, event, spread]
    return torch.stack(features + rest, dim=1), scale
