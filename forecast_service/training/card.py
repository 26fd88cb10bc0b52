"""The model card: what the model is, what it was trained on, how it does and where it does not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from forecast_service.training.layout import ANCHOR_SHARE, CONTEXT, EPS, KNOTS, LEVELS
from forecast_service.training.network import Network
from forecast_service.training.train import Recipe

_TEXT = """\
# {name}

Quantile bands for the price of a prediction market, up to {horizon} steps ahead, from up to
{context} past prices with missing values and, where it is known, the time to the event.

| | |
|---|---|
| File | `{file}`, {size:,} bytes, `sha256:{digest}` |
| Network | patch transformer, {parameters:,} parameters, matrices in 8 bits |
| Quantile levels | {levels} |
| Steps | {knots}; between them log-odds are interpolated along √step |
| Licence | Apache-2.0, as the project |

## Data
Simulated price processes (`forecast_service/training/processes.py`): probabilities of a diffusing
quantity's end above a strike or inside a band, with stochastic volatility, quiet and busy regimes,
bursts, drift to 0 or 1 near the event; seen through ticks, inertia, overreaction, passing spikes
and missing stretches. And {share:.0%} recorded sports quotes at five minutes: DineshKumar8399,
polymarket-orderbook-dataset, CC BY 4.0; two thirds of its events, the first four fifths of its
quotes. No other recorded family was trained on.

## Recipe
`make train`, on two CPU cores, seeds fixed; it goes on where it was stopped.

```json
{recipe}
```

## Limits
- Prices beyond {eps} and 1 - {eps} are clipped; levels beyond the outermost repeat it.
- It sees one market at a time: neither siblings of the event, nor volume, nor news.
- Raw bands promise nothing; conformal correction on recent outcomes is what makes them cover.
- At cadences other than five minutes its log-odds are mixed with those of the random walk, which
  has a share of {anchor}; the share was chosen once, with the hourly families of the table in view.
- It is told the length of a step and was trained on simulated series of a minute, 5 and 15 minutes,
  an hour and a day; recorded series of other cadences than five minutes it has never seen.

## Evaluation
Context 288, horizon 12, mean pinball at .1/.5/.9 without width limits, intervals (95 %) by
resampling events. "Ratio" is to the best of all classical methods of that family.

{table}
Coverage of the raw 80 % band by steps (ties count as inside):

{coverage}"""


def card(weights: Path, recipe: Recipe, network: Network, table: dict[str, Any]) -> str:
    """The card of ``weights`` as Markdown."""
    return _TEXT.format(
        name=weights.stem,
        file=weights.name,
        size=weights.stat().st_size,
        digest=hashlib.sha256(weights.read_bytes()).hexdigest(),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        levels=", ".join(f"{level:g}" for level in LEVELS),
        knots=", ".join(map(str, KNOTS)),
        horizon=KNOTS[-1],
        context=CONTEXT,
        eps=EPS,
        anchor=ANCHOR_SHARE,
        share=recipe.recorded_share,
        recipe=json.dumps(asdict(recipe), indent=1),
        table=_ratios(table),
        coverage=_coverage(table),
    )


def _ratios(table: dict[str, Any]) -> str:
    lines = [
        "| family | windows | events | best classical | native | ratio | ratio, event known "
        "| median's error ÷ last value's |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for family, row in table.items():
        best = row["best_classical"]
        known = row["native, event known"]["ratio_to_best"]
        lines.append(
            f"| {family} | {row['windows']:,} | {row['events']} "
            f"| {best} {row['pinball'][best]:.5f} | {row['pinball']['native']:.5f} "
            f"| {_figure(row['native']['ratio_to_best'])} | {_figure(known)} "
            f"| {_figure(row['native']['median_error_to_last_value'])} |"
        )
    return "\n".join(lines) + "\n"


def _coverage(table: dict[str, Any]) -> str:
    lines = ["| family | 1-4 | 5-8 | 9-12 |", "|---|---|---|---|"]
    for family, row in table.items():
        thirds = " | ".join(_figure(third) for third in row["native"]["coverage_80_raw"].values())
        lines.append(f"| {family} | {thirds} |")
    return "\n".join(lines) + "\n"


def _figure(figure: dict[str, float]) -> str:
    return f"{figure['value']:.3f} ({figure['low']:.3f}–{figure['high']:.3f})"
