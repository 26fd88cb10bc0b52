"""Settings of the evaluation flow: windows, splits, and what a promotion asks for."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class EvaluationSettings(BaseModel):
    """Section ``flows.evaluation``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    reports: str = Field("var/reports/evaluation", description="Folder of the reports.")
    context_steps: int = Field(288, ge=2, le=2048, description="Steps that a model sees.")
    horizon_steps: int = Field(12, ge=1, le=288, description="Steps that are forecast.")
    stride_steps: int = Field(
        29, ge=1, description="Steps from one forecast of a market to the next."
    )
    most_windows: int = Field(
        4000, ge=1, description="Windows of one family at most; of more, so many are drawn."
    )
    time_share: float = Field(
        0.8, gt=0, lt=1, description="Share of prices before which corrections are fitted."
    )
    model_seconds: float = Field(60.0, gt=0, description="Time of a model for 512 windows.")
    min_events: int = Field(
        30, ge=2, description="Events of the scored part below which nothing is promoted."
    )
    coverage_under: float = Field(
        0.03, ge=0, lt=1, description="How far coverage may be below what a band promises."
    )
    coverage_over: float = Field(
        0.15, ge=0, lt=1, description="How far it may be above; still prices are always covered."
    )
    canary_requests: int = Field(
        100, ge=1, description="Series that a gateway must have asked a candidate for."
    )
    canary_probes: int = Field(
        32, ge=1, le=1000, description="Forecasts that the evaluation asks a gateway for."
    )
    canary_p95_ms: float = Field(
        500.0, gt=0, description="Largest 95th percentile of a candidate's latency."
    )
    canary_failure_share: float = Field(
        0.01, ge=0, le=1, description="Largest share of series that it may fail to forecast."
    )
    canary_fallback_share: float = Field(
        0.02, ge=0, le=1, description="Largest share of probes that it may not answer itself."
    )
