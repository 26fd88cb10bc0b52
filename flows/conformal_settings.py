"""Settings of the conformal pipeline."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ConformalSettings(BaseModel):
    """Section ``flows.conformal``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...] = Field(
        (),
        description="Models whose bands are corrected. Empty: the default model and the fallback.",
    )
    days: int = Field(14, ge=1, le=90, description="Length of the rolling window.")
    every_steps: int = Field(
        41, ge=1, description="Steps between two forecasts that are made afterwards for a market."
    )
    max_steps: int = Field(288, ge=1, le=2016, description="Longest step that is corrected.")
    min_samples: int = Field(
        100, ge=20, description="Fewest independent windows behind a correction."
    )
    min_events: int = Field(30, ge=10, description="Fewest events behind a correction.")
    with_requests: bool = Field(
        False,
        description="Whether bands that callers asked for count beside those made afterwards. "
        "Callers send the prices that they rest on.",
    )
    max_price_gap: float = Field(
        0.05,
        ge=0,
        description="A caller's band counts if its last price is this near to the recorded one.",
    )
    keep_versions: int = Field(10, ge=1, description="States that stay in the lake.")
    adaptive: bool = Field(
        False, description="Whether the share of misses aimed at follows the misses (ACI)."
    )
    gamma: float = Field(
        0.0005, gt=0, le=0.5, description="Step of that share at each outcome of a segment."
    )
