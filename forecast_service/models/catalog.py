"""The models that can be asked for."""

from __future__ import annotations

from dataclasses import dataclass

from forecast_service.baselines.registry import BASELINES
from forecast_service.series import DEFAULT_CONTEXT

MAX_HORIZON = 2016


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What callers may know of a model.

    Attributes:
        name: what a request calls it.
        version: its version.
        family: "baseline" and the like.
        description: one sentence.
        runtime: what runs it.
        max_context: longest context in steps.
        max_horizon: longest native horizon in steps.
        licence_tag: "open" or "research_only".
    """

    name: str
    version: str
    family: str
    description: str
    runtime: str
    max_context: int
    max_horizon: int
    licence_tag: str


CATALOG: dict[str, ModelCard] = {
    name: ModelCard(
        name=name,
        version="1",
        family="baseline",
        description=baseline.summary,
        runtime="numpy",
        max_context=DEFAULT_CONTEXT,
        max_horizon=MAX_HORIZON,
        licence_tag="open",
    )
    for name, baseline in sorted(BASELINES.items())
}
"""Models by name, in the order in which they are listed."""
